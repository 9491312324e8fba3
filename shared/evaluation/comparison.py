"""Two evaluations of the same clips, compared clip by clip: the difference and its bootstrap interval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.evaluation.bootstrap import Ratio, interval, resample, weighted_mean
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator

SAME = ("suite", "level", "held_out_seed")
"""What two evaluations must have in common: clip i is then the same clip in both."""


def per_clip(
    names: Sequence[str], scores: Mapping[int, Mapping[str, Ratio]], clips: int
) -> dict[str, dict[str, list[float | None]]]:
    """Collect what metrics.json keeps of each score: a value and a weight per held-out clip, rounded to 4 digits.

    The score over clips is the weighted mean of the values. Where it does not count the value is null, the weight 0.
    """
    by_score: dict[str, dict[str, list[float | None]]] = {}
    for name in names:
        pairs = [scores.get(i, {}).get(name, (0.0, 0.0)) for i in range(clips)]
        values = [round(top / bottom, 4) if bottom else None for top, bottom in pairs]
        by_score[name] = {"value": values, "weight": [round(bottom, 4) for _, bottom in pairs]}
    return by_score


def compare_score(new: Mapping[str, Any], old: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """One score of two evaluations, as `per_clip` keeps it, on the clips where it counts in both.

    Returns "new", "old", "difference" (new - old), its 95 % bootstrap "interval" over clips, and "clips"; None
    where no clip counts in both.
    """
    pairs = zip(new["value"], new["weight"], old["value"], old["weight"], strict=False)
    both = [(a, u, b, w) for a, u, b, w in pairs if u and w]
    if not both:
        return {"new": None, "old": None, "difference": None, "interval": None, "clips": 0}
    rows = np.array(both, dtype=np.float64)
    draws = rows[resample(numpy_generator(seed, "bootstrap"), len(rows))]
    first, second = float(weighted_mean(rows[:, :2])), float(weighted_mean(rows[:, 2:]))
    spread = interval(weighted_mean(draws[..., :2]) - weighted_mean(draws[..., 2:]))
    return {"new": first, "old": second, "difference": first - second, "interval": spread, "clips": len(rows)}


def compare_tasks(new: Mapping[str, Any], old: Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, Any]]:
    """`compare_score` of every score that both results of a task have and that counts somewhere in both."""
    names = [name for name in new["per_clip"] if name in old["per_clip"]]
    compared = {name: compare_score(new["per_clip"][name], old["per_clip"][name], seed) for name in names}
    return {name: values for name, values in compared.items() if values["clips"]}


def read_metrics(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics.json of another evaluation, to be compared with one of `config` (the keys of `SAME`, "tasks").

    Raises UserError: no such file, not a metrics.json, without values per clip, on other clips, or of other tasks.
    """
    if not path.is_file():
        raise UserError(f"--against {path}: no such file; give the metrics.json of another evaluation")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        common = {name: metrics["config"][name] for name in SAME}
        tasks = {task: result for task, result in metrics["tasks"].items() if "per_clip" in result}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"--against {path}: not the metrics.json of an evaluation") from None
    for name, value in common.items():
        if value != config[name]:
            raise UserError(f"--against {path}: its {name} is {value}, here {config[name]}; the clips must be the same")
    if not tasks.keys() & set(config["tasks"]):
        wanted = ", ".join(config["tasks"])
        raise UserError(f"--against {path}: it holds no values per clip of {wanted}; evaluate that checkpoint again")
    return {**metrics, "tasks": tasks}
