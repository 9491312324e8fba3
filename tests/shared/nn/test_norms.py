"""Norms with a backward of their own: equal to torch's in value and gradient, for any shape and what needs one."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import nn

from shared.nn import norms
from shared.nn.norms import RMSNorm, add_modulated, modulate, modulated_norm


def close(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * float(other.abs().max()))


@pytest.mark.parametrize("shape", [(2, 7, 16), (1, 3, 2, 16), (16,), (5000, 16)])
def test_rms_norm_is_torchs(shape, monkeypatch) -> None:
    monkeypatch.setattr(norms, "PART", 16 * 700)  # several parts, the last one shorter
    mine, torchs = RMSNorm(16, 1e-6), nn.RMSNorm(16, 1e-6)
    with torch.no_grad():
        mine.weight.uniform_(-1, 2)
    torchs.load_state_dict(mine.state_dict())
    x, grad = torch.randn(shape, requires_grad=True), torch.randn(shape)
    out = [norm(x) for norm in (mine, torchs)]
    close(out[:1], out[1:])
    close(*(torch.autograd.grad(y, (x, norm.weight), grad) for y, norm in zip(out, (mine, torchs), strict=True)))


def test_rms_norm_of_zeros_and_of_what_lies_otherwise_in_memory() -> None:
    norm = RMSNorm(8, 1e-6)
    assert not norm(torch.zeros(2, 8)).any()
    x = torch.randn(8, 6).t()
    torch.testing.assert_close(norm(x), nn.RMSNorm(8, 1e-6)(x))
    (grad,) = torch.autograd.grad(norm(torch.zeros(2, 8, requires_grad=True)).sum(), (norm.weight,))
    assert not grad.any()


@pytest.mark.parametrize("frames", [1, 3])
def test_modulated_norm_is_norm_and_modulation(frames) -> None:
    norm = FP32LayerNorm(16, 1e-6, elementwise_affine=False)
    x, scale, shift = (torch.randn(2, n, 16, requires_grad=True) for n in (12, frames, frames))
    grad = torch.randn(2, 12, 16)
    mine, plain = modulated_norm(norm, x, scale, shift), modulate(norm(x), scale, shift)
    close([mine], [plain])
    close(*(torch.autograd.grad(out, (x, scale, shift), grad) for out in (mine, plain)))


@pytest.mark.parametrize("frames", [1, 3])
def test_a_gated_update_is_added(frames) -> None:
    x, update, gate = (torch.randn(2, n, 16, requires_grad=True) for n in (12, 12, frames))
    grad = torch.randn(2, 12, 16)
    mine, plain = add_modulated(x, update, gate), x + modulate(update, gate)
    close([mine], [plain])
    close(*(torch.autograd.grad(out, (x, update, gate), grad) for out in (mine, plain)))
    half = add_modulated(x.bfloat16(), update.bfloat16(), gate)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, rtol=2e-2, atol=5e-2)


def test_only_what_needs_a_gradient_gets_one() -> None:
    norm = FP32LayerNorm(16, 1e-6, elementwise_affine=False)
    x, scale, shift = torch.randn(2, 12, 16), torch.randn(2, 3, 16), torch.randn(2, 3, 16, requires_grad=True)
    modulated_norm(norm, x, scale, shift).sum().backward()
    rms = RMSNorm(16, 1e-6).requires_grad_(False)
    y = torch.randn(2, 16, requires_grad=True)
    rms(y).sum().backward()
    assert shift.grad is not None and y.grad is not None and x.grad is None and rms.weight.grad is None


@pytest.mark.parametrize("how", ["bf16", "autocast", "meta", "no_grad"])
def test_elsewhere_torch_computes(how) -> None:
    device, dtype = ("meta" if how == "meta" else "cpu"), (torch.bfloat16 if how == "bf16" else torch.float32)
    norm, x = RMSNorm(16, 1e-6).to(device, dtype), torch.randn(2, 16, device=device, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", enabled=how == "autocast"), torch.set_grad_enabled(how != "no_grad"):
        out = norm(x)
    own = out.grad_fn is not None and "_RMSNormBackward" in type(out.grad_fn).__name__
    assert not own and out.dtype == dtype and out.device.type == device


def test_the_gradients_are_those_of_the_values() -> None:
    """Against finite differences, in float64 where torch computes and in float32 where these do."""
    norm = FP32LayerNorm(4, 1e-6, elementwise_affine=False)
    x, scale, shift, grad = (torch.randn(1, n, 4, requires_grad=True) for n in (4, 2, 2, 4))
    rms = RMSNorm(4, 1e-6)

    def value(moved):
        return float((grad.detach() * rms(modulated_norm(norm, moved, scale, shift))).double().sum())

    (rms(modulated_norm(norm, x, scale, shift)) * grad.detach()).sum().backward()
    direction = torch.randn_like(x)
    with torch.no_grad():
        difference = (value(x + 1e-2 * direction) - value(x - 1e-2 * direction)) / 2e-2
    assert x.grad is not None
    assert difference == pytest.approx(float((x.grad * direction).sum()), rel=3e-2, abs=3e-2)
