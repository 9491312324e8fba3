"""Stretches of True in a row of frames: when somebody speaks, or two at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def stretches(active: NDArray[np.bool_], pause: int = 0, longest: int | None = None) -> list[tuple[int, int]]:
    """List the stretches of True in `active` [T]: gaps of up to `pause` frames belong to them, and one of more than
    `longest` frames is several, equally long."""
    edges = np.flatnonzero(np.diff(np.pad(active.astype(np.int8), 1)))
    found: list[tuple[int, int]] = []
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if found and first - found[-1][1] <= pause:
            first = found.pop()[0]
        found.append((first, end))
    if longest is None:
        return found
    parts = [np.linspace(first, end, -(-(end - first) // longest) + 1).round().astype(int) for first, end in found]
    return [pair for part in parts for pair in pairwise(part.tolist())]
