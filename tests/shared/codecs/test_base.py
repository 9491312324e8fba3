"""What codecs share: clocks, checks of lengths, keyframes, and pixels in both forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shared.codecs.base import UniformAudio, extended, frames_to_tensor, keyframe_latents, tensor_to_frames
from shared.utils.errors import UserError


class Tokens(UniformAudio):
    latent_rate, samples_per_token = 25.0, 640


class Mean:
    """A video codec's `encode` in so far as keyframes need it: latent 0 is frame 0, latent 1 the mean of the rest."""

    temporal_stride = 4

    def encode(self, video: Tensor) -> Tensor:
        return torch.cat([video[:, :, :1], video[:, :, 1:].mean(2, keepdim=True)], 2)[:, :, : min(2, video.shape[2])]


def test_tokens_of_sound_cover_every_sample() -> None:
    codec = Tokens()
    assert [codec.latent_tokens(n) for n in (1, 640, 641)] == [1, 1, 2]
    assert codec.clock(1280).ends == (0.04, 0.08)
    codec.check_samples(2, 1280)
    for samples in (0, 1281):
        with pytest.raises(UserError, match=f"2 audio tokens cannot be decoded to {samples} samples"):
            codec.check_samples(2, samples)


def test_a_keyframe_stands_still_for_its_latent() -> None:
    images = torch.rand(2, 3, 8, 8)
    for first in (True, False):
        latents = keyframe_latents(Mean(), images, first)  # type: ignore[arg-type]
        assert latents.shape == (2, 3, 1, 8, 8)
        torch.testing.assert_close(latents[:, :, 0], images)


def test_pixels_go_to_tensors_and_back() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8, 1).expand(-1, -1, -1, -1, 3)
    assert torch.equal(tensor_to_frames(frames_to_tensor(frames)), frames)
    clip = torch.rand(1, 3, 2, 4, 4)
    assert torch.equal(extended(clip, 4)[:, :, 2:], clip[:, :, 1:].expand(-1, -1, 2, -1, -1))
