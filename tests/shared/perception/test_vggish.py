"""VGGish: the published layout, its mel bands and frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_clips import tone
from torch import nn

from shared.perception.vggish import VGGish, VGGishFeatures, examples, mel_matrix


def test_the_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        network = VGGish()
    state = network.state_dict()
    assert [name for name in state if name.startswith("features") and "weight" in name] == [
        f"features.{number}.weight" for number in (0, 3, 6, 8, 11, 13)
    ]
    assert [list(state[f"embeddings.{number}.weight"].shape) for number in (0, 2, 4)] == [
        [4096, 12288], [4096, 4096], [128, 4096],
    ]  # fmt: skip
    assert sum(parameter.numel() for parameter in network.parameters()) == 72_141_184
    assert network(torch.zeros(2, 96, 64, device="meta")).shape == (2, 128)


def test_a_tone_is_in_its_band_and_examples_do_not_overlap() -> None:
    levels = examples(tone(2.0, 1000.0))
    assert levels.shape == (2, 96, 64)
    mels = 1127 * np.log1p(np.array([125.0, 7500.0, 1000.0]) / 700)
    band = (mels[2] - mels[0]) / (mels[1] - mels[0]) * 65 - 1  # 66 edges from 125 to 7500 Hz
    assert abs(int(levels[0].mean(0).argmax()) - band) <= 1
    assert levels.max() > 2 and levels.min() >= np.log(0.01) - 1e-5
    assert len(examples(tone(0.97))) == 0 and len(examples(tone(0.976))) == 1 and len(examples(tone(0.01))) == 0


def test_filters_are_triangles_over_mels() -> None:
    filters = mel_matrix()
    assert filters.shape == (257, 64) and filters.min() == 0 and filters[0].max() == 0
    assert filters[240:].max() == 0  # above 7500 Hz
    assert (filters.sum(1)[10:230] - 1).abs().max() < 1e-4  # neighbours share what lies between them


def test_features_go_by_batches() -> None:
    class Mean(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values.mean(1)

    sound = np.concatenate([tone(1.0, 300), tone(1.0, 600), tone(1.0, 900)])
    one, many = VGGishFeatures(Mean(), batch=1), VGGishFeatures(Mean())
    assert one(sound).shape == (3, 64) and np.allclose(one(sound), many(sound))
    assert one.least_seconds == pytest.approx(0.975)
