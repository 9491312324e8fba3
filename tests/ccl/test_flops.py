"""Costs of a twin without values against torch's count of what runs, and both against a count by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_baselines import VARIANTS
from tiny import FRAMES, SIDE, TEXT, TOKENS, inputs, transformer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ccl.flops import Tokens, costs, task_flops
from ccl.parts import GivenPart
from ccl.routing import Task
from shared.nn.clock import LatentClock
from shared.nn.dit import StreamConfig

SPACE = (SIDE // 2) ** 2


@torch.no_grad()
@pytest.mark.parametrize(("name", "tokens"), [*((name, TOKENS) for name in ("cca", *VARIANTS)), ("cca", 2)])
def test_costs_are_what_torch_counts(name, tokens):
    model = transformer(**VARIANTS.get(name, {}))
    video, audio = inputs(batch=1)
    clock, levels = LatentClock.uniform(FRAMES, tokens / 25), video.sigma[:, None].expand(-1, FRAMES)
    video = replace(video, clock=clock, sigma=levels)
    audio = replace(audio, latents=audio.latents[:, :tokens], clock=LatentClock.at_rate(tokens, 25.0))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(Task.T2AV.route, video, audio)
    found = costs(model.config, Tokens(FRAMES, SPACE, tokens, TEXT[0]))
    assert found.flops == counter.get_total_flops()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as alone:
        model.video_stream(video.latents, video.sigma, video.text)
        model.audio_stream(audio.latents.transpose(1, 2)[..., None, None], audio.sigma, audio.text, audio.clock)
    assert found.cross_modal_flops == counter.get_total_flops() - alone.get_total_flops()
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.cross_modal_parameters == sum(p.numel() for n, p in model.named_parameters() if ".fusion." in n)


@torch.no_grad()
@pytest.mark.parametrize("name", ["cca", "gate_hard", "full", "appended"])
@pytest.mark.parametrize("task", list(Task))
def test_a_task_costs_what_torch_counts(name, task):
    """A clean stream has no output layer, a skipped one costs nothing, and one that reads nothing little."""
    model = transformer(**({} if name == "cca" else {"fusion": name}), parts=["speech"] if task is Task.PART else [])
    video, audio = inputs(batch=1)
    if task is Task.PART:
        audio = replace(audio, part=GivenPart(audio.latents, torch.zeros(1, dtype=torch.int64)))
    video = replace(
        video, clock=LatentClock.uniform(FRAMES, TOKENS / 25), sigma=video.sigma[:, None].expand(-1, FRAMES)
    )
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(task.route, video, audio)
    assert task_flops(model, Tokens(FRAMES, SPACE, TOKENS, TEXT[0]), task) == counter.get_total_flops()


@torch.no_grad()
def test_a_window_by_rates_costs_what_torch_counts():
    """Three more keys for each video token, whatever F and A are."""
    (video, audio), model = inputs(batch=1), transformer(window_from="rates")
    video = replace(video, sigma=video.sigma[:, None].expand(-1, FRAMES))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(Task.A2V.route, video, audio)
    tokens = Tokens(FRAMES, SPACE, TOKENS, TEXT[0], audio.clock.rate / video.clock.rate)
    assert task_flops(model, tokens, Task.A2V) == counter.get_total_flops()
    by_counts, (blocks, width) = task_flops(model, tokens._replace(per_latent=None), Task.A2V), (2, 2 * 16)
    assert counter.get_total_flops() - by_counts == blocks * 2 * linear(FRAMES * SPACE, 18 - 15, width)


def linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def attention(pairs: int, width: int) -> int:
    """Logits and weighted sum."""
    return 4 * pairs * width


def of_stream(config: StreamConfig, tokens: int, levels: int) -> int:
    """A stream alone: embeddings, blocks and output. `levels`: noise levels of a clip."""
    width, values, text = config.width, config.patch_values, TEXT[0]
    ends = 2 * linear(tokens, values, width) + linear(text, config.text_dim, width) + linear(text, width, width)
    time = linear(levels, config.freq_dim, width) + linear(levels, width, width) + linear(levels, width, 6 * width)
    own = 4 * linear(tokens, width, width) + attention(tokens * tokens, width)
    read = 2 * (linear(tokens, width, width) + linear(text, width, width)) + attention(tokens * text, width)
    skip = linear(levels, width, config.in_channels) if config.skip else 0
    return ends + time + skip + config.num_layers * (own + read + 2 * linear(tokens, width, config.ffn_dim))


def test_ccl_costs_what_its_shapes_say():
    model, video, inner, learned = transformer(), FRAMES * SPACE, 32, 3
    v, a = model.video_stream.config, model.audio_stream.config
    window, padded = min(TOKENS, 3 * max(1, TOKENS // FRAMES)), FRAMES * -(-TOKENS // FRAMES)
    cross = 2 * (
        2 * (linear(video, v.width, inner) + linear(TOKENS + learned, a.width, inner))
        + attention(video * (learned + window), inner)
        + 2 * (linear(TOKENS, a.width, inner) + linear(video + learned, v.width, inner))
        + attention(padded * (learned + SPACE), inner)
    )
    found = costs(model.config, Tokens(FRAMES, SPACE, TOKENS, TEXT[0]))
    assert found.cross_modal_flops == cross
    assert found.flops == cross + of_stream(v, video, FRAMES) + of_stream(a, TOKENS, 1)


def test_a_real_size_is_counted_without_its_weights():
    """Two of the 30 blocks of Ovi's towers, with CCA a quarter as wide."""
    tower = {"num_attention_heads": 24, "attention_head_dim": 128, "num_layers": 2, "ffn_dim": 14336, "text_dim": 4096}
    config = {"video": tower | {"in_channels": 48}, "audio": tower | {"in_channels": 20}}
    found = costs({**config, "cca_heads": 6, "cca_head_dim": 128}, Tokens(31, 484, 157, 512))
    assert found.cross_modal_parameters == pytest.approx(4 * 4 * 3072 * 768, rel=0.01)
    blocks = 2 * (8 * 3072**2 + 2 * 3072 * 14336)
    embeddings = 7 * 3072**2 + (256 + 4096 + 3072) * 3072
    assert found.parameters - found.cross_modal_parameters == pytest.approx(2 * (blocks + embeddings), rel=0.01)
    assert found.cross_modal_flops < 0.05 * found.flops
