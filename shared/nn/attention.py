"""The attention backend, through diffusers' dispatcher: native SDPA, flash-attn, xformers and others by name."""

import importlib.util
from contextlib import AbstractContextManager

import torch
from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn
from torch import Tensor

from shared.utils.errors import UserError

#: Name, with - for diffusers' _, and the package that it needs.
BACKENDS = {
    "native": None, "flash": "flash_attn", "flash-varlen": "flash_attn", "xformers": "xformers", "flex": None,
    "sage": "sageattention",
}  # fmt: skip


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ/√d) v on the active backend, [B, N, h, d], of q [B, N, h, d] and k, v [B, M, h, d].

    `mask`: True where a key may be seen, broadcastable to [B, h, N, M]; only `native` and `flex` take one.
    """
    return dispatch_attention_fn(q, k, v, attn_mask=mask)


def use_backend(name: str) -> AbstractContextManager[None]:
    """Run all attention of both streams on `name` in this context. UserError if it is unknown or cannot run here."""
    if name not in BACKENDS:
        raise UserError(f"attention backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    package = BACKENDS[name]
    if package and importlib.util.find_spec(package) is None:
        raise UserError(f"attention backend {name!r} needs the package {package}, which is not installed")
    if package and not torch.cuda.is_available():
        raise UserError(f"attention backend {name!r} needs a CUDA device; use 'native' on a CPU")
    return attention_backend(name.replace("-", "_"))
