"""Tables of a checkpoint's scores in the documentation, from the files that evaluate.py wrote beside it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.evaluation.options import VARIANT_NAMES
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.markdown import markdown_table

FULL = ("event_f1", "mouth_correlation", "speaker", "colour", "mood_video", "mood_audio")
SYNC = ("event_f1", "mouth_correlation")
TRACKS = ("event_f1", "mouth_correlation", "colour", "mood_video", "count_video")
VARIANTS = {
    "mtv:speech swapped": SYNC, "mtv:effects swapped": SYNC, "mtv:mood unmentioned": ("mood_followed", *SYNC),
    "mtv:music swapped": ("mood_followed", *SYNC), "mtv:silent speech": ("mouth_opening", "face_visible", "event_f1"),
    "mtv:speaker unmentioned": ("speaker", *SYNC), "mtv:dsp": (*SYNC, "mood_video"),
    "mtv:text changed": ("colour", *SYNC),
}  # fmt: skip
"""The scores shown of each variant of mtv."""
CURVE = [("t2av", name) for name in (*SYNC, "colour")] + [(task, name) for task in ("a2v", "v2a") for name in SYNC]
HIDDEN = (
    ("event_f1", "events", "events that are told and missing, and those that nobody told"),
    ("event_f1", "count", "both streams right"),
    ("colour", "validity", "a picture of which the painter could have made something"),
    ("object_colour", "blockiness_objects", "borders of the codec's cells, 1 in the drawing"),
    ("object_size", "sharpness_objects", "whether what is smooth is blurred"),
    ("speaker", "speaker", "counts on every clip with people"),
)
"""Older scores, and the measure that says what they do not."""
HIDDEN_IN = ("t2av", "t2v", "mtv")
COLUMNS = ("value", "floor", "ceiling", "headline")
STORIES = {
    "metrics_full.json": "two people, several objects, silent distractors, moving\ncamera, sounds from offscreen, "
    "clips of 2 to 8 s, of which training saw those of 2 s:",
    "metrics_no_context.json": "no stream reads the other,\nand sync is at the floor or below it:",
}


def results(folder: Path) -> str:
    """Joint tasks and mtv: what each file says, under the command that made it."""
    simple, tracks = read_json(folder / "metrics.json"), read_json(folder / "metrics_mtv.json")
    guess = simple["tasks"]["t2av"]["fixed_times_f1"]
    parts = [
        f"`{command(simple)}`,\n"
        "in [metrics.json](../assets/puppets/metrics.json). The headline is (value - floor) / (ceiling - floor): 1 is\n"
        "the true clip through the codecs, 0 another clip's sound. The best fixed times would give an event F1 of "
        f"{guess:.2f}.\n",
        _scores(simple["tasks"]),
        f"`{command(tracks)}`\n([metrics_mtv.json](../assets/puppets/metrics_mtv.json)), speech, effects and music "
        "drive the video.\nWith tracks swapped, silent or taken from a mix: [mtv.md](mtv.md#results).\n",
        _scores({"mtv": tracks["tasks"]["mtv"]}, TRACKS),
    ]
    for name, story in STORIES.items():
        metrics = read_json(folder / name)
        parts += [f"`{command(metrics)}`\n([{name}](../assets/puppets/{name})), {story}\n"]
        parts += [_scores(metrics["tasks"], SYNC if metrics["config"]["no_context"] else FULL)]
    return "\n".join(parts)


def control(folder: Path) -> str:
    """mtv: the true tracks, and each variant beside its base."""
    parts = []
    for file in sorted(folder.glob("metrics_mtv*.json")):
        metrics = read_json(file)
        parts += [f"`{command(metrics)}`\n([{file.name}](../assets/puppets/{file.name})), its own tracks:\n"]
        parts += [_scores({"mtv": metrics["tasks"]["mtv"]}, (*TRACKS, "speaker"))]
        parts += ["and what differs from that, with the difference on the same clips:\n", _variants(metrics["tasks"])]
    return "\n".join(parts)


def curve(folder: Path) -> str:
    """Headlines along the training."""
    files = sorted((folder / "curve").glob("*.json"))
    if not files:
        raise UserError(f"{folder / 'curve'}: no metrics of intermediate steps")
    config = read_json(files[0])["config"]
    rows = []
    for file in files:
        tasks = read_json(file)["tasks"]
        headlines = [_number(tasks[task]["scores"][name]["headline"]) for task, name in CURVE]
        rows.append([file.stem.replace("_", " "), *headlines])
    head = ["step", *(f"{task} {name.replace('_', ' ').replace(' correlation', '')}" for task, name in CURVE)]
    return f"Headlines on {config['clips']} clips of `{config['level']}`:\n\n" + markdown_table(head, rows)


def measures(folder: Path) -> str:
    """Measures of every task, and beside them the older scores of the same samples that had nothing to say of it."""
    from shared.evaluation.measures import LEAST_CLIPS, MEASURES  # which take torch, as --help shall not

    def counts(score: Mapping[str, Any] | None) -> bool:
        return score is not None and score["clips"] >= LEAST_CLIPS and score["value"] is not None

    metrics = read_json(folder / "metrics_measures.json")
    tasks = {task.removeprefix("mtv:"): result["measures"]["scores"] for task, result in metrics["tasks"].items()}
    rows, hidden = [], []
    for name in MEASURES:
        counting = {task: scores[name] for task, scores in tasks.items() if counts(scores.get(name))}
        if counting:
            values = (_number(counting[task]["value"]) if task in counting else "-" for task in tasks)
            rows.append([name.replace("_", " "), _number(next(iter(counting.values()))["ceiling"]), *values])
    for old, name, what in HIDDEN:
        for task in (task for task in HIDDEN_IN if counts(tasks[task].get(name))):
            before, now = metrics["tasks"][task]["scores"].get(old), tasks[task][name]
            had = _number(before["value"]) if counts(before) else "not measured"
            numbers = (_number(now[key]) for key in ("value", "ceiling"))
            hidden.append([task, old.replace("_", " "), had, name.replace("_", " "), *numbers, what])
    where = "([metrics_measures.json](../assets/puppets/metrics_measures.json))"
    parts = [f"`{command(metrics)}`\n{where}; values, with the ceiling of true clips through the codecs.\n"]
    parts += [markdown_table(["measure", "ceiling", *tasks], rows)]
    parts += ["What the older scores of the same samples said, and what they hid:\n"]
    parts += [markdown_table(["task", "older score", "value", "measure", "value", "ceiling", "what it adds"], hidden)]
    return "\n".join(parts)


def command(metrics: Mapping[str, Any]) -> str:
    """Command line that wrote these metrics."""
    config = metrics["config"]
    line = f"python scripts/evaluate.py --checkpoint {config['checkpoint']} --level {config['level']}"
    line += f" --clips {config['clips']} --tasks {','.join(config['tasks'])}"
    if variants := config.get("variants", []):
        line += f" --variants {'all' if len(variants) == len(VARIANT_NAMES) else ','.join(variants)}"
    if isinstance(config["steps"], int):
        line += f" --steps {config['steps']}"
    return line + " --no-context" * config["no_context"] + " --output DIR"


def _scores(tasks: Mapping[str, Any], only: Sequence[str] = ()) -> str:
    """Row per task and score; `only` some scores, by default all but "speaker"."""
    rows = []
    for task, result in tasks.items():
        for name, score in result["scores"].items():
            if score["clips"] and (name in only or (not only and name != "speaker")):
                low, high = (_number(end) for end in score["headline_interval"] or (None, None))
                numbers = (_number(score[key]) for key in COLUMNS)
                rows.append([task, name.replace("_", " "), *numbers, f"{low} .. {high}"])
    return markdown_table(["task", "score", *COLUMNS, "95 % interval"], rows)


def _variants(tasks: Mapping[str, Any]) -> str:
    """Row per variant and score; the difference is from mtv, for "music swapped" from "mood unmentioned"."""
    rows = []
    for task, name in ((task, name) for task, names in VARIANTS.items() if task in tasks for name in names):
        score = tasks[task]["scores"].get(name)
        if score is None or not score["clips"]:
            continue
        change = ["", ""]
        if paired := tasks[task]["paired"]["scores"].get(name):
            change = [f"{paired['difference']:+.2f}", "{:+.2f} .. {:+.2f}".format(*paired["interval"])]
        numbers = (_number(score[key]) for key in COLUMNS)
        rows.append([task.removeprefix("mtv:"), str(score["clips"]), name.replace("_", " "), *numbers, *change])
    return markdown_table(["variant", "clips", "score", *COLUMNS, "difference", "95 % interval"], rows)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"
