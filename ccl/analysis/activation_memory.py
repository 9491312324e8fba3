"""What a training pass of the joint model keeps, and its parameters, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ccl.analysis.memory_estimate import Activations, Parameters, step_bytes
from ccl.flops import Tokens, meta_inputs, on_meta
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.nn.clock import LatentClock

DEPTHS = (2, 3)
"""Blocks of the models that are looked at: all blocks are alike, so what the third adds every further one adds."""

Counts = TypeVar("Counts", Parameters, Activations)


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
    return _at_depth(config, *(Parameters.of(on_meta(config, depth)) for depth in DEPTHS))


def activations(
    config: Mapping[str, Any], sizes: LatentSizes, batch: int = 1, task: Task = Task.T2AV,
    precision: Literal["fp32", "bf16"] = "bf16", checkpointing: bool = False,
) -> Activations:  # fmt: skip
    """Of one forward and backward pass of `task` with `batch` clips; `checkpointing` keeps the blocks' inputs only."""
    latents, measured = (sizes.frames, sizes.height, sizes.width), []
    video_clock = LatentClock.causal_video(sizes.frames, sizes.fps, sizes.temporal_stride)
    clocks = video_clock, LatentClock.at_rate(sizes.audio, sizes.audio_rate)
    for depth in DEPTHS:
        model = on_meta(config, depth).train()
        video, audio = meta_inputs(model, latents, sizes.audio, sizes.text, clocks, batch)

        def run(model: DualStreamTransformer = model, video: StreamInput = video, audio: StreamInput = audio) -> Tensor:
            made = model(task.route, video, audio)
            return torch.stack([part.float().square().mean() for part in made if part is not None]).sum()

        measured.append(step_bytes(model, run, precision, checkpointing))
    return _at_depth(config, *measured)


def _at_depth(config: Mapping[str, Any], few: Counts, more: Counts) -> Counts:
    """Carry the counts at `DEPTHS` on to the depth of the config, number by number."""
    further = config["video"]["num_layers"] - DEPTHS[0]
    return type(few)(*(a + further * (b - a) for a, b in zip(few, more, strict=True)))
