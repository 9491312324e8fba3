"""What every codec does: turn pixels or sound into latents and back, and say when each latent lives.
Over typical data latents have mean 0 and, over all channels, variance 1; only the codec knows its mean and scale."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from shared.nn.clock import LatentClock
from shared.utils.errors import UserError
from shared.utils.finite import check_finite


@runtime_checkable
class VideoCodec(Protocol):
    """Video [B, 3, T, H, W], float32 in [-1, 1] <-> latents [B, C, F, h, w], h = H / spatial_stride, w likewise.
    The clock is causal: latent 0 is frame 0 alone, latent i >= 1 is frames r(i-1)+1 .. ri with r = `temporal_stride`,
    so F = 1 + ceil((T - 1) / r). A last, incomplete latent is filled by repeating the last frame."""

    latent_channels: int
    temporal_stride: int
    spatial_stride: int

    def encode(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, C, F, h, w], deterministic. UserError if a side is no multiple of the stride."""

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, frames, H, W], clamped to [-1, 1]; the padded tail is cut off."""

    def latent_frames(self, frames: int) -> int:
        """F for T frames."""

    def clock(self, frames: int, fps: float) -> LatentClock:
        """When each of the F latents starts and ends, in seconds from the start of the clip."""


@runtime_checkable
class AudioCodec(Protocol):
    """Sound [B, 1, N], float32 in [-1, 1] at `sample_rate` <-> latents [B, A, C], A = ceil(N / sample_rate * rate).
    Token j of a codec of `latent_rate` q stands for the interval [j / q, (j + 1) / q) seconds (a causal codec states
    its own intervals). An incomplete last token is filled with silence. The level of the sound is kept."""

    sample_rate: int
    latent_channels: int
    latent_rate: float

    def encode(self, audio: Tensor) -> Tensor:
        """[B, 1, N] -> [B, A, C], deterministic."""

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        """[B, A, C] -> [B, 1, samples], clamped to [-1, 1]; equal latents give equal samples."""

    def latent_tokens(self, samples: int) -> int:
        """Count A for N samples."""

    def clock(self, samples: int) -> LatentClock:
        """When each of the A tokens starts and ends, in seconds from the start of the clip."""


class CausalVideo:
    """Clock and checks of a `VideoCodec`."""

    temporal_stride: int
    spatial_stride: int

    def latent_frames(self, frames: int) -> int:
        return 1 + math.ceil((frames - 1) / self.temporal_stride)

    def clock(self, frames: int, fps: float) -> LatentClock:
        return LatentClock.causal_video(self.latent_frames(frames), fps, self.temporal_stride)

    def check_sides(self, height: int, width: int) -> None:
        """Raise UserError if a side is no multiple of `spatial_stride`."""
        if height % (stride := self.spatial_stride) or width % stride:
            raise UserError(f"the video is {height}x{width} pixels; both sides must be multiples of {stride}")

    def check_frames(self, latents: int, frames: int) -> None:
        """Raise UserError if so many latents hold fewer frames."""
        if not 0 < frames <= 1 + (latents - 1) * self.temporal_stride:
            raise UserError(f"{latents} video latents cannot be decoded to {frames} frames")


class UniformAudio:
    """Clock and checks of an `AudioCodec` whose tokens are `samples_per_token` samples each."""

    latent_rate: float
    samples_per_token: int

    def latent_tokens(self, samples: int) -> int:
        return math.ceil(samples / self.samples_per_token)

    def clock(self, samples: int) -> LatentClock:
        return LatentClock.at_rate(self.latent_tokens(samples), self.latent_rate)

    def check_samples(self, tokens: int, samples: int) -> None:
        """Raise UserError if so many tokens hold fewer samples."""
        if not 0 < samples <= tokens * self.samples_per_token:
            raise UserError(f"{tokens} audio tokens cannot be decoded to {samples} samples")


@dataclass(frozen=True)
class Codecs:
    """The codec of each stream."""

    video: VideoCodec
    audio: AudioCodec


def keyframe_latents(codec: VideoCodec, images: Tensor, first: bool) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1] as keyframes: latents [B, C, 1, h, w]. A keyframe fills its latent: the image
    stands still for all frames of it. `first`: in latent 0, which is one frame."""
    if first:
        return codec.encode(images[:, :, None])
    still = images[:, :, None].expand(-1, -1, 1 + codec.temporal_stride, -1, -1)
    return codec.encode(still)[:, :, 1:]


def bounded(values: Tensor, part: str) -> Tensor:
    """Clamp decoded pixels or sound to [-1, 1]. UserError, which names `part`, for NaN, and for infinity, which the
    clamp would hide."""
    check_finite({part: values}, "in what it decoded")
    return values.clamp(-1, 1)


def extended(clip: Tensor, count: int) -> Tensor:
    """[B, C, T, H, W] -> [B, C, count, H, W], the last frame or latent repeated."""
    return torch.cat([clip, clip[:, :, -1:].expand(-1, -1, count - clip.shape[2], -1, -1)], 2)


def frames_to_tensor(frames: Tensor) -> Tensor:
    """uint8 [..., T, H, W, 3] as files hold it -> float32 [..., 3, T, H, W] in [-1, 1] as codecs read it."""
    return frames.movedim(-1, -4).float().div(127.5).sub(1.0)


def tensor_to_frames(video: Tensor) -> Tensor:
    """Pixels, float [..., 3, T, H, W] in [-1, 1] -> uint8 [..., T, H, W, 3]: the inverse of `frames_to_tensor`."""
    return video.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8).movedim(-4, -1)
