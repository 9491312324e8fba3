"""What a codec loses of a picture, where it shows: in pixels that move, and at the borders of its cells."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MOVES = 0.15
"""Of a range of 2: by how much a pixel differs, in one colour at least, from the frame before, for it to move."""


def moving_pixels(video: Tensor) -> Tensor:
    """Pixels of video [B, 3, T, H, W] in [-1, 1] that move, and those beside them (3x3); bool [B, 1, T, H, W]."""
    moves = (video.diff(dim=2).abs().amax(1, keepdim=True) > MOVES).float()
    moves = torch.cat([torch.zeros_like(video[:, :1, :1]), moves], 2)
    wide = functional.max_pool2d(moves.flatten(0, 2)[:, None], 3, 1, 1) > 0
    return wide.view_as(moves)


def border_jumps(error: Tensor, cell: int) -> tuple[float, float]:
    """Mean step of an error [..., H, W] from pixel to pixel across the borders of cells, and elsewhere; their ratio is
    1 where borders do not show. Cells are squares of `cell` pixels."""
    across, inside = [], []
    for dim in (-1, -2):
        steps = error.diff(dim=dim).abs().transpose(dim, -1).flatten(0, -2).mean(0)
        border = torch.arange(1, len(steps) + 1, device=error.device) % cell == 0
        across.append(steps[border])
        inside.append(steps[~border])
    return float(torch.cat(across).sum() / max(1, sum(map(len, across)))), float(torch.cat(inside).mean())


class PictureLoss(NamedTuple):
    """Sums over a clip: squared error and pixels, those of moving ones, and the error's mean step across the borders of
    cells and inside them."""

    square: float
    pixels: float
    moving_square: float
    moving: float
    across: float
    inside: float


def picture_loss(video: Tensor, decoded: Tensor, cell: int) -> PictureLoss:
    """Compare a clip [B, 3, T, H, W] with what a codec of cells of `cell` pixels made of it."""
    error = decoded - video
    square, moves = error.square(), moving_pixels(video).expand_as(video)
    return PictureLoss(
        float(square.sum()), square.numel(), float(square[moves].sum()), int(moves.sum()), *border_jumps(error, cell)
    )


def decibels(mean_square: float) -> float:
    """Peak signal-to-noise ratio of pixels in [-1, 1]."""
    return 10 * math.log10(4 / max(mean_square, 1e-10))
