"""The evaluation's page: one self-contained HTML file with a table of scores and, per clip, what was seen and
heard.

Everything is inline (PNG, SVG, mp4), so the file can be mailed and opened without a network.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.data.media_write import write_video
from shared.evaluation.html import Markup, data_uri, render
from shared.evaluation.scores import MEANING
from shared.puppets.readers import Heard, Seen
from shared.utils.files import write_atomically

Array = NDArray[np.float64]

WIDTH, STRIP_FRAMES, COLUMNS = 960, 12, 480
WAVE_HEIGHT, SPECTROGRAM_HEIGHT, CURVE_HEIGHT, GAP, AXIS_HEIGHT = 64, 96, 80, 6, 22
RANGE_DB = 70.0
SHADES = np.array([[0, 16, 16, 30], [0.35, 84, 35, 110], [0.65, 222, 96, 60], [1, 252, 245, 190]])
"""Of the spectrogram: level 0..1, red, green, blue."""
TASKS = {
    "t2av": ("text to video and sound", "Both are made from the caption."),
    "a2v": ("sound to video", "The sound is given and the video made for it."),
    "v2a": ("video to sound", "The video is given and the sound made for it."),
    "mtv": ("tracks to video", "Speech, effects and music are given, and the video made for them."),
    "mtv:speech swapped": ("other speech", "Mouths must follow the new speech; the rest stays."),
    "mtv:effects swapped": ("other effects", "Events must follow the new effects; the rest stays."),
    "mtv:mood untold": ("no words about light", "The music alone tells the mood."),
    "mtv:music swapped": ("other music, no words about light", "The light must follow the new music; the rest stays."),
    "mtv:silent speech": ("silent speech", "The speech is zeros and no word says who speaks: mouths must stay shut."),
    "mtv:speaker untold": ("no words about who speaks", "Of two people, the tracks alone tell who speaks."),
    "mtv:dsp": ("demixed tracks", "The tracks are what the demixer dsp finds in the mix."),
}


@dataclass(frozen=True)
class Panel:
    """One clip of one task as the page shows it: frames uint8 [T, H, W, 3], sound float32 [N], and their
    readings."""

    task: str
    frames: NDArray[np.uint8]
    fps: float
    sound: NDArray[np.float32]
    rate: int
    seen: Seen
    heard: Heard

    @property
    def duration(self) -> float:
        return len(self.frames) / self.fps


@dataclass(frozen=True)
class Entry:
    """One clip of the page: its name, its captions for eye and ear, and a panel per task."""

    id: str
    caption: str
    audio_caption: str
    panels: Sequence[Panel]


def write_report(path: Path, metrics: Mapping[str, Any], entries: Iterable[Entry]) -> None:
    """Write the page; `metrics` is what `metrics.json` holds. The file appears when it is complete."""
    config = metrics["config"]
    page = render(
        "evaluation.html.j2",
        title=f"{config['checkpoint']} on {config['suite']} {config['level']}",
        facts=_facts(config),
        no_context=config["no_context"],
        tasks=[_task(task, result) for task, result in metrics["tasks"].items()],
        clips=[vars(entry) | {"panels": [_panel(panel) for panel in entry.panels]} for entry in entries],
    )
    write_atomically(path, page)


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the clips were sampled, by name."""
    facts = {
        "clips": config["clips"], "held-out seed": config["held_out_seed"], "sampling seed": config["seed"],
        "steps": config["steps"],
    }  # fmt: skip
    if scales := config.get("guidance"):
        counts = f"text {_pair(scales['text_scale'])}, context {_pair(scales['context_scale'])}"
        facts["guidance"] = f"{scales['form']}, {counts}"
    if scales := config.get("track_guidance"):
        names = ("text", "speech", "effects", "music")
        facts["guidance of mtv"] = ", ".join(f"{name} {scales[name]:g}" for name in names)
    return facts


def _task(task: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's table of scores, and what changed from its base: the same clips with the same noise."""
    name, what = TASKS[task]
    lag = result["lag_ms"]
    parts = ", ".join(f"{part} {_number(lag[part], 0)}" for part in lag if part != "all")
    lags = f"Events are seen {_number(lag['all'], 0)} ms after they are heard, on average ({parts})."
    scores = [_score(key, score, result) for key, score in result["scores"].items() if score["clips"]]
    paired = result.get("paired", {"base": None, "scores": {}})
    changes = [
        {"name": key.replace("_", " "), "difference": f"{value['difference']:+.3f}"}
        | {"interval": "[{:+.3f}, {:+.3f}]".format(*value["interval"])}
        for key, value in paired["scores"].items()
    ]
    told = {"task": task, "name": name, "what": what, "lags": lags, "scores": scores}
    return told | {"base": paired["base"], "changes": changes}


def _score(key: str, score: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Row of the table of scores."""
    meaning, interval = MEANING[key], score["headline_interval"]
    if key == "event_f1" and result["fixed_times_f1"] is not None:
        meaning += f" (fixed times: {result['fixed_times_f1']:.2f})"
    return {
        "name": key.replace("_", " "),
        "meaning": meaning,
        "numbers": [_number(score[name]) for name in ("value", "ceiling", "floor")],
        "headline": _number(score["headline"]),
        "interval": "[{:.2f}, {:.2f}]".format(*interval) if interval else "",
        "percent": f"{100 * min(1, max(0, score['headline'] or 0)):.0f}",
        "clips": score["clips"],
    }


def _panel(panel: Panel) -> dict[str, str]:
    """Clip to play, and its chart."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_video(file, panel.frames, panel.fps, panel.sound[None], panel.rate)
        video = data_uri("video/mp4", file.read_bytes())
    return {"task": panel.task, "video": video, "chart": Markup(_chart(panel))}


def _chart(panel: Panel) -> str:
    """Strip, waveform, spectrogram and curves on one time axis, as SVG."""
    strip = _strip(panel.frames)
    strip_height = WIDTH * strip.shape[0] / strip.shape[1]
    wave_top = strip_height + GAP
    spectrogram_top = wave_top + WAVE_HEIGHT + GAP
    curve_top = spectrogram_top + SPECTROGRAM_HEIGHT + GAP
    bottom = curve_top + CURVE_HEIGHT
    parts = [
        _picture(Image.fromarray(strip), 0, strip_height, "image-rendering:pixelated"),
        _wave(panel.sound, wave_top),
        _picture(_spectrogram(panel.sound, panel.rate), spectrogram_top, SPECTROGRAM_HEIGHT),
        *_curves(panel, curve_top),
        *(_onset(t / panel.duration, "seen", strip_height, bottom) for t in panel.seen.onsets),
        *(_onset(t / panel.duration, "heard", strip_height, bottom) for t in panel.heard.onsets),
        _axis(panel.duration, bottom),
    ]
    return f"<svg viewBox='0 0 {WIDTH} {bottom + AXIS_HEIGHT:.0f}' role=img>{''.join(parts)}</svg>"


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """STRIP_FRAMES frames side by side, each from the middle of its share of the clip."""
    at = ((np.arange(STRIP_FRAMES) + 0.5) / STRIP_FRAMES * len(frames)).astype(int)
    return np.concatenate(list(frames[at]), axis=1)


def _wave(sound: NDArray[np.float32], top: float) -> str:
    pieces = np.array_split(sound, min(COLUMNS, len(sound)))
    middle, half = top + WAVE_HEIGHT / 2, WAVE_HEIGHT / 2
    x = np.linspace(0, WIDTH, len(pieces))
    upper = [f"{a:.1f},{middle - half * float(p.max()):.1f}" for a, p in zip(x, pieces, strict=True)]
    lower = [f"{a:.1f},{middle - half * float(p.min()):.1f}" for a, p in zip(x, pieces, strict=True)]
    return f"<polygon class=wave points='{' '.join(upper + lower[::-1])}'/>"


def _spectrogram(sound: NDArray[np.float32], rate: int) -> Image.Image:
    """RANGE_DB below the loudest bin, low frequencies at the bottom, one column per COLUMNS-th of the
    clip."""
    size = round(0.032 * rate)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, size // 2), size)
    at = np.linspace(0, len(frames) - 1, COLUMNS).astype(int)
    power = np.square(np.abs(np.fft.rfft(frames[at] * np.hanning(size)))).T[::-1]
    level = 1 + 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12)) / RANGE_DB
    image = Image.fromarray((127 * np.clip(level, 0, 1)).astype(np.uint8), "L").convert("P")
    shades = [np.interp(np.arange(128) / 127, SHADES[:, 0], SHADES[:, channel]) for channel in (1, 2, 3)]
    image.putpalette(np.stack(shades, 1).astype(np.uint8).tobytes())
    return image


def _picture(image: Image.Image, top: float, height: float, style: str = "") -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return (
        f"<image x=0 y={top:.1f} width={WIDTH} height={height:.1f} preserveAspectRatio=none style='{style}' "
        f"href='{data_uri('image/png', file.getvalue())}'/>"
    )


def _curves(panel: Panel, top: float) -> Iterable[str]:
    times = np.arange(len(panel.frames)) / panel.fps
    yield _curve(times, panel.heard.loudness_at(times), panel.duration, top, "heard")
    for mouth in panel.seen.mouths:
        yield _curve(times, mouth - mouth.min(), panel.duration, top, "seen")


def _curve(times: Array, values: Array, duration: float, top: float, name: str) -> str:
    scaled = values / max(float(values.max()), 1e-3 if name == "heard" else 0.1)
    x, y = WIDTH * times / duration, top + CURVE_HEIGHT * (1 - 0.95 * np.clip(scaled, 0, 1))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f"<polyline class='curve {name}' points='{points}'/>"


def _onset(at: float, name: str, top: float, bottom: float) -> str:
    x, y = WIDTH * at, top + GAP if name == "seen" else top + GAP + WAVE_HEIGHT
    tip = 9 if name == "seen" else -9
    return (
        f"<path class='mark {name}' d='M{x:.1f} {top:.1f}V{bottom:.1f}'/>"
        f"<path class='tip {name}' d='M{x:.1f} {y - tip:.1f}l6 {tip}h-12z'/>"
    )


def _axis(duration: float, top: float) -> str:
    step = next((s for s in (0.25, 0.5, 1, 2, 5, 10) if duration / s <= 10), 30)
    ticks = np.arange(0, duration + 1e-6, step)
    return "".join(
        f"<text x={WIDTH * t / duration:.1f} y={top + 15:.1f} class=tick "
        f"text-anchor={'start' if t == 0 else 'end' if t > duration - step / 2 else 'middle'}>{t:g} s</text>"
        for t in ticks
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def _pair(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if values[0] == values[1] else f"{values[0]:g} (video), {values[1]:g} (sound)"
