"""Do events happen as often as they are told, seen and heard at once? Scores of one clip as (numerator, denominator).

Agreement alone rewards a clip in which hardly anything happens; so precision and recall ask for what was told, and
agreement is judged beside the model's own clips shuffled and the best fixed times, which a habit would reach as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.bootstrap import Ratio

Array = NDArray[np.float64]

TOLERANCE = 0.1
"""Seconds within which an onset in the video and one in the audio are one event."""
GRID = 0.05  # seconds between the times a fixed guess may consist of
NAMES = ("event_precision", "event_recall", "events")


def event_scores(told: int | None, asked: bool, seen: Array | None, heard: Array | None) -> dict[str, Ratio]:
    """Precision, recall, and their harmonic mean per clip ("events").

    `told`: how many events the text has, or what is given has; None: some, not how many. `asked`: whether any. `seen`
    and `heard`: onsets in seconds, None for a stream that the task does not have, whose onsets are then not asked for.
    Of m pairs within TOLERANCE: precision min(m, told) / max(seen, heard), recall min(m, told) / told; without a number
    precision m / max(seen, heard), and recall 1 if m is at least 1. Where nothing is asked, each onset is a fault.
    """
    streams = [onsets for onsets in (seen, heard) if onsets is not None]
    if not streams:
        return dict.fromkeys(NAMES, (0.0, 0.0))
    most = max(len(onsets) for onsets in streams)
    if not asked:
        return {"event_precision": (0.0, float(most)), "event_recall": (0.0, 0.0), "events": (float(most == 0), 1.0)}
    pairs = len(streams[0]) if len(streams) == 1 else len(match(streams[0], streams[1], TOLERANCE))
    right = pairs if told is None else min(pairs, told)
    recall = (float(pairs > 0), 1.0) if told is None else (float(right), float(told))
    precision = right / most if most else 0.0
    both = precision + recall[0] / recall[1]
    harmonic = 2 * precision * recall[0] / recall[1] / both if both else 0.0
    return {"event_precision": (float(right), float(most)), "event_recall": recall, "events": (harmonic, 1.0)}


def agreement(seen: Array, heard: Array) -> Ratio:
    """Onsets seen against onsets heard: the F1 of pairs within TOLERANCE, summed over clips; nothing counts nothing."""
    return 2.0 * len(match(seen, heard, TOLERANCE)), float(len(seen) + len(heard))


def match(first: Array, second: Array, tolerance: float) -> list[tuple[float, float]]:
    """Most one-to-one pairs of ascending times at most `tolerance` seconds apart."""
    pairs, i, j = [], 0, 0
    while i < len(first) and j < len(second):
        apart = first[i] - second[j]
        if abs(apart) <= tolerance + 1e-9:
            pairs.append((float(first[i]), float(second[j])))
        i, j = i + (apart <= tolerance), j + (apart >= -tolerance)
    return pairs


def best_times(clips: Sequence[Array], duration: float) -> Array:
    """Choose fixed times from a grid that agree best with the onsets of all `clips`, in seconds, while micro-F1 grows.
    Of onsets so far apart as the scripts', each is hit by any time near it."""
    grid, onsets = np.arange(GRID, duration, GRID), np.concatenate([*clips, np.zeros(0)])
    near = np.abs(grid[:, None] - onsets) <= TOLERANCE
    chosen: list[int] = []
    covered, best = np.zeros(len(onsets), bool), 0.0
    while len(chosen) < len(grid):
        hits = (near | covered).sum(1)
        score = 2 * float(hits.max()) / max(1, (len(chosen) + 1) * len(clips) + len(onsets))
        if score <= best:
            break
        best = score
        chosen.append(int(hits.argmax()))
        covered |= near[chosen[-1]]
    return grid[np.sort(np.array(chosen, dtype=int))]


def fixed_times_agreement(clips: Sequence[tuple[Array, float]]) -> float | None:
    """Agreement of the best fixed times with onsets, as (onsets, duration) of each clip; None without any onset."""
    hits = total = 0.0
    for duration in sorted({duration for _, duration in clips}):
        same = [onsets for onsets, length in clips if length == duration]
        guess = best_times(same, duration)
        for right, count in (agreement(guess, onsets) for onsets in same):
            hits, total = hits + right, total + count
    return hits / total if total else None
