"""Given parts: a track of the sound, its speech or its effects, is given, and the whole mix is made with the video.

The given track is encoded by the audio codec, like the mix, to tokens on the same clock, and enters the audio stream as
more channels of its input: beside the patch embedding of the noisy mix stands one of the given track, zero at first,
and a learned vector that tells which track it is (docs/design.md, section 4). Other tasks add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ccl.routing import PARTS
from shared.data.in_memory import as_sound
from shared.data.media import read_mono
from shared.utils.errors import UserError
from shared.utils.levels import why_silent
from shared.utils.rng import generator

#: A given track: a file, or samples in [-1, 1], [N], [1, N] or [B, 1, N], with their rate in Hz.
GivenTrack = str | Path | tuple[Any, int]


@dataclass(frozen=True)
class GivenPart:
    """The given track of each sample of a batch."""

    latents: Tensor  # [B, A, C], by the audio codec, never noisy
    track: Tensor  # [B] int64, its place among the model's `parts`

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> GivenPart:
        """Move it, the latents in `dtype`."""
        return replace(self, latents=self.latents.to(device, dtype), track=self.track.to(device))


class PartEmbedding(nn.Module):
    """What a given track adds to the tokens of the audio stream: nothing, until it is trained."""

    def __init__(self, channels: int, width: int, tracks: Sequence[str]) -> None:
        """ValueError for a track that cannot be given, or one named twice."""
        if unknown := [name for name in tracks if name not in PARTS]:
            raise ValueError(f"parts has {unknown[0]!r}; choose among {', '.join(PARTS)}")
        if len(set(tracks)) < len(tracks):
            raise ValueError(f"parts names a track twice: {', '.join(tracks)}")
        super().__init__()
        self.patch, self.track = nn.Linear(channels, width, bias=False), nn.Embedding(len(tracks), width)
        for layer in (self.patch, self.track):
            nn.init.zeros_(layer.weight)

    def forward(self, part: GivenPart) -> Tensor:
        """[B, A, D]."""
        return self.patch(part.latents) + self.track(part.track)[:, None]


def draw_track(seed: int, step: int, clip: str, there: Sequence[str]) -> str:
    """Choose one of the tracks that are `there`."""
    return there[int(torch.randint(len(there), (), generator=generator(seed, "part", step, clip)))]


def read_track(given: GivenTrack, rate: int, name: str) -> Tensor:
    """Read a given track as [B or 1, 1, N] at `rate` Hz. UserError, which calls it `name`, for a file that cannot be
    read, samples of another form, or silence."""
    if isinstance(given, str | Path):
        samples, loudest = read_mono(given, rate)
        if reason := why_silent(samples, loudest):
            raise UserError(f"{given}: {reason}")
        return torch.from_numpy(samples)[None]
    sound = as_sound(given, rate, name=name)
    rows = sound[:, 0].numpy()
    if reason := next(filter(None, map(why_silent, rows)), ""):
        raise UserError(f"{name}: {reason}")
    return sound
