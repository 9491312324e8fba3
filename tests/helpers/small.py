"""A small joint pipeline without weights that stay at zero, for the tests of adapters and of memory."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.encoders import HashedWords
from shared.utils.rng import generator

STREAM = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32, "text_dim": 12}


def randomised(module: Any, std: float = 0.3) -> Any:
    """Random values where a weight starts at zero, so that no path is dead."""
    for name, weight in module.named_parameters():
        if not weight.any():
            nn.init.normal_(weight, std=std, generator=generator(0, "weights", name))
    return module.eval()


def transformer(std: float = 0.3, distilled: dict[str, Any] | None = None, **video: Any) -> DualStreamTransformer:
    """`video`: options of its stream; `distilled`: what a model of few steps says of itself."""
    torch.manual_seed(0)
    both = STREAM | {"average": distilled is not None}
    streams = both | {"in_channels": 4} | video, both | {"in_channels": 5}
    model = DualStreamTransformer(*streams, cca_heads=2, cca_head_dim=12, context_tokens=2, distilled=distilled)
    return randomised(model, std)


def pipeline(model: DualStreamTransformer) -> CCLPipeline:
    made = CCLPipeline(
        model,
        LinearVideoCodec(latent_channels=4),
        LinearAudioCodec(latent_channels=5, iterations=1),
        HashedWords(dim=12, max_length=4),
        FlowMatchEulerDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(),
        height=32,
        width=32,
    )
    made.set_progress_bar_config(disable=True)
    return made


def sample(pipe: CCLPipeline, **options: Any) -> Tensor:
    """The latents after two steps, of one stream after the other."""
    last: dict[str, Tensor] = {}
    callback = lambda _, step, u, now: last.update(now)  # noqa: E731
    pipe("a bell", duration=5 / 16, num_inference_steps=2, callback_on_step_end=callback, **options)
    return torch.cat([last[name].flatten() for name in sorted(last)])
