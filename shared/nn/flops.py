"""Operations of a model's pass, by torch's own count: two for each multiplication of a matrix product."""

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from shared.nn.attention import use_backend


def count_flops(run: Callable[[], object]) -> int:
    """Operations of `run()`, attention as its matrix products; a pass of a model on the meta device will do."""
    math = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), use_backend("native"), math, FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
