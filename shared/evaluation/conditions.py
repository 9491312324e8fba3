"""Evaluations of one checkpoint under several conditions: read, checked to be of one kind, and told in tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.evaluation.goals import goals_table
from shared.evaluation.within import within_tables
from shared.utils.errors import UserError
from shared.utils.files import read_json

SAME = ("checkpoint", "held_out_seed", "seed", "steps", "guidance", "track_guidance", "each")
"""Settings that evaluations have to share, where they have them."""


def read_evaluations(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the metrics.json of each folder, or the file that is given in its place. UserError for one that is none, and
    for evaluations of another checkpoint or of other settings than the first."""
    found: list[dict[str, Any]] = []
    for folder in folders:
        file = folder if folder.suffix == ".json" else folder / "metrics.json"
        metrics = read_json(file, advice="give folders that evaluate.py wrote")
        try:
            config, results = dict(metrics["config"]), [*dict(metrics["tasks"]).values()]
            assert {"level", "no_context", *SAME[:4]} <= config.keys() and all("measures" in one for one in results)
        except (KeyError, TypeError, ValueError, AssertionError):
            raise UserError(f"{file}: not the metrics.json of an evaluation with measures; evaluate again") from None
        of_one_shot = [one["config"] for one in found if one["config"]["tasks"] != ["shots"]]
        if of_one_shot and config["tasks"] != ["shots"]:  # `each` is of these alone
            config["each"], of_one_shot[0]["each"] = config.get("each"), of_one_shot[0].get("each")
        for name in SAME:
            first = next((one["config"][name] for one in found if name in one["config"]), config.get(name))
            if name in config and config[name] != first:
                told = f"its {name} is {config[name]}, that of the others {first}"
                raise UserError(f"{file}: {told}; give evaluations that differ in clips and conditions only")
        found.append(metrics)
    return found


def conditions_page(evaluations: Sequence[dict[str, Any]]) -> str:
    """Table of goals and tables of conditions compared, of scores that count. UserError where none of these has any."""
    from shared.evaluation.measures import LEAST_CLIPS  # which takes torch, as --help shall not

    parts = [goals_table(evaluations, LEAST_CLIPS), within_tables(evaluations, LEAST_CLIPS)]
    if not any(parts):
        said = f"no goal is measured on {LEAST_CLIPS} clips, and no two conditions are there to compare"
        raise UserError(f"--compare: {said}; docs/measures.md has the commands")
    return "\n".join(part for part in parts if part)
