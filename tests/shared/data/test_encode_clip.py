"""What a record keeps of a decoded clip: latents, keyframes, features of tracks; and what decides them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shared.codecs import Codecs, LinearAudioCodec, LinearVideoCodec, keyframe_latents
from shared.data.dataset import Sample
from shared.data.encode_clip import encode_clip
from shared.utils.errors import UserError

CPU = torch.device("cpu")
LOSSLESS = LinearVideoCodec(latent_channels=4 * 8 * 8 * 3)  # all of them
CODECS = Codecs(LOSSLESS, LinearAudioCodec(latent_channels=5, iterations=2))


def sample(level: float = 0.3) -> Sample:
    draw = torch.Generator().manual_seed(0)
    video = torch.rand(3, 12, 16, 16, generator=draw) * 2 - 1
    return Sample("clip2", video, level * torch.randn(1, 12_000, generator=draw), "A bell.", "It rings.", True, True)


def test_latents_are_the_codecs_own_in_the_type_that_is_asked_for() -> None:
    clip = sample()
    members, facts = encode_clip(clip, CODECS, 16.0, CPU)
    half, _ = encode_clip(clip, CODECS, 16.0, CPU, torch.float16)
    for name, expected in (
        ("video", CODECS.video.encode(clip.video[None])[0]),
        ("audio", CODECS.audio.encode(clip.audio[None])[0]),
    ):
        assert torch.equal(members["latents"][name], expected) and expected.any()
        assert torch.equal(half["latents"][name], expected.half())
        assert facts[name] == list(expected.shape)
    assert members.keys() == {"latents"} and members["latents"].keys() == {"video", "audio"}
    assert (facts["id"], facts["frames"], facts["samples"]) == ("clip2", 12, 12_000)
    assert facts["has_video"] and facts["has_audio"]
    assert not encode_clip(sample(1e-5), CODECS, 16.0, CPU)[1]["has_audio"]  # silence counts as none


def test_keyframes_are_latents_of_frames_that_stand_still() -> None:
    clip = sample()
    members, _ = encode_clip(clip, CODECS, 16.0, CPU, keyframes=True)
    found = members["latents"]["keyframe_latents"]
    assert found.shape == members["latents"]["video"].shape
    decoded = LOSSLESS.decode(found[None], 13)[0]
    for index, frames in enumerate(([0], range(1, 5), range(5, 9), range(9, 12))):
        own = decoded[:, frames[0] : frames[-1] + 1]
        torch.testing.assert_close(own, own[:, :1].expand_as(own), atol=1e-2, rtol=0)
        images = clip.video[:, list(frames)].transpose(0, 1)
        encoded = keyframe_latents(LOSSLESS, images, first=index == 0)[:, :, 0]
        assert any(torch.allclose(found[:, index], one, atol=1e-2) for one in encoded)
    again, _ = encode_clip(clip, CODECS, 16.0, CPU, keyframes=True)
    assert torch.equal(again["latents"]["keyframe_latents"], found)


def test_features_of_tracks_are_asked_for_by_the_video_frames() -> None:
    members, _ = encode_clip(sample(), CODECS, 16.0, CPU, torch.float16, features=lambda n: {"music": torch.ones(n, 2)})
    assert members["tracks"]["music"].shape == (12, 2) and members["tracks"]["music"].dtype == torch.float16


def test_latents_that_are_not_finite_are_refused() -> None:
    class Broken(LinearVideoCodec):
        def encode(self, video: torch.Tensor) -> torch.Tensor:
            return super().encode(video) * torch.nan

    with pytest.raises(UserError, match="clip 'clip2': its latents are not finite"):
        encode_clip(sample(), Codecs(Broken(), CODECS.audio), 16.0, CPU)


def test_a_clip_that_kept_its_frame_rate_says_so() -> None:
    own = replace(sample(), fps=24)
    members, facts = encode_clip(own, CODECS, 16.0, CPU, keyframes=True)
    assert facts["fps"] == 24 and "fps" not in encode_clip(sample(), CODECS, 16.0, CPU)[1]
    at_24, _ = encode_clip(sample(), CODECS, 24.0, CPU, keyframes=True)
    assert torch.equal(members["latents"]["keyframe_latents"], at_24["latents"]["keyframe_latents"])


def test_latents_of_parts_stand_beside_the_mixs() -> None:
    clip = sample()
    sound = 0.1 * torch.ones(1, 12_000).cumsum(1).sin()

    def parts(frames: int) -> dict[str, torch.Tensor]:
        assert frames == 12
        return {"effects": sound}

    members, facts = encode_clip(clip, CODECS, 16.0, CPU, torch.float16, parts=parts)
    assert facts["parts"] == ["effects"] and members["latents"].keys() == {"video", "audio", "effects"}
    assert torch.equal(members["latents"]["effects"], CODECS.audio.encode(sound[None])[0].half())
    assert "parts" not in encode_clip(clip, CODECS, 16.0, CPU)[1]
    with pytest.raises(UserError, match="clip 'clip2': latents of its effects are not finite"):
        encode_clip(clip, CODECS, 16.0, CPU, parts=lambda frames: {"effects": sound * torch.nan})
