"""The norms of a block, with a backward of their own where torch has none that is fused: float32 on a CPU.

There torch makes a pass over memory for every operation of RMSNorm and of the modulation after a LayerNorm. Here the
backward goes over parts that stay in a core's cache; measured in docs/performance.md, "The training step".
"""

from typing import Any

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Values of a part, per thread: 256 KiB of float32, of which four are at hand together.
PART = 2**16


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` over the last dimension, with its parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> x / sqrt(mean(x²) + eps) · weight."""
        if self.weight is None or self.eps is None or not _own(x, self.weight):
            return super().forward(x)
        return _RMSNorm.apply(x, self.weight, self.eps)


def modulate(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    """x·scale (+ shift) with x [B, N, D] and one vector per latent frame, scale and shift [B, T, D]; in fp32."""
    grouped = x.float().unflatten(1, (scale.shape[1], -1)) * scale[:, :, None]
    return (grouped if shift is None else grouped + shift[:, :, None]).flatten(1, 2)


def modulated_norm(norm: FP32LayerNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`modulate(norm(x), scale, shift)` in fp32; `norm` has no parameters."""
    if not _own(x, scale, shift):
        return modulate(norm(x.float()), scale, shift)
    return _ModulatedNorm.apply(x, scale, shift, norm.eps)


def add_modulated(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """`x + modulate(update, gate)` in fp32, given as x is; x and update [B, N, D], gate [B, T, D]."""
    if not _own(x, update, gate):
        return (x.float() + modulate(update, gate)).type_as(x)
    grouped, updates = (part.unflatten(1, (gate.shape[1], -1)) for part in (x, update))
    return torch.addcmul(grouped, updates, gate[:, :, None]).flatten(1, 2)


def _own(*tensors: Tensor) -> bool:
    """Whether what is here is faster than torch's own."""
    plain = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return plain and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        root = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        root = root.square_().div_(rows.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(rows, weight, root)
        return torch.mul(rows, root).mul_(weight).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, root = ctx.saved_tensors
        back, weight_grad = torch.empty_like(rows), torch.zeros_like(weight)
        # y = r·x·w, so dx = r·(g·w − x·r²·mean(g·w·x)), and dw = Σ g·x·r
        for x, g, r, dx in _parts(rows, grad.reshape(rows.shape), root, back):
            product = g * x
            weight_grad.addmv_(product.t(), r[:, 0])
            along = (product @ weight)[:, None] * r.pow(3) / rows.shape[-1]
            torch.mul(g, weight, out=dx).mul_(r).addcmul_(x, along, value=-1)
        return back.view(grad.shape), weight_grad, None


class _ModulatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        normed, mean, root = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, normed, mean, root, scale)
        frames = normed.unflatten(1, (scale.shape[1], -1))
        return torch.addcmul(shift[:, :, None], frames, scale[:, :, None]).flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, normed, mean, root, scale = ctx.saved_tensors
        back, scale_grad, shift_grad = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
        g, y = (part.unflatten(1, (scale.shape[1], -1)) for part in (grad.contiguous(), normed))
        for b in range(len(x)):  # a sample
            part = g[b] * y[b]
            torch.sum(part, 1, out=scale_grad[b])
            torch.sum(g[b], 1, out=shift_grad[b])
            torch.mul(g[b], scale[b, :, None], out=part)
            statistics = mean[b], root[b]
            wanted = part.flatten(0, 1), x[b], x.shape[-1:], *statistics, None, None, (True, False, False)
            back[b] = torch.ops.aten.native_layer_norm_backward(*wanted)[0]
        return back, scale_grad, shift_grad, None


def _parts(*tensors: Tensor) -> Any:
    """Take the same rows of all tensors [N, ...], so many that they stay in cache."""
    size = max(1, PART * torch.get_num_threads() // tensors[0].shape[-1])
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)
