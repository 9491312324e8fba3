"""Networks of videos: what each takes, what is done to a frame, and features of the real classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import moving
from feature_models import save_clip, save_videomae, save_vjepa2

from shared.perception.video_features import EncoderFeatures, I3DFeatures, prepared
from shared.utils.errors import UserError


class Mean(torch.nn.Module):
    """Stands for I3D: the mean colour of a video."""

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        return videos.mean((2, 3, 4))


def test_a_frame_is_scaled_cut_and_normalised() -> None:
    videos = np.stack([moving(2, size=(40, 60))])
    values = prepared(videos, 20, (0.5,) * 3, (0.5,) * 3, False, "cpu")
    assert values.shape == (1, 2, 3, 20, 20) and values.min() >= -1 and values.max() <= 1
    white = prepared(np.full((1, 1, 30, 30, 3), 255, np.uint8), 8, (0.5,) * 3, (0.5,) * 3, True, "cpu")
    assert torch.allclose(white, torch.ones_like(white))


def test_i3d_takes_nine_frames_and_goes_by_batches() -> None:
    network = I3DFeatures(Mean(), batch=2)
    with pytest.raises(UserError, match="frames = 8: I3D takes 9 or more"):
        network.frames(8)
    videos = np.stack([moving(9, seed) for seed in range(3)])
    rows = network(videos)
    assert rows.shape == (3, 3) and np.allclose(rows, I3DFeatures(Mean())(videos), atol=1e-6)
    assert network.preprocessing()["size"] == [224, 224] and network.frames(16) == 16


@pytest.mark.parametrize("save", [save_videomae, save_vjepa2])
def test_encoders_of_transformers(save: type, tmp_path: Path) -> None:
    network = EncoderFeatures.load(save(tmp_path / "m"), batch=2)
    videos = np.stack([moving(4, seed, (40, 48)) for seed in range(3)])
    rows = network(videos)
    assert rows.shape == (3, network.dimension) and np.isfinite(rows).all()
    assert np.allclose(rows[2:], network(videos[2:]), atol=1e-5) and not np.allclose(rows[0], rows[1])
    with pytest.raises(UserError, match="frames = 5: "):
        network.frames(5)
    assert network.frames(4) == 4 and len(network.fingerprint()) == 64


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model of type 'clip'; videomae or vjepa2 is needed"):
        EncoderFeatures.load(save_clip(tmp_path / "clip"))
