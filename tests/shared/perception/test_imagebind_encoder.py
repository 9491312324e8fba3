"""What ImageBind is given of a clip, what is averaged, and which files are refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import ArrayMedia, moving, tone
from small_imagebind import SMALL, randomised, save_pickle

from shared.checkpoint.conversion.pickles import to_safetensors
from shared.perception import imagebind_encoder
from shared.perception.imagebind import ImageBind
from shared.perception.imagebind_encoder import (
    SOUND_MEAN,
    SOUND_STD,
    ImageBindEncoder,
    ends_of,
    levels,
    starts,
)
from shared.utils.errors import UserError


def encoder(batch: int = 16) -> ImageBindEncoder:
    return ImageBindEncoder(randomised(ImageBind(SMALL)), batch=batch)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_clips_go_to_the_end_or_as_published() -> None:
    assert starts(8, 3, False) == [0, 3, 6] and starts(8, 3, True) == [0, 2, 4]
    assert starts(8, 1, False) == starts(8, 1, True) == [0]
    assert starts(1.5, 2, False) == [0, 0]
    assert ends_of(25, 200, 6) == (150, 199) and ends_of(25, 200, 1.2) == (30, 79)
    assert ends_of(10, 15, 0) == (0, 14)  # shorter than a clip


def test_a_spectrogram_is_filled_with_zeros_before_it_is_normalised() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    found = levels(sound, SMALL)
    assert found.shape == (1, 26, 36)
    assert torch.allclose(found[..., 23:], torch.tensor(-SOUND_MEAN / SOUND_STD))  # 1 + (4000 - 400) // 160 = 23 frames
    assert torch.equal(levels(np.tile(sound, 2), SMALL)[..., :23], levels(np.tile(sound, 3), SMALL)[..., :23])
    louder = levels(10 * sound, SMALL) - found
    assert torch.allclose(louder[..., :23], torch.tensor(2 * np.log(10) / SOUND_STD).float(), atol=1e-3)


def test_crops_lie_along_the_longer_side() -> None:
    wide = np.zeros((2, 28, 56, 3), np.uint8) + np.arange(56, dtype=np.uint8)[None, None, :, None]
    for clip, shift in ((wide, 0), (wide.transpose(0, 2, 1, 3), 1)):
        crops = encoder()._crops(clip)
        assert crops.shape == (3, 3, 2, 28, 28)
        corner = (crops[:, 0, :, 0, 0] * imagebind_encoder.STD[0] + imagebind_encoder.MEAN[0]) * 255
        assert torch.allclose(corner, torch.tensor([[0.0], [14], [28]]).expand(-1, 2), atol=1e-3), shift
    picture = encoder()._pictures(wide[:1])[0, 0, 0] * imagebind_encoder.STD[0] + imagebind_encoder.MEAN[0]
    assert torch.allclose(picture * 255, torch.arange(14.0, 42), atol=1e-3)


def test_clips_and_crops_are_averaged() -> None:
    network, clips = encoder(batch=2), np.stack([moving(2, seed) for seed in range(3)])
    with torch.inference_mode():
        each = torch.cat([network.model.videos(network._crops(clip)) for clip in clips]).numpy()
    assert len(each) == 9
    np.testing.assert_allclose(network.video(clips), unit(each.mean(0)), atol=1e-5)
    rows = network.pictures(clips[0])
    assert rows.shape == (2, 8) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_of_a_clip_both_sides_are_read_once() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (32, 30, 40, 3)).astype(np.uint8)
    sound = (rng.normal(0, 0.1, 4 * 16000) * np.geomspace(0.01, 1, 4 * 16000)).astype(np.float32)
    network, media = encoder(batch=2), ArrayMedia(pictures, 8.0, sound)
    found = network.of_video(media, 2, False)
    np.testing.assert_allclose(found, network.video(pictures[[[0, 15], [16, 31]]]), atol=1e-6)
    assert network.of_video(media, 2, False) is found
    np.testing.assert_allclose(network.of_video(media, 2, True), network.video(pictures[[[0, 15], [8, 23]]]), atol=1e-6)
    heard = network.of_sound(media, 3, False)
    rows = network.sounds([sound[:32000], sound[16000:48000], sound[32000:]])
    np.testing.assert_allclose(heard, unit(rows.mean(0)), atol=1e-5)
    assert network.of_sound(media, 3, False) is heard and np.abs(heard - network.of_sound(media, 3, True)).max() > 1e-4


def test_a_text_of_numbers() -> None:
    network, end = encoder(), SMALL.words - 1
    first, second = network.text([end - 1, 3, 4, end]), network.text([end - 1, 90, 8, 17, end])
    rows = network.model.texts(torch.tensor([[end - 1, 3, 4, end, 0], [end - 1, 90, 8, 17, end]])).numpy()
    np.testing.assert_allclose([first, second], unit(rows), atol=1e-5)
    assert first @ second < 0.99


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagebind_encoder, "ImageBind", lambda: ImageBind(SMALL))  # the published one has 4.8 GB


@pytest.mark.usefixtures("small")
def test_the_public_kind_of_file_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "w").mkdir()
    to_safetensors(save_pickle(tmp_path / "imagebind.pth"), tmp_path / "w/imagebind.safetensors")
    for path in (tmp_path / "w", tmp_path / "w/imagebind.safetensors"):
        loaded = ImageBindEncoder.load(path)
        assert loaded.fingerprint() == encoder().fingerprint()
    assert "2 weights of depth, thermal, imu are left" in caplog.messages[0] and len(caplog.messages) == 2
    np.testing.assert_array_equal(loaded.sounds([tone(2.0)]), encoder().sounds([tone(2.0)]))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"modality_heads/audio/0/bias": None}, "1 weights are missing, as modality_heads.audio.0.bias; the published"),
        (
            {"modality_heads/touch/0/bias": torch.zeros(1)},
            "1 weights do not belong to ImageBind, as modality_heads.t",
        ),
        ({"modality_heads/text/proj/1/weight": torch.zeros(8, 3)}, "proj.1.weight is [8, 3]; [8, 16] is needed"),
        ({"modality_trunks/audio/blocks/1/attn/bias_k": None}, "as modality_trunks.audio.blocks.1.attn.bias_k; the"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: dict[str, torch.Tensor | None], reason: str) -> None:
    to_safetensors(save_pickle(tmp_path / "i.pth", **change), tmp_path / "i.safetensors")
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        ImageBindEncoder.load(tmp_path)
    assert "\n" not in str(error.value)
