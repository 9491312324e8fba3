"""Rotary positions: Wan's bands, any real time, and logits that see differences only."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from shared.nn.rope import bands, grid_rotary, rotate, time_rotary


def turn(x: torch.Tensor, position: float) -> torch.Tensor:
    """x [h, d] at one time."""
    return rotate(x[None], time_rotary(torch.tensor([position], dtype=torch.float64), x.shape[-1]))[0]


@pytest.mark.parametrize("dim", [12, 18, 24, 48, 64, 128])
def test_bands_fill_the_head(dim):
    assert sum(bands(dim)) == dim and all(band % 2 == 0 for band in bands(dim))


def test_grid_rotary_is_wans():
    rope = WanRotaryPosEmbed(24, (1, 2, 2), 64)
    cos, sin = rope(torch.zeros(1, 4, 3, 8, 10))
    ours = grid_rotary(3, 4, 5, 24)
    torch.testing.assert_close(ours.real, cos[..., ::2].float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.imag, sin[..., 1::2].float(), rtol=0, atol=1e-6)


def test_time_rotary_leaves_the_spatial_bands_alone():
    x = torch.randn(2, 24)
    turned = turn(x, 3.7)
    time = bands(24)[0]
    assert torch.equal(turned[:, time:], x[:, time:])
    assert not torch.allclose(turned[:, :time], x[:, :time])


def test_logits_depend_on_the_difference_of_times_only():
    q, k = torch.randn(2, 24), torch.randn(2, 24)
    near = (turn(q, 1.25) * turn(k, 3.5)).sum(-1)
    torch.testing.assert_close(near, (turn(q, 101.25) * turn(k, 103.5)).sum(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(near, (q * turn(k, 2.25)).sum(-1), rtol=0, atol=1e-5)


def test_rotation_keeps_length_and_type():
    x = torch.randn(5, 2, 24).bfloat16()
    rotary = time_rotary(torch.arange(5), 24)
    assert rotate(x, rotary).dtype == torch.bfloat16
    torch.testing.assert_close(rotate(x.float(), rotary).norm(dim=-1), x.float().norm(dim=-1))
