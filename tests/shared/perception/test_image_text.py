"""CLIP from a folder: the library's own numbers, and what is no CLIP refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import ArrayMedia, moving
from feature_models import save_clip
from PIL import Image
from safetensors.torch import load_file, save_file

from shared.perception.image_text import ImageText
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


def test_a_picture_is_prepared_as_clip_was_trained(folder: Path) -> None:
    """Pillow's bicubic scaling, central crop, mean and deviation, then the library's own forward."""
    encoder, frames = ImageText.load(folder), moving(2, size=(48, 80))
    scaled = [np.asarray(Image.fromarray(f).resize((53, 32), Image.Resampling.BICUBIC))[:, 10:42] for f in frames]
    values = (torch.from_numpy(np.stack(scaled)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    wanted = encoder.model.get_image_features(pixel_values=values).pooler_output.detach().numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.abs(encoder.images(frames) - wanted).max() < 5e-3


def test_batches_change_nothing_and_a_clip_is_embedded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, many = ImageText.load(folder, batch=1), ImageText.load(folder, batch=16)
    assert np.allclose(one.images(moving(5)), many.images(moving(5)), atol=1e-5)
    media, asked = ArrayMedia(moving(4)), []
    monkeypatch.setattr(many, "images", lambda frames: asked.append(len(frames)) or np.zeros((len(frames), 2)))
    for fps in (8.0, 8.0, 4.0):
        many.of_clip(media, fps)
    assert asked == [4, 2]


def test_a_text_is_cut_to_the_positions_there_are(folder: Path) -> None:
    encoder = ImageText.load(folder)
    assert np.linalg.norm(encoder.text("a ball")) == pytest.approx(1, abs=1e-5)
    assert encoder.is_cut("b" * 30) and np.array_equal(encoder.text("b" * 30), encoder.text("b" * 40))


def test_tables_of_positions_that_public_files_hold_are_no_harm(folder: Path, tmp_path: Path) -> None:
    copy = save_clip(tmp_path / "clip")
    weights = load_file(copy / "model.safetensors")
    positions = {f"{part}_model.embeddings.position_ids": torch.arange(9)[None] for part in ("text", "vision")}
    save_file(weights | positions, copy / "model.safetensors", metadata={"format": "pt"})
    assert ImageText.load(copy).fingerprint() == ImageText.load(folder).fingerprint()


def test_what_is_no_clip_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        ImageText.load(tmp_path)
    damaged = save_clip(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        ImageText.load(damaged)
