"""Training of a video codec: it gains on the linear one, resumes to the bit, and says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.codecs import LinearVideoCodec, VideoCodec, tensor_to_frames, training
from shared.codecs.convolutional import ConvVideoCodec
from shared.codecs.picture_errors import picture_loss
from shared.codecs.training import CodecFit, train_video_codec, trained_codec
from shared.codecs.wan import WanVideoCodec
from shared.utils.errors import UserError
from tests.shared.codecs.test_linear import make_video

CLIPS = [tensor_to_frames(make_video(i))[0] for i in range(12)]


@pytest.fixture(scope="module")
def linear() -> LinearVideoCodec:
    return LinearVideoCodec.fit(map(make_video, range(12)), latent_channels=12)


def small(linear: LinearVideoCodec) -> ConvVideoCodec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConvVideoCodec.around(linear, channels=(8, 32), blocks=1)  # those of 32 by Muon


def losses(codec: VideoCodec) -> tuple[float, float]:
    """Mean squared error where something moves, and the error's jump at the borders of cells, on other clips."""
    held_out = torch.cat([make_video(i) for i in range(100, 106)])
    loss = picture_loss(held_out, codec.decode(codec.encode(held_out), 13), 8)
    return loss.moving_square / loss.moving, loss.across / loss.inside


def test_gains_and_normalises(linear: LinearVideoCodec, tmp_path: Path) -> None:
    codec = small(linear)
    train_video_codec(CLIPS, codec, CodecFit(60, latents=4), tmp_path / "kept.safetensors")
    (moving, border), (linear_moving, linear_border) = losses(codec), losses(linear)
    assert moving < 0.95 * linear_moving
    assert border < 0.8 * linear_border
    latents = codec.encode(torch.cat([make_video(i) for i in range(12)]))
    assert latents.mean((0, 2, 3, 4)).abs().max() < 5e-3  # clips are rounded to uint8
    assert float(latents.square().mean()) == pytest.approx(1, abs=5e-3)


def test_hidden_convolutions_go_by_muon_and_the_rest_by_adam(linear: LinearVideoCodec) -> None:
    trained = training._Training(small(linear), CodecFit(2), CLIPS)
    (_, adam), (_, muon) = trained.optimizers["adam"], trained.optimizers["muon"]
    assert {name.split(".")[1] for name in muon} == {"scales", "up"}
    assert all(min(trained.parameters[name].shape[:2]) >= training.HIDDEN for name in muon)
    assert set(adam) | set(muon) == set(trained.parameters)
    before = {name: weights.detach().clone() for name, weights in trained.parameters.items()}
    for step in range(4):  # layers that begin at 0 let gradients through one after the other
        trained.step(step, make_video(step))
    assert all(not torch.equal(before[name], weights) for name, weights in trained.parameters.items())


def test_goes_on_to_the_same_bits(linear: LinearVideoCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "KEEP_EVERY", 2)
    fit, kept = CodecFit(5, latents=3), tmp_path / "kept.safetensors"
    whole, stopped, resumed = small(linear), small(linear), small(linear)
    train_video_codec(CLIPS, whole, fit, tmp_path / "other.safetensors")
    real = training._batch

    def stop(*arguments: object) -> torch.Tensor:
        if arguments[-1] == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        train_video_codec(CLIPS, stopped, fit, kept)
    monkeypatch.setattr(training, "_batch", real)
    train_video_codec(CLIPS, resumed, fit, kept)
    for name, weights in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights), name
    wider = ConvVideoCodec.around(linear, channels=(8, 12), blocks=1)
    for other in ((CLIPS, small(linear), CodecFit(6, latents=3)), (CLIPS[1:], small(linear), fit), (CLIPS, wider, fit)):
        with pytest.raises(UserError, match="belongs to a fit with other settings or clips"):
            train_video_codec(*other, kept)


def test_a_loss_that_is_not_finite_is_told(linear: LinearVideoCodec, tmp_path: Path) -> None:
    codec = small(linear)
    with torch.no_grad():
        codec.decoder.enter.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="step 0: the loss of the video codec is nan"):
        train_video_codec(CLIPS, codec, CodecFit(2, latents=3), tmp_path / "kept.safetensors")


def test_wan_is_a_model_of_diffusers(linear: LinearVideoCodec, tmp_path: Path) -> None:
    codec = trained_codec("wan", CLIPS, linear, CodecFit(2, batch=1, latents=2), tmp_path / "kept.safetensors")
    assert isinstance(codec, WanVideoCodec)
    codec.save_pretrained(tmp_path / "wan")
    loaded, video = WanVideoCodec.from_pretrained(tmp_path / "wan"), make_video(3)
    assert torch.equal(loaded.encode(video), codec.encode(video))
    latents = codec.encode(torch.cat([make_video(i) for i in range(12)]))
    assert float(latents.square().mean()) == pytest.approx(1, abs=0.01)
