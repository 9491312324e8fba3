"""Small models and inputs for the tests of `ccl`: two towers of different width, and a CCA of a third."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ccl.fusion import RotaryArguments
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput, embed
from shared.nn.clock import LatentClock
from shared.utils.rng import generator

FRAMES, SIDE, TOKENS, TEXT = 4, 4, 21, (3, 12)
VIDEO, AUDIO = (4, FRAMES, SIDE, SIDE), (TOKENS, 5)
VIDEO_CLOCK, AUDIO_CLOCK = LatentClock.causal_video(FRAMES, 16.0, 4), LatentClock.at_rate(TOKENS, 25.0)

CONFIG: dict[str, Any] = {
    "video": {
        "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64,
        "text_dim": 12, "freq_dim": 32, "skip": True,
    },
    "audio": {
        "in_channels": 5, "num_attention_heads": 3, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 48,
        "text_dim": 12, "freq_dim": 32, "time_unit": 0.25,
    },
    "cca_heads": 2, "cca_head_dim": 16, "context_tokens": 3,
}  # fmt: skip


def randomise(module: nn.Module, keep: str = "never") -> None:
    """Random values for every parameter that starts at zero, so that no path is dead; names with `keep` stay."""
    for name, parameter in module.named_parameters():
        if not parameter.any() and keep not in name:
            nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))


def transformer(keep: str = "never", **changes: Any) -> DualStreamTransformer:
    """A model whose zero-initialised weights are random, but for those with `keep` in their name."""
    torch.manual_seed(0)
    model = DualStreamTransformer(**(CONFIG | changes)).eval()
    randomise(model, keep)
    return model


def noise(name: str, *shape: int) -> Tensor:
    """Standard normal values that depend on the name alone."""
    return torch.randn(shape, generator=generator(0, "tests", name))


def inputs(name: str = "a", batch: int = 2, sigma: float = 0.7) -> tuple[StreamInput, StreamInput]:
    """Video and audio of a batch, different for each `name`."""
    level = torch.full((batch,), sigma)
    return (
        StreamInput(noise(f"v{name}", batch, *VIDEO), level, noise(f"tv{name}", batch, *TEXT), VIDEO_CLOCK),
        StreamInput(noise(f"a{name}", batch, *AUDIO), level, noise(f"ta{name}", batch, *TEXT), AUDIO_CLOCK),
    )


def rotary_arguments(model: DualStreamTransformer, video: StreamInput, audio: StreamInput) -> RotaryArguments:
    """What the video's and the audio's fusion are given in a pass of t2av."""
    return model._rotary(Task.T2AV.route, video, audio, embed(model.video_stream, video))


@contextmanager
def counted(model: nn.Module) -> Iterator[list[Any]]:
    """The routes of the forward passes of `model` while this lasts."""
    routes: list[Any] = []
    hook = model.register_forward_pre_hook(lambda _, args: routes.append(args[0]))
    yield routes
    hook.remove()
