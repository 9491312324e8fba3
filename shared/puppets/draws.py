"""Draws that the levels of the puppets share: times of events, and what drifts by."""

import numpy as np
from numpy.random import Generator

from shared.puppets.spec import COLOURS, FIRST_ONSET, LAST_ONSET, ONSET_GAP, Array, Distractor, Span


def onsets_of(rng: Generator, least: int, duration: float, silence: Span | None) -> Array:
    """1-3 onsets per 2 s, uniform over all sets of times that keep ONSET_GAP and the silent span (and 0.3 s before)."""
    hole = (silence[0] - 0.3, silence[1]) if silence else (duration, duration)
    length = duration - (hole[1] - hole[0]) - FIRST_ONSET - LAST_ONSET
    count = max(least, round(rng.uniform(0.5, 3.5) * duration / 2 * length / (duration - FIRST_ONSET - LAST_ONSET)))
    count = min(count, int(length / ONSET_GAP) + 1)
    slack = length - (count - 1) * ONSET_GAP
    times = np.sort(rng.uniform(0, slack, count)) + FIRST_ONSET + ONSET_GAP * np.arange(count)
    return times + np.where(times >= hole[0], hole[1] - hole[0], 0.0)


def drifting_things(rng: Generator, duration: float) -> tuple[Distractor, ...]:
    """Draw the silent thing that drifts by, in three clips of ten."""
    if rng.random() >= 0.3:
        return ()
    direction = 1 if rng.random() < 0.5 else -1
    speed = direction * rng.uniform(0.6, 1.0) / duration
    kind, colour = ("cloud", "balloon")[rng.integers(2)], COLOURS[rng.integers(4)]
    x, y = 0.5 - direction * rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.2)
    return (Distractor(kind, colour, x, y, speed, mentioned=bool(rng.random() < 0.5)),)
