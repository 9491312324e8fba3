"""The attention backend, through diffusers' dispatcher: native SDPA, flash-attn, xformers and others by name."""

import importlib.util
from contextlib import AbstractContextManager

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    attention_backend,
    dispatch_attention_fn,
)
from torch import Tensor

from shared.utils.errors import UserError

#: Name, with - for diffusers' _, and the package that it needs.
BACKENDS = {
    "native": None, "flash": "flash_attn", "flash-varlen": "flash_attn", "xformers": "xformers", "flex": None,
    "sage": "sageattention",
}  # fmt: skip


#: Of the backends, those that take a mask of pairs, and those that take one of keys.
TAKE_MASKS, TAKE_KEYS = ("native", "flex"), ("flash-varlen", "xformers")


#: Logits that `products` may keep: 128 MiB in bfloat16.
MOST_LOGITS = 2**26

#: Name that `active_backend` gives diffusers' `_native_math`.
AS_PRODUCTS = "-native-math"


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, keys: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(q kᵀ · scale) v on the active backend, [B, N, h, d], of q [B, N, h, d] and k, v [B, M, h, d].

    `scale`: 1/√d by default. `mask`: True where a key may be seen, broadcastable to [B, h, N, M]; `keys` [B, M]: True
    where there is a key at all. Where the backend takes no such mask the native one computes.
    """
    backend = active_backend()
    if keys is not None:
        mask = keys if backend in TAKE_KEYS else keys[:, None, None]
    native = mask is not None and backend not in (TAKE_MASKS if keys is None else TAKE_MASKS + TAKE_KEYS)
    # under autocast a norm gives float32, which only the native backend brings back to what the values have
    q, k = q.type_as(v), k.type_as(v)
    if mask is None and kernel_learns_slowly(q, k):
        return products(q, k, v, scale)
    chosen = AttentionBackendName.NATIVE if native else None
    return dispatch_attention_fn(q, k, v, attn_mask=mask, scale=scale, backend=chosen)


def active_backend() -> str:
    """Name, as in `BACKENDS`, of what `use_backend` has chosen."""
    name, _ = _AttentionBackendRegistry.get_active_backend()
    return str(getattr(name, "value", name)).replace("_", "-")


def products_are_faster(x: Tensor) -> bool:
    """Whether small attentions of `x` are faster as matrix products than in a kernel that needs copies of what it
    reads: on a CPU. Not where they are compiled: torch's compiler (2.13) takes wrong gradients of a part of a softmax.
    Where operations are counted (`shared.nn.flops`) all attention is its products.
    """
    return active_backend() == AS_PRODUCTS or (
        x.device.type == "cpu" and active_backend() == "native" and not torch.compiler.is_compiling()
    )


def kernel_learns_slowly(q: Tensor, k: Tensor) -> bool:
    """Whether the native kernel, for queries and keys [B, N, h, d], takes longer in backward than plain products do:
    in bfloat16 on a CPU (torch 2.13), where it multiplies outside the processor's matrix units. Not where the logits
    that products keep would be more than MOST_LOGITS."""
    native = active_backend() == "native" and not torch.compiler.is_compiling()
    learns = q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad
    return native and learns and q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1] <= MOST_LOGITS


def products(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """`attend` without masks as two matrix products and a softmax, all in the precision of what is given."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    logits = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-1, -2)
    return (logits.softmax(-1).type_as(v) @ v).transpose(1, 2)


def use_backend(name: str, option: str = "attention backend", learns: bool = False) -> AbstractContextManager[None]:
    """Run all attention of both streams on `name` in this context. UserError as `check_backend`."""
    check_backend(name, option, learns)
    return attention_backend(name.replace("-", "_"))


def check_backend(name: str, option: str, learns: bool = False) -> None:
    """Raise UserError, which names `option`, if a backend is unknown or cannot run here; `learns`: backward, too."""
    if name not in BACKENDS:
        raise UserError(f"{option} {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    package = BACKENDS[name]
    if package and importlib.util.find_spec(package) is None:
        raise UserError(f"{option} {name!r} needs the package {package}, which is not installed")
    if package and not torch.cuda.is_available():
        raise UserError(f"{option} {name!r} needs a CUDA device; use 'native' on a CPU")
    if learns and name == "flex" and not torch.cuda.is_available():
        raise UserError(f"{option} {name!r} computes no gradients without a CUDA device; use 'native' on a CPU")
    if learns and name == "sage":
        raise UserError(f"{option} {name!r} computes no gradients; it is for sampling alone")
