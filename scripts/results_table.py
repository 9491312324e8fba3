"""Write the tables of the shipped checkpoint's scores, in docs/{checkpoint,mtv}.md, from its metrics files.

    python scripts/results_table.py            # rewrite the tables
    python scripts/results_table.py --check    # only compare; exit code 2 if a table is not what the files say

The files are those that evaluate.py wrote: assets/puppets/metrics*.json, and assets/puppets/curve/*.json along the way.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main
from shared.utils.files import read_json, replaced

ROOT = Path(__file__).resolve().parents[1]
STAGE = ROOT / "assets/puppets"
FULL = (
    "event_f1", "mouth_correlation", "speaker", "colour", "mood_seen", "mood_heard",
)  # fmt: skip
SYNC = ("event_f1", "mouth_correlation")
TRACKS = ("event_f1", "mouth_correlation", "colour", "mood_seen", "count_seen")
VARIANTS = {
    "mtv:speech swapped": SYNC, "mtv:effects swapped": SYNC, "mtv:mood untold": ("mood_followed", *SYNC),
    "mtv:music swapped": ("mood_followed", *SYNC), "mtv:silent speech": ("mouth_opening", "face_visible", "event_f1"),
    "mtv:speaker untold": ("speaker", *SYNC), "mtv:dsp": (*SYNC, "mood_seen"),
}  # fmt: skip
"""The scores shown of each variant of mtv."""
ALL = ("speech-swapped", "effects-swapped", "music-swapped", "silent-speech", "speaker-untold", "dsp")
"""What evaluate.py tries unless it is told otherwise."""
CURVE = (("t2av", "event_f1"), ("t2av", "mouth_correlation"), ("t2av", "colour"), ("a2v", "event_f1"),
         ("a2v", "mouth_correlation"), ("v2a", "event_f1"), ("v2a", "mouth_correlation"))  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    blocks = (
        ("docs/checkpoint.md", "results", results),
        ("docs/mtv.md", "control", control),
        ("docs/checkpoint.md", "curve", curve),
    )
    for path, name, make in blocks:
        file = ROOT / path
        text = file.read_text(encoding="utf-8")
        new = replaced(text, name, make(), file)
        if not options.check:
            file.write_text(new, encoding="utf-8")
        elif new != text:
            raise UserError(f"{file.name}: the {name} are not what {STAGE.name}/ holds; run scripts/results_table.py")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a table is out of date")
    return parser.parse_args(argv)


def results() -> str:
    """The results of docs/checkpoint.md: what each file says, under the command that made it."""
    simple = read_json(STAGE / "metrics.json")
    guess = simple["tasks"]["t2av"]["fixed_times_f1"]
    story = (
        "in [metrics.json](../assets/puppets/metrics.json). The headline is (value - floor) / (ceiling - floor): 1 is\n"
        "the true clip through the codecs, 0 another clip's sound. The best fixed times would give an event F1 of "
    )
    parts = [
        f"`{command(simple)}`,\n{story}{guess:.2f}.\n",
        table(rows(simple)),
    ]
    tracks = read_json(STAGE / "metrics_mtv.json")
    parts += [
        f"`{command(tracks)}`\n([metrics_mtv.json](../assets/puppets/metrics_mtv.json)), speech, effects and music "
        "drive the video.\nWith tracks swapped, silent or taken from a mix: [mtv.md](mtv.md#results).\n"
    ]
    parts += [table(row for row in rows(tracks, TRACKS) if row[0] == "mtv")]
    full = (
        "two people, several objects, silent distractors, moving\ncamera, things heard but not seen, clips of 2 "
        "to 8 s, of which training saw those of 2 s:"
    )
    without = "no stream reads the other,\nand sync is at the floor or below it:"
    for name, story in {"metrics_full.json": full, "metrics_no_context.json": without}.items():
        metrics = read_json(STAGE / name)
        parts += [f"`{command(metrics)}`\n([{name}](../assets/puppets/{name})), {story}\n"]
        parts += [table(rows(metrics, SYNC if "no_context" in name else FULL))]
    return "\n".join(parts)


def control() -> str:
    """docs/mtv.md's block: the true tracks, and each variant beside its base."""
    parts = []
    for file in sorted(STAGE.glob("metrics_mtv*.json")):
        name, metrics = file.name, read_json(file)
        own = table(row for row in rows(metrics, (*TRACKS, "speaker")) if row[0] == "mtv")
        parts += [f"`{command(metrics)}`\n([{name}](../assets/puppets/{name})), its own tracks:\n", own]
        parts += ["and what differs from that, with the difference on the same clips:\n", variants(metrics["tasks"])]
    return "\n".join(parts)


def variants(tasks: Mapping[str, Any]) -> str:
    """A row per variant and score; the difference is from mtv, for "music swapped" from "mood untold"."""
    head = ["variant", "clips", "score", "value", "floor", "ceiling", "headline", "difference", "95 % interval"]
    body = []
    for task in (task for task in VARIANTS if task in tasks):
        for name in VARIANTS[task]:
            score = tasks[task]["scores"].get(name)
            if score is None or not score["clips"]:
                continue
            pair = tasks[task]["paired"]["scores"].get(name)
            cells = [number(score[key]) for key in ("value", "floor", "ceiling", "headline")]
            change = [signed(pair["difference"]), " .. ".join(map(signed, pair["interval"]))] if pair else ["", ""]
            body.append([task.removeprefix("mtv:"), str(score["clips"]), name.replace("_", " "), *cells, *change])
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]) + "\n"


def signed(value: float) -> str:
    return f"{value:+.2f}"


def curve() -> str:
    """The curve of docs/checkpoint.md: headlines along the training."""
    files = sorted((STAGE / "curve").glob("*.json"))
    if not files:
        raise UserError(f"{STAGE / 'curve'}: no metrics of intermediate steps")
    first = read_json(files[0])
    head = ["step", *(f"{task} {name.replace('_', ' ').replace(' correlation', '')}" for task, name in CURVE)]
    body = []
    for file in files:
        tasks = read_json(file)["tasks"]
        body.append([file.stem.replace("_", " "), *(number(tasks[t]["scores"][name]["headline"]) for t, name in CURVE)])
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]]
    return (
        f"Headlines on {first['config']['clips']} clips of `{first['config']['level']}`:\n\n" + "\n".join(lines) + "\n"
    )


def command(metrics: Mapping[str, Any]) -> str:
    config = metrics["config"]
    words = [f"python scripts/evaluate.py --checkpoint {config['checkpoint']} --level {config['level']}"]
    words += [f"--clips {config['clips']} --tasks {','.join(config['tasks'])}"]
    if len(config.get("variants", ALL)) < len(ALL):
        words += ["--variants", ",".join(config["variants"]) or "none"]
    if isinstance(config["steps"], int):
        words += [f"--steps {config['steps']}"]
    return " ".join(words + ["--no-context"] * config["no_context"] + ["--output DIR"])


def rows(metrics: Mapping[str, Any], only: Sequence[str] = ()) -> Iterable[list[str]]:
    for task, result in metrics["tasks"].items():
        for name, score in result["scores"].items():
            if score["clips"] and (name in only or (not only and name != "speaker")):
                cells = [number(score[key]) for key in ("value", "floor", "ceiling", "headline")]
                low, high = (number(end) for end in score["headline_interval"] or (None, None))
                yield [task, name.replace("_", " "), *cells, f"{low} .. {high}"]


def table(body: Iterable[list[str]]) -> str:
    head = ["task", "score", "value", "floor", "ceiling", "headline", "95 % interval"]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]) + "\n"


def number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


if __name__ == "__main__":
    run_main(main)
