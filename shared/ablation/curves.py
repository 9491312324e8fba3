"""Loss curves of a run from its losses.csv: the average over time of a task's loss, thinned (the paper's Figure 5)."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from shared.ablation.sections import Curves
from shared.utils.errors import UserError


def loss_curves(file: Path, plan: Curves) -> dict[str, dict[str, list[float]]]:
    """By "TASK STREAM" and "TASK both", the sum of the streams: {"step": [...], "loss": [...]} from step `first` on.

    The row of each step is the mean over noise levels, by samples; the exponential average weighs a row by the steps
    since the one before, so that runs logged at other intervals compare.
    Raises UserError where the file cannot be read.
    """
    streams: dict[str, dict[int, float]] = {}
    for (task, stream), rows in _means(file, plan.tasks).items():
        streams[f"{task} {stream}"] = smoothed(rows, plan.smoothing)
    for task in plan.tasks:
        video, audio = (streams.get(f"{task} {stream}") for stream in ("video", "audio"))
        if video is not None and audio is not None:
            streams[f"{task} both"] = {step: video[step] + audio[step] for step in video if step in audio}
    return {name: _thinned(rows, plan) for name, rows in streams.items()}


def smoothed(rows: dict[int, float], steps: float) -> dict[int, float]:
    """Exponential average with a time constant of so many steps; it starts at the first row."""
    averages, value, last = {}, 0.0, None
    for step, loss in sorted(rows.items()):
        share = 1.0 if last is None else 1 - math.exp(-(step - last) / steps)
        value, last = value + share * (loss - value), step
        averages[step] = value
    return averages


def _means(file: Path, tasks: list[str]) -> dict[tuple[str, str], dict[int, float]]:
    sums: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    try:
        with file.open(newline="") as text:
            for row in csv.DictReader(text):
                if row["task"] in tasks:
                    pair, count = sums[row["task"], row["stream"]][int(row["step"])], float(row["samples"])
                    pair[0] += count * float(row["loss"])
                    pair[1] += count
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{file}: not the losses of a training ({error})") from None
    return {key: {step: loss / count for step, (loss, count) in rows.items()} for key, rows in sums.items()}


def _thinned(rows: dict[int, float], plan: Curves) -> dict[str, Any]:
    """From `first` on, at most `points` rows, the last one among them."""
    steps = [step for step in sorted(rows) if step >= plan.first]
    every = max(1, -(-len(steps) // plan.points))
    steps = steps[::-1][::every][::-1]
    return {"step": steps, "loss": [round(rows[step], 6) for step in steps]}
