"""TARP: temporally aligned rotary positions and partitions, from two latent clocks (CCL paper, "TARP").

Partition: frame i of the video reads s = min(A, 3·max(1, ⌊A/F⌋)) neighbouring audio tokens; audio token j reads the
tokens of one video frame. Positions: inside a group a logit sees only the time difference p_j − i, in units of video
latents (docs/design.md, "Clock and TARP").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from shared.nn.clock import LatentClock

Centre = Literal["exact", "paper"]
ClockMode = Literal["causal", "uniform"]


@dataclass(frozen=True)
class Alignment:
    """Who sees whom, and at which relative time. F video frames, A audio tokens.

    Attributes:
        window: [F, s] audio tokens read by each video frame.
        window_offset: [F, s] their positions p_j − i, float64, in video latents.
        frame: [A] the video frame read by each audio token.
        offset: [A] its position p_j − frame_j, float64.
        groups: [F, G] audio tokens by the frame they read, padded with token 0.
        slot: [A] where token j stands in `groups`, flattened: padded places are simply never read back.
    """

    window: Tensor
    window_offset: Tensor
    frame: Tensor
    offset: Tensor
    groups: Tensor
    slot: Tensor

    def to(self, device: torch.device | str) -> Alignment:
        return Alignment(**{name: value.to(device) for name, value in vars(self).items()})

    def video_reads(self, tokens: int) -> Tensor:
        """Dense reference mask [F, A], True where video frame i may see audio token j."""
        mask = torch.zeros(len(self.window), tokens, dtype=torch.bool)
        return mask.scatter_(1, self.window.cpu(), True)

    def audio_reads(self) -> Tensor:
        """Dense reference mask [A, F], True where audio token j may see video frame i."""
        return torch.nn.functional.one_hot(self.frame.cpu(), len(self.window)).bool()


def centres(video: LatentClock, audio: LatentClock, centre: Centre) -> Tensor:
    """[F] the audio token m_i in the middle of frame i's window, before the window slides inwards at the edges."""
    if centre == "paper":
        c = len(audio) // len(video)
        return c // 2 + c * torch.arange(len(video))
    return audio.index(video.centres)


def frames_of(video: LatentClock, audio: LatentClock, centre: Centre) -> Tensor:
    """[A] the video frame that each audio token reads."""
    if centre == "paper":
        return torch.arange(len(audio)) * len(video) // len(audio)
    return video.index(audio.centres)


def partition(video: LatentClock, audio: LatentClock, centre: Centre) -> tuple[Tensor, Tensor]:
    """The window [F, s] of audio tokens that each frame reads, and the frame [A] that each audio token reads."""
    size = min(len(audio), 3 * max(1, len(audio) // len(video)))
    low = (centres(video, audio, centre) - size // 2).clamp(0, len(audio) - size)
    return low[:, None] + torch.arange(size), frames_of(video, audio, centre)


@lru_cache(maxsize=256)
def align(video: LatentClock, audio: LatentClock, centre: Centre = "exact", mode: ClockMode = "causal") -> Alignment:
    """The partitions and aligned positions of two clocks; computed once per pair of clocks.

    `mode="uniform"` replaces the video's true intervals by F equal parts of the audio's duration, which the
    `paper` centres assume. Both forms agree when F divides A.
    """
    if mode == "uniform":
        video = LatentClock.uniform(len(video), audio.duration, audio.start)
    window, frame = partition(video, audio, centre)
    position = video.position(audio.centres)
    return Alignment(
        window=window,
        window_offset=position[window] - torch.arange(len(video))[:, None],
        frame=frame,
        offset=position - frame,
        **_group(frame, len(video)),
    )


def _group(frame: Tensor, frames: int) -> dict[str, Tensor]:
    """Audio tokens sorted into [F, G] by the frame they read; `frame` is non-decreasing."""
    counts = torch.bincount(frame, minlength=frames)
    width = int(counts.max())
    rank = torch.arange(len(frame)) - (counts.cumsum(0) - counts)[frame]
    slot = frame * width + rank
    groups = torch.zeros(frames * width, dtype=torch.long)
    groups[slot] = torch.arange(len(frame))
    return {"groups": groups.view(frames, width), "slot": slot}
