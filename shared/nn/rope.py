"""Rotary positions at any real time: the bands of diffusers' Wan, without its table of integer positions."""

import torch
from torch import Tensor

#: Unit complex numbers [..., 1, d/2]: one rotation per pair of dimensions, the same for every head.
Rotary = Tensor


def bands(head_dim: int) -> tuple[int, int, int]:
    """Rotary dimensions for time, height and width: d − 4(d//6), 2(d//6), 2(d//6), as in Wan."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def angles(positions: Tensor, dim: int, theta: float = 10000.0) -> Tensor:
    """Angles [..., dim/2] in float64 of positions [...]."""
    frequencies = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return positions.double()[..., None] * frequencies.to(positions.device)


def _turns(angle: Tensor) -> Rotary:
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)[..., None, :]


def grid_rotary(frames: int, height: int, width: int, head_dim: int) -> Rotary:
    """Wan's 3-D rotation for a frame-major grid, [1, F·H·W, 1, d/2]."""
    shape = (frames, height, width)
    places = torch.cartesian_prod(*map(torch.arange, shape)).T
    return _turns(torch.cat([angles(at, dim) for at, dim in zip(places, bands(head_dim), strict=True)], dim=-1))[None]


def time_rotary(positions: Tensor, head_dim: int) -> Rotary:
    """Rotation of the temporal band only, the rest unrotated: [..., 1, d/2] for positions [...]."""
    time, *space = bands(head_dim)
    angle = angles(positions, time)
    still = angle.new_zeros(*angle.shape[:-1], sum(space) // 2)
    return _turns(torch.cat([angle, still], dim=-1))


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn the pairs (x0,x1), (x2,x3), ... of x [..., h, d]; one complex product, three times faster than two real."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # which makes one kernel of the real ones, and knows no complex numbers
        (even, odd), (cos, sin) = pairs.unbind(-1), torch.view_as_real(rotary).unbind(-1)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * rotary)
    return turned.flatten(-2).type_as(x)
