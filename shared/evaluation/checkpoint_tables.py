"""Tables of a checkpoint's scores in the documentation, from the files that evaluate.py wrote beside it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.evaluation.conditions import conditions_page, read_evaluations
from shared.evaluation.options import VARIANT_NAMES
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.markdown import markdown_table

SYNC = ("events", "mouth_agreement")
VARIANTS = {
    "mtv:speech swapped": SYNC, "mtv:effects swapped": SYNC, "mtv:mood unmentioned": ("mood_followed", *SYNC),
    "mtv:music swapped": ("mood_followed", *SYNC), "mtv:silent speech": ("mouth_opening", "face_visible", "events"),
    "mtv:speaker unmentioned": ("speaker", *SYNC), "mtv:dsp": (*SYNC, "light"), "mtv:text changed": ("looks", *SYNC),
}  # fmt: skip
"""What is shown of each variant of mtv."""
CURVE = (
    *(("t2av", name) for name in ("events", "agreement", "mouth_agreement", "count", "looks", "validity")),
    ("v2a", "events"), ("v2a", "mouth_agreement"),
)  # fmt: skip
COLUMNS = ("value", "floor", "ceiling", "headline")


def results(folder: Path) -> str:
    """Tell what each file says of the measures, under the command that made it, and whether goals are reached."""
    files = sorted(folder.glob("metrics*.json"))
    evaluations = read_evaluations(files)
    parts = ["Goals, and conditions beside each other:\n", conditions_page(evaluations)]
    for file, metrics in zip(files, evaluations, strict=True):
        where = f"[{file.name}](../assets/puppets/{file.name})"
        parts += [f"`{command(metrics)}`\n({where}); values:\n", measures_table(metrics)]
        if "against" in metrics:
            told = f"The same clips by the checkpoint before it (`--against {metrics['against']['file']}`):\n"
            parts += [told, _against(metrics["against"]["measures"])]
    return "\n".join(parts)


def control(folder: Path) -> str:
    """Each variant of mtv, and its difference from the clip's own tracks and text."""
    parts = []
    for file in sorted(folder.glob("metrics*.json")):
        metrics = read_json(file)
        if any(name in metrics["tasks"] for name in VARIANTS):
            where = f"[{file.name}](../assets/puppets/{file.name})"
            parts += [f"`{command(metrics)}`\n({where}):\n", _variants(metrics["tasks"])]
    return "\n".join(parts)


def curve(folder: Path) -> str:
    """Measures along the training."""
    files = sorted((folder / "curve").glob("*.json"))
    if not files:
        raise UserError(f"{folder / 'curve'}: no metrics of intermediate steps")
    config = read_json(files[0])["config"]
    rows = []
    for file in files:
        tasks = read_json(file)["tasks"]
        values = [_number(tasks[task]["measures"]["scores"].get(name, {}).get("value")) for task, name in CURVE]
        rows.append([file.stem.replace("_", " "), *values])
    head = ["after", *(f"{task} {name.replace('_agreement', '')}" for task, name in CURVE)]
    return f"Values on {config['clips']} clips of `{config['level']}`:\n\n" + markdown_table(head, rows)


def measures_table(metrics: Mapping[str, Any]) -> str:
    """Row per measure that enough clips have: its floor and ceiling on the first such task, and its value on each."""
    from shared.evaluation.measures import LEAST_CLIPS, MEASURES  # which take torch, as --help shall not

    tasks = {
        task: result["measures"]["scores"] for task, result in metrics["tasks"].items() if not task.startswith("mtv:")
    }
    rows = []
    for name in MEASURES:
        counting = {
            task: scores[name]
            for task, scores in tasks.items()
            if name in scores and scores[name]["clips"] >= LEAST_CLIPS and scores[name]["value"] is not None
        }
        if counting:
            first = next(iter(counting.values()))
            values = (_number(counting[task]["value"]) if task in counting else "-" for task in tasks)
            rows.append([name.replace("_", " "), _number(first["floor"]), _number(first["ceiling"]), *values])
    return markdown_table(["measure", "floor", "ceiling", *tasks], rows)


def command(metrics: Mapping[str, Any]) -> str:
    """Command line that wrote these metrics."""
    config = metrics["config"]
    line = f"python scripts/evaluate.py --checkpoint {config['checkpoint']} --level {config['level']}"
    line += f" --clips {config['clips']} --tasks {','.join(config['tasks'])}"
    if variants := config.get("variants", []):
        line += f" --variants {'all' if len(variants) == len(VARIANT_NAMES) else ','.join(variants)}"
    for name in ("seconds", "fps", "each"):
        if config.get(name) is not None:
            line += f" --{name} {config[name]:g}"
    for name in ("held_out", "held_out_twins", "no_context"):
        line += f" --{name.replace('_', '-')}" * bool(config.get(name))
    if isinstance(config["steps"], int):
        line += f" --steps {config['steps']}"
    line += f" --seed {config.get('seed')}" * bool(config.get("seed"))
    if "against" in metrics:
        line += f" --against {metrics['against']['file']}"
    return line + " --output DIR"


def _against(tasks: Mapping[str, Any]) -> str:
    """Row per measure, the older value and the newer one on each task."""
    rows, names = [], list(dict.fromkeys(name for compared in tasks.values() for name in compared))
    for name in names:
        pairs = (compared.get(name, {"clips": 0}) for compared in tasks.values())
        values = [f"{_number(one['old'])} to {_number(one['new'])}" if one["clips"] else "-" for one in pairs]
        rows.append([name.replace("_", " "), *values])
    return markdown_table(["measure, old to new", *tasks], rows)


def _variants(tasks: Mapping[str, Any]) -> str:
    """Row per variant and score; the difference is from mtv, for "music swapped" from "mood unmentioned"."""
    rows = []
    for task, name in ((task, name) for task, names in VARIANTS.items() if task in tasks for name in names):
        score = _score(tasks[task], name)
        if score is None or not score["clips"]:
            continue
        change = ["", ""]
        paired = tasks[task]["paired"]
        found = paired["measures"].get(name) or paired["scores"].get(name)
        if found and found["interval"]:
            change = [f"{found['difference']:+.2f}", "{:+.2f} .. {:+.2f}".format(*found["interval"])]
        numbers = (_number(score[key]) for key in COLUMNS)
        rows.append([task.removeprefix("mtv:"), str(score["clips"]), name.replace("_", " "), *numbers, *change])
    return markdown_table(["variant", "clips", "score", *COLUMNS, "difference", "95 % interval"], rows)


def _score(result: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Find a measure, or what only the older scores have."""
    found: Mapping[str, Any] | None = result["measures"]["scores"].get(name) or result["scores"].get(name)
    return found


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"
