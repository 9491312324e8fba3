"""Shapes that the puppets are painted of, in scene units, and how what marks an onset fades."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PerFrame = Array | float
"""One number, or one per frame, [T,1,1]."""
Distance = Callable[[Array, Array], Array]
RING_RADII, RING_WIDTH = (0.045, 0.15), 0.028
RING_SPEED, RING_DECAY = 0.5, 0.11
"""Of the violet ring: radius at its onset and at most, width, scene units per second, seconds of its opacity."""


def ellipse_distance(x: Array, y: Array, rx: PerFrame, ry: PerFrame) -> Array:
    """Signed distance to an ellipse at the origin (first order, exact on the axes)."""
    inner = np.sqrt((x / rx) ** 2 + (y / ry) ** 2)
    slope = np.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2)
    return inner * (inner - 1) / np.maximum(slope, 1e-9)


def box_distance(x: Array, y: Array, rx: float, ry: float) -> Array:
    """Signed distance to a box at the origin, with corners rounded by a fifth of its lesser half side."""
    corner = 0.2 * min(rx, ry)
    dx, dy = np.abs(x) - (rx - corner), np.abs(y) - (ry - corner)
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner


def ring(x: Array, y: Array, since: PerFrame) -> Array:
    """How violet a ring is around the origin, 0..1, `since` seconds after its onset."""
    radius = np.minimum(RING_RADII[0] + RING_SPEED * since, RING_RADII[1])
    return np.exp(-(((np.hypot(x, y) - radius) / RING_WIDTH) ** 2))


def capsule(a: tuple[PerFrame, PerFrame], b: tuple[PerFrame, PerFrame], radius: float) -> Distance:
    """Signed distance to the thick line from `a` to `b`."""
    dx, dy = b[0] - a[0], b[1] - a[1]

    def distance(x: Array, y: Array) -> Array:
        along = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
        return np.hypot(x - a[0] - along * dx, y - a[1] - along * dy) - radius

    return distance


def decay(t: Array, onsets: tuple[float, ...], tau: float) -> Array:
    """exp(-(t - onset)/tau) of the latest onset at or before t; 0 before the first. Shape of `t`."""
    value = np.zeros_like(t)
    for onset in onsets:
        value = np.where(t >= onset, np.exp(-np.maximum(t - onset, 0) / tau), value)
    return value
