"""Do pictures fall apart into the cells of their codec, and are they sharp? Both without a network.

Blocks alone could be smoothed away, which blurs; so the gradient inside the cells is measured beside the gradient
across their borders.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Cell = tuple[int, int]
"""Height and width in pixels of what the codec makes of one token."""
LEAST_PIXELS = 50  # of a region, over the clip; in fewer, a gradient's mean says little


class Gradients(NamedTuple):
    """Mean absolute difference of neighbours, of values in [0, 1], across the borders of cells and inside them, and the
    mean square inside. NaN where there are no such neighbours."""

    across: float
    inside: float
    energy: float

    @property
    def blockiness(self) -> float:
        """Gradient across the borders over that inside; about 1 where the cells do not show."""
        return self.across / self.inside if self.inside > 0 else float("nan")


def gradients(frames: NDArray[np.uint8], mask: Mask, cell: Cell) -> Gradients:
    """Gradients of frames uint8 [T, H, W, 3] between neighbours that both lie in `mask` [T, H, W]; cells begin at the
    upper left corner."""
    pixels, across, inside = frames / 255, [], []
    for axis, size in zip((1, 2), cell, strict=True):
        steps = np.abs(np.diff(pixels, axis=axis))
        both = np.logical_and(*(np.take(mask, np.arange(k, mask.shape[axis] - 1 + k), axis) for k in (0, 1)))
        border = np.arange(1, mask.shape[axis]) % size == 0
        border = border[:, None] if axis == 1 else border[None, :]
        across.append(steps[both & border].ravel())
        inside.append(steps[both & ~border].ravel())
    edges, others = np.concatenate(across), np.concatenate(inside)
    if not (len(edges) and len(others)):
        return Gradients(float("nan"), float("nan"), float("nan"))
    return Gradients(float(edges.mean()), float(others.mean()), float(np.square(others).mean()))


def block_scores(
    frames: NDArray[np.uint8], drawing: NDArray[np.uint8], masks: dict[str, Mask], cell: Cell
) -> dict[str, tuple[float, float]]:
    """By region, as pairs whose sums over clips are divided: `blockiness_REGION`, of the frames over that of a sharp
    `drawing` of the same scene (1: no border shows); `energy_REGION`, their gradient energies inside the cells, in
    squares of a percent of the range; and `sharpness_REGION`, the lesser of these over the greater (1: as sharp as
    drawn; blur and noise both lower it)."""
    scores: dict[str, tuple[float, float]] = {}
    for name, mask in masks.items():
        pairs = {f"{what}_{name}": (0.0, 0.0) for what in ("blockiness", "sharpness", "energy")}
        own, drawn = gradients(frames, mask, cell), gradients(drawing, mask, cell)
        if mask.sum() >= LEAST_PIXELS and np.isfinite([drawn.blockiness, drawn.energy]).all():
            # a region without any gradient inside shows nothing but borders
            blockiness = own.blockiness if own.inside > 0 else own.across / drawn.inside
            pairs[f"blockiness_{name}"] = (blockiness, drawn.blockiness)
            least, most = sorted((own.energy, drawn.energy))
            pairs[f"sharpness_{name}"] = (least / most, 1.0)
            pairs[f"energy_{name}"] = (1e4 * own.energy, 1e4 * drawn.energy)
        scores |= pairs
    return scores
