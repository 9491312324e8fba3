"""Counted costs of the control network against torch's own count of what runs."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from test_control import LATENTS, VARIANTS, WIDTH, features, network, noise
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtv.cogvideox.backbone import rotary_embedding
from mtv.flops import cogvideox_flops, forward_flops


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


@torch.no_grad()
@pytest.mark.parametrize("rotary", [False, True])
def test_costs_of_cogvideox_are_those_of_a_pass_that_runs(rotary):
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=12, num_layers=2, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=6,
        use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    x = torch.zeros(1, 3, 4, 8, 8)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, torch.zeros(1, 6, 12), torch.zeros(1).long(), image_rotary_emb=rotary_embedding(model, x))
    counted = cogvideox_flops(model, tuple(x.shape[1:]), 6)
    assert counted == counter.get_total_flops() > 0
