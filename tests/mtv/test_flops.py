"""Counted costs of the control network against torch's own count of what runs."""

from __future__ import annotations

import pytest
import torch
from test_control import LATENTS, VARIANTS, WIDTH, features, network, noise
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtv.flops import forward_flops


@torch.no_grad()
@pytest.mark.parametrize("changes", [*VARIANTS, {"injection_every": 2}])
@pytest.mark.parametrize("speakers", [1, 2])
def test_costs_are_what_torch_counts(changes, speakers):
    control, space = network(**changes), 6
    x = noise("x", 1, LATENTS * space, WIDTH)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hook = control(features(batch=1, voices=speakers), torch.full((1, LATENTS), 0.5))
        for block in range(2):
            x = hook(block, x)
    assert forward_flops(control, LATENTS, space, speakers) == counter.get_total_flops()
