"""What a training pass of the joint model keeps, and its parameters, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ccl.analysis.flops import Tokens
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.nn.clock import LatentClock
from shared.training.memory_estimate import Activations, Parameters, step_bytes

DEPTHS = (2, 3)
"""Blocks of the models that are looked at: all blocks are alike, so what the third adds every further one adds."""


@dataclass(frozen=True)
class LatentSizes:
    """One clip as the model gets it: video latents F x H x W, audio tokens, text tokens; their clock."""

    frames: int
    height: int
    width: int
    audio: int
    text: int
    fps: float = 16.0
    temporal_stride: int = 4
    audio_rate: float = 25.0

    def tokens(self, patch: tuple[int, int]) -> Tokens:
        """With video patches of (height, width) latents."""
        return Tokens(self.frames, (self.height // patch[0]) * (self.width // patch[1]), self.audio, self.text)


def parameters(config: Mapping[str, Any]) -> Parameters:
    """Of a `DualStreamTransformer` with `config`, all of them trained."""
    few, more = (Parameters.of(_model(config, depth)) for depth in DEPTHS)
    return Parameters(*(_at_depth(config, getattr(few, n), getattr(more, n)) for n in ("trained", "frozen", "linear")))


def activations(
    config: Mapping[str, Any],
    sizes: LatentSizes,
    batch: int = 1,
    task: Task = Task.T2AV,
    precision: Literal["fp32", "bf16"] = "bf16",
    checkpointing: bool = False,
) -> Activations:
    """Of one forward and backward pass of `task` with `batch` clips; `checkpointing` keeps the blocks' inputs only."""
    found = []
    for depth in DEPTHS:
        model = _model(config, depth).train()
        video, audio = _inputs(model, sizes, batch)

        def run(model: DualStreamTransformer = model, video: StreamInput = video, audio: StreamInput = audio) -> Tensor:
            made = model(task.route, video, audio)
            return torch.stack([part.float().square().mean() for part in made if part is not None]).sum()

        found.append(step_bytes(model, run, precision, checkpointing))
    few, more = found
    return Activations(_at_depth(config, few.kept, more.kept), _at_depth(config, few.peak, more.peak))


def _at_depth(config: Mapping[str, Any], few: int, more: int) -> int:
    return few + (config["video"]["num_layers"] - DEPTHS[0]) * (more - few)


def _model(config: Mapping[str, Any], depth: int) -> DualStreamTransformer:
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    for stream in ("video", "audio"):
        arguments[stream] = {**arguments[stream], "num_layers": depth}
    with torch.device("meta"):
        return DualStreamTransformer(**arguments)


def _inputs(model: DualStreamTransformer, sizes: LatentSizes, batch: int) -> tuple[StreamInput, StreamInput]:
    video, audio = model.video_stream.config, model.audio_stream.config

    def empty(*shape: int) -> Tensor:
        return torch.empty(batch, *shape, device="meta")

    return (
        StreamInput(
            empty(video.in_channels, sizes.frames, sizes.height, sizes.width),
            empty(sizes.frames),
            empty(sizes.text, video.text_dim),
            LatentClock.causal_video(sizes.frames, sizes.fps, sizes.temporal_stride),
        ),
        StreamInput(
            empty(sizes.audio, audio.in_channels),
            empty(),
            empty(sizes.text, audio.text_dim),
            LatentClock.at_rate(sizes.audio, sizes.audio_rate),
        ),
    )
