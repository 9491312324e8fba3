"""SyncNet: the published layout, the published cepstrum, and distances at every shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from shared.perception.syncnet import SHIFTS, SIDE, SyncNet, SyncNetDistances, cepstrum, mean_distances, mel_filters

#: Kernels of the public file; each convolution has a bias, and a batch norm of five follows it.
SOUND = {
    0: [64, 1, 3, 3], 4: [192, 64, 3, 3], 8: [384, 192, 3, 3], 11: [256, 384, 3, 3], 14: [256, 256, 3, 3],
    18: [512, 256, 5, 4],
}  # fmt: skip
FACE = {
    0: [96, 3, 5, 7, 7], 4: [256, 96, 1, 5, 5], 8: [256, 256, 1, 3, 3], 11: [256, 256, 1, 3, 3],
    14: [256, 256, 1, 3, 3], 18: [512, 256, 1, 6, 6],
}  # fmt: skip


def test_the_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        network = SyncNet().eval()
    state = network.state_dict()
    for part, kernels in (("netcnnaud", SOUND), ("netcnnlip", FACE)):
        for place, shape in kernels.items():
            assert list(state[f"{part}.{place}.weight"].shape) == shape
            assert list(state[f"{part}.{place + 1}.running_var"].shape) == shape[:1]
    assert [list(state[f"netfc{part}.{place}.weight"].shape) for part in ("aud", "lip") for place in (0, 3)] == [
        [512, 512], [1024, 512], [512, 512], [1024, 512],
    ]  # fmt: skip
    assert len(state) == 102 and sum(value.numel() for value in network.parameters()) == 13_631_616
    assert network.sound(torch.zeros(2, 1, 13, 20, device="meta")).shape == (2, 1024)
    assert network.face(torch.zeros(2, 3, 5, SIDE, SIDE, device="meta")).shape == (2, 1024)


def test_the_cepstrum_is_that_of_the_package() -> None:
    """python_speech_features 0.6 gave these values, of the same 16-bit samples."""
    at = np.arange(3000)
    samples = 8000 * np.sin(2 * np.pi * 440 * at / 16000)
    samples += np.where(at > 1500, 4000 * np.sin(2 * np.pi * 2000 * at / 16000), 0)
    values = cepstrum((np.round(samples) / 32768).astype(np.float32))
    assert values.shape == (18, 13)
    first = [19.0612, 18.8048, 1.7108, -14.176, -27.2079, -33.5164, -29.6769, -18.5695, -3.2607, 10.0248, 18.0446]
    later = [20.8197, 11.7854, -15.766, 23.4067, 22.0977, -46.4032, -59.6654, -2.1133, 14.2169, -6.8626, 18.37]
    assert values[0, :11] == pytest.approx(first, abs=1e-3) and values[12, :11] == pytest.approx(later, abs=1e-3)
    assert np.isfinite(cepstrum(np.zeros(100, np.float32))).all() and len(cepstrum(np.zeros(561, np.float32))) == 3
    assert mel_filters().max() == 1 and mel_filters().min() == 0


def test_the_least_distance_is_where_the_sound_is() -> None:
    torch.manual_seed(0)
    faces = 30 * torch.randn(40, 8)
    later = torch.cat([torch.randn(3, 8), faces[:-3]])  # the sound of frame i is heard at i + 3
    distances = mean_distances(faces, later)
    assert int(distances.argmin()) - SHIFTS == 3 and len(distances) == 31
    beyond = torch.nn.functional.pairwise_distance(faces, torch.cat([faces[15:] * 0, torch.zeros(15, 8)]))
    assert mean_distances(faces, faces * 0)[0] == pytest.approx(float(beyond.mean()))  # zeros, not less frames


class Told(nn.Module):
    """Embeds a face by the blue of its first frame, and a sound by its first cepstrum."""

    def face(self, values: torch.Tensor) -> torch.Tensor:
        return values[:, 0, 0, 0, :2]

    def sound(self, values: torch.Tensor) -> torch.Tensor:
        return values[:, 0, :2, 0]


def test_windows_go_by_frames_and_batches_change_nothing() -> None:
    crops = np.zeros((12, 4, 4, 3), np.uint8)
    crops[..., 2] = np.arange(12)[:, None, None]  # blue
    sound = np.random.default_rng(0).normal(0, 0.1, 12 * 640).astype(np.float32)
    one, many = SyncNetDistances(Told(), batch=3)(crops, sound), SyncNetDistances(Told())(crops, sound)
    assert np.allclose(one, many)
    steps = torch.from_numpy(cepstrum(sound)).float()[: 4 * 7 : 4, :2]
    assert many == pytest.approx(mean_distances(torch.arange(7.0)[:, None].expand(7, 2), steps))
    with pytest.raises(ValueError, match="5 frames of face and sound; 6 are needed"):
        SyncNetDistances(Told())(crops[:5], sound)
