"""TARP: temporally aligned rotary positions and partitions, from two latent clocks (CCL paper, "TARP").

Partition: frame i of the video reads s = min(A, 3·max(1, c)) neighbouring audio tokens, c those of one whole video
latent; audio token j reads the tokens of one video frame. Positions: inside a group a logit sees only the time
difference p_j − i, in units of video latents (docs/design.md, "Clock and TARP").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from shared.nn.clock import LatentClock

Centre = Literal["exact", "paper"]
ClockMode = Literal["causal", "uniform"]
#: What says how many audio tokens one video latent has: the codecs' nominal rates, or how many the clip has of both.
WindowFrom = Literal["rates", "counts"]


@dataclass(frozen=True)
class Alignment:
    """Who sees whom, and at which relative time (float64, in video latents). F video frames, A audio tokens."""

    window: Tensor  # [F, s] audio tokens read by each video frame
    window_offset: Tensor  # [F, s] their positions p_j − i
    frame: Tensor  # [A] the video frame read by each audio token
    offset: Tensor  # [A] its position p_j − frame_j
    groups: Tensor  # [F, G] audio tokens by the frame they read, padded with token 0
    slot: Tensor  # [A] where token j stands in `groups`, flattened; padded places are never read back

    def to(self, device: torch.device | str) -> Alignment:
        return Alignment(**{name: value.to(device) for name, value in vars(self).items()})

    def of_frames(self, frames: slice) -> Alignment:
        """Keep what some video frames read."""
        return replace(self, window=self.window[frames], window_offset=self.window_offset[frames])

    def of_tokens(self, tokens: slice) -> tuple[Alignment, slice]:
        """Keep what some audio tokens read, in groups of the frames that they read alone, which are returned too. The
        tokens are numbered from the first of them."""
        frame = self.frame[tokens]
        frames = slice(int(frame[0]), int(frame[-1]) + 1)
        groups = _group(frame - frames.start, frames.stop - frames.start)
        return replace(self, frame=frame, offset=self.offset[tokens], **groups), frames

    def video_reads(self, tokens: int) -> Tensor:
        """Dense reference mask [F, A], True where video frame i may see audio token j."""
        mask = torch.zeros(len(self.window), tokens, dtype=torch.bool)
        return mask.scatter_(1, self.window.cpu(), True)

    def audio_reads(self) -> Tensor:
        """Dense reference mask [A, F], True where audio token j may see video frame i."""
        return torch.nn.functional.one_hot(self.frame.cpu(), len(self.window)).bool()


def centres(video: LatentClock, audio: LatentClock, centre: Centre) -> Tensor:
    """[F] the audio token m_i in the middle of frame i's window, before the window slides inwards at the edges."""
    if centre == "exact":
        return audio.index(video.centres)
    c = len(audio) // len(video)
    return c // 2 + c * torch.arange(len(video))


def window_size(video: LatentClock, audio: LatentClock, centre: Centre, window_from: WindowFrom = "rates") -> int:
    """Count the audio tokens s that each frame reads: min(A, 3·max(1, c)), three latents wide.

    By `rates` c = ⌊τ_v·q⌋, τ_v the seconds of one whole video latent and q audio tokens a second: the same in a clip of
    any length. By `counts` c = ⌊A/F⌋, which grows with the clip, as the causal clock's first latent is one frame; the
    `paper` form is always so.
    """
    by_counts = centre == "paper" or window_from == "counts"
    tokens = len(audio) // len(video) if by_counts else math.floor(audio.rate / video.rate + 1e-6)
    return min(len(audio), 3 * max(1, tokens))


def partition(
    video: LatentClock, audio: LatentClock, centre: Centre, window_from: WindowFrom = "rates"
) -> tuple[Tensor, Tensor]:
    """Find the window [F, s] of audio tokens that each frame reads, and the frame [A] that each audio token reads."""
    size = window_size(video, audio, centre, window_from)
    low = (centres(video, audio, centre) - size // 2).clamp(0, len(audio) - size)
    paper = torch.arange(len(audio)) * len(video) // len(audio)
    return low[:, None] + torch.arange(size), video.index(audio.centres) if centre == "exact" else paper


@lru_cache(maxsize=256)
def align(
    video: LatentClock, audio: LatentClock, centre: Centre = "exact", mode: ClockMode = "causal",
    window_from: WindowFrom = "rates",
) -> Alignment:  # fmt: skip
    """Make the partitions and aligned positions of two clocks; computed once per pair of clocks.

    `mode="uniform"` replaces the video's true intervals by F equal parts of the audio's duration, which the
    `paper` centres assume; its nominal rate stays. Where F divides A both forms agree, if the windows are equally long.
    """
    if mode == "uniform":
        video = LatentClock.uniform(len(video), audio.duration, audio.start, video.rate)
    window, frame = partition(video, audio, centre, window_from)
    position = video.position(audio.centres)
    window_offset = position[window] - torch.arange(len(video))[:, None]
    return Alignment(window, window_offset, frame, position - frame, **_group(frame, len(video)))


def _group(frame: Tensor, frames: int) -> dict[str, Tensor]:
    """Audio tokens sorted into [F, G] by the frame they read; `frame` is non-decreasing."""
    counts, tokens = torch.bincount(frame, minlength=frames), torch.arange(len(frame))
    width = int(counts.max())
    slot = frame * width + tokens - (counts.cumsum(0) - counts)[frame]
    groups = torch.zeros(frames * width, dtype=torch.long)
    groups[slot] = tokens
    return {"groups": groups.view(frames, width), "slot": slot}
