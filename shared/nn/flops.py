"""Operations of a model's pass, by torch's own count: two for each multiplication of a matrix product."""

from collections.abc import Callable

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(run: Callable[[], object]) -> int:
    """Operations of `run()`, attention as its matrix products; a pass of a model on the meta device will do."""
    math = sdpa_kernel(SDPBackend.MATH)
    with (
        torch.no_grad(),
        attention_backend(AttentionBackendName._NATIVE_MATH),
        math,
        FlopCounterMode(display=False) as counter,
    ):
        run()
    return int(counter.get_total_flops())
