"""The evaluation's page, to be opened without a network: scores, and what was read per clip; and what is printed."""

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.media_write import write_video
from shared.evaluation.figures import ClipFigure
from shared.evaluation.held_out import MeasuredClip
from shared.evaluation.html import data_uri, render
from shared.evaluation.measures import LEAST_CLIPS, MEASURES, shown
from shared.evaluation.scores import MEANING
from shared.utils.files import write_atomically

PICTURES, DPI = 12, 90
"""Frames of a clip's picture, and its pixels per inch."""
TASKS = {
    "t2av": ("text to video and sound", "Both are made from the caption."),
    "a2v": ("sound to video", "The sound is given and the video made for it."),
    "v2a": ("video to sound", "The video is given and the sound made for it."),
    "t2v": ("text to video", "The video alone is made from the caption; the sound is the true clip's and not scored."),
    "t2a": ("text to sound", "The sound alone is made from the caption; the video is the true clip's and not scored."),
    "i2av": ("image to video and sound", "Both are made from the caption and the first frame."),
    "i2v": ("image to video", "The video alone is made from the caption and the first frame; the sound is not scored."),
    "part": ("speech to video and sound", "The speech is given; the mix and the video are made for it."),
    "part:given": ("the same against the given speech", "The video that was made, against the true sound, as in a2v."),
    "retake": ("the middle made again", "Both streams are given but for the middle third, which is made anew."),
    "shots": ("prompts over time", "Both are made from the captions of two shots; each shot is measured by itself."),
    "mtv": ("tracks to video", "Speech, effects and music are given, and the video made for them."),
    "mtv:speech swapped": ("other speech", "Mouths must follow the new speech; the rest stays."),
    "mtv:effects swapped": ("other effects", "Events must follow the new effects; the rest stays."),
    "mtv:mood unmentioned": ("no words about light", "The music alone tells the mood."),
    "mtv:music swapped": ("other music, no words about light", "The light must follow the new music; the rest stays."),
    "mtv:silent speech": ("silent speech", "The speech is zeros and no word says who speaks: mouths must stay shut."),
    "mtv:speaker unmentioned": ("no words about who speaks", "Of two people, the tracks alone tell who speaks."),
    "mtv:text changed": ("other looks in the text", "Looks must follow the text, mouths and events the tracks."),
    "mtv:dsp": ("demixed tracks", "The tracks are what the demixer dsp finds in the mix."),
}

CUT_MEANING = {
    "validity_cut": "validity of the frames within a quarter of a second of the cut; its ceiling is that of true clips "
    "there, and its floor another shot's drawing",
    "validity_elsewhere": "the same of all other frames",
}


def write_report(
    path: Path, metrics: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], apply: Callable[..., Any] = map
) -> None:
    """Write the page; the file appears when it is complete. `metrics` is what `metrics.json` holds, each of `entries`
    the "id" of a clip, its "caption" and "audio_caption", and as "clips" the `MeasuredClip` of each task. `apply` is
    `map`, or one that works in several processes."""
    config = metrics["config"]
    title = f"{config['checkpoint']} on {config['suite']} {config['level']}"
    tasks = {task: (*TASKS[task], result) for task, result in metrics["tasks"].items()}
    measures = {task: shown(result["measures"]) for task, result in metrics["tasks"].items() if "measures" in result}
    entries = [*entries]
    panels = iter(apply(_panel, [panel for entry in entries for panel in entry["clips"].items()]))
    clips = [{**entry, "panels": [next(panels) for _ in entry["clips"]]} for entry in entries]
    page = render(
        "evaluation.html.j2", title=title, config=config, tasks=tasks, meaning=MEANING, clips=clips, measures=measures,
        measure=MEASURES, least=LEAST_CLIPS, cut_meaning=CUT_MEANING,
    )  # fmt: skip
    write_atomically(path, page)


def _panel(task_and_clip: tuple[str, MeasuredClip]) -> dict[str, str]:
    """Clip to play, and a picture of it with mouths, loudness of speech and the onsets of both streams."""
    task, clip = task_and_clip
    count, fps = len(clip.frames), clip.video.fps
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_video(file, clip.frames, fps, clip.sound[None], clip.rate)
        video = data_uri("video/mp4", file.read_bytes())
    times = np.arange(count) / fps
    loudness = clip.audio.loudness_at(times)
    curves = [("audio", times, loudness / max(float(loudness.max()), 1e-3))]
    for mouth in clip.video.mouths:
        opening = mouth - mouth.min()
        curves.append(("video", times, opening / max(float(opening.max()), 0.1)))
    pictures = clip.frames[np.arange(PICTURES) * count // PICTURES]
    onsets = {"video": clip.video.onsets, "audio": clip.audio.onsets}
    figure = ClipFigure(count / fps, pictures, clip.sound, clip.rate, curves, onsets)
    return {"task": task, "video": video, "figure": data_uri("image/png", figure.png(DPI))}


def summary(metrics: Mapping[str, Any]) -> str:
    """Headlines as a small table; below it, paired differences."""
    lines = [f"{'':20s}{'score':>8s}{'ceiling':>9s}{'floor':>8s}{'headline':>10s}"]
    for task, result in metrics["tasks"].items():
        each = f", {result['evaluations']:g} evaluations of the model each" if result.get("evaluations") else ""
        lines.append(f"{task} ({result['clips']} {'shots' if task == 'shots' else 'clips'}{each})")
        lines += [_line(name, values) for name, values in result["scores"].items() if values["clips"]]
        if "measures" in result:
            lines += _measures(result["measures"])
        if "cut" in result:
            lines += _cut(result["cut"])
        if "paired" in result:
            lines += [f"  minus {result['paired']['base']}, clip by clip:", *_differences(result["paired"]["scores"])]
    if "against" in metrics:
        lines.append(f"minus {metrics['against']['file']}, clip by clip:")
        for task, scores in metrics["against"]["tasks"].items():
            measured = metrics["against"].get("measures", {}).get(task, {})
            lines += [task, *_differences(scores), *_differences(measured)]
    return "\n".join(lines)


def _line(name: str, values: Mapping[str, Any]) -> str:
    cells = (math.nan if values[key] is None else values[key] for key in ("value", "ceiling", "floor", "headline"))
    line = "  {:18s}{:8.3f}{:9.3f}{:8.3f}{:10.3f}".format(name.replace("_", " "), *cells)
    return line + (f"  {values['of_true']:.2f} of the true clips'" if values.get("of_true") is not None else "")


def _measures(measures: Mapping[str, Any]) -> list[str]:
    """Lines of the measures that are shown, and the names of the others."""
    found = shown(measures)
    lines = ["  measures, floor from the model's own clips:", *(_line(*named) for named in found.items())]
    if few := [name.replace("_", " ") for name in measures["scores"] if name not in found]:
        lines.append(f"  not shown, of fewer than {LEAST_CLIPS} clips: {', '.join(few)}")
    return lines


def _cut(cut: Mapping[str, Any]) -> list[str]:
    """Lines of what was measured around a cut, or the seams of what is given, and elsewhere."""
    lines = ["  around the seam:", *(_line(*named) for named in cut["scores"].items())]
    if (ratio := cut["ratio"])["value"] is not None:
        lines.append(
            "  headlines, seam over elsewhere: {:.3f} [{:.3f}, {:.3f}]".format(ratio["value"], *ratio["interval"])
        )
    return lines


def _differences(scores: Mapping[str, Any]) -> list[str]:
    """Line per score: the difference, its interval, and the clips that count in both."""
    line = "  {:18s}{:+8.3f}  [{:+.3f}, {:+.3f}]  {} clips"
    return [
        line.format(name.replace("_", " "), values["difference"], *values["interval"], values["clips"])
        for name, values in scores.items()
    ]
