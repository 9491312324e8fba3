"""Rectified flow: the straight path from data to noise, its noise levels and targets.

x_σ = (1−σ) x_0 + σ ε,   target v = ε − x_0,   σ = shift(u),   u in (0, 1).
One u per sample drives both streams; training and sampling use the same shifts, so sampling visits only pairs
(σ_video, σ_audio) that training has seen.
"""

import torch
from torch import Tensor

from shared.utils.rng import generator

BUCKETS = 5


def shift(u: Tensor, amount: float) -> Tensor:
    """σ = s·u / (1 + (s−1)·u): more time at high noise for s > 1 (resolution shift)."""
    return amount * u / (1 + (amount - 1) * u)


def noisy(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_σ = (1−σ) x_0 + σ ε, with `sigma` broadcastable to the latents."""
    return (1 - sigma) * clean + sigma * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """Target ε − x_0."""
    return noise - clean


def draw_u(seed: int, step: int, ids: list[str], mean: float = 0.0, std: float = 1.0, name: str = "u") -> Tensor:
    """[B] logit-normal u in (0, 1), keyed by (seed, step, sample id): a batch's order or company changes nothing."""
    normal = torch.stack([torch.randn((), generator=generator(seed, name, step, i)) for i in ids])
    return torch.sigmoid(mean + std * normal)


def draw_chosen(share: float, seed: int, step: int, ids: list[str], name: str) -> Tensor:
    """[B] bool, True with probability `share`, keyed by (seed, step, sample id)."""
    return torch.stack([torch.rand((), generator=generator(seed, name, step, i)) < share for i in ids])


def draw_noise(seed: int, step: int, ids: list[str], shape: tuple[int, ...], stream: str) -> Tensor:
    """[B, *shape] Gaussian noise of one stream, keyed by (seed, step, sample id, stream)."""
    return torch.stack([torch.randn(shape, generator=generator(seed, "noise", stream, step, i)) for i in ids])


def u_grid(steps: int) -> Tensor:
    """Values of u at each solver step, [steps] from 1 down to 1/steps; 0 follows the last."""
    return torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)


def sigma_bucket(sigma: float) -> str:
    """Name the bucket of a noise level: "0.4-0.6" for 0.5; the last one holds 1.0."""
    index = min(BUCKETS - 1, int(sigma * BUCKETS))
    return f"{index / BUCKETS:.1f}-{(index + 1) / BUCKETS:.1f}"
