"""FAD: a row for each window, silence and short clips refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from drawn_clips import ArrayMedia, tone
from feature_models import save_clap
from torch import nn

from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.fad import FAD, FADCLAP
from shared.perception.vggish import VGGishFeatures


class Mean(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.mean(1)


def test_rows_and_refusals_of_vggish() -> None:
    metric = FAD(VGGishFeatures(Mean()))
    result = metric.clip(ArrayMedia(sound=tone(3.0)))
    assert result.value == 3 and result.features is not None and result.features.shape == (3, 64)
    assert metric.clip(ArrayMedia(sound=tone(0.9))).refused == "shorter than 0.975 s"
    assert metric.clip(ArrayMedia(sound=np.zeros(32000, np.float32))).refused == "silent"
    seen = ArrayMedia(np.zeros((16, 4, 4, 3), np.uint8), 8.0, tone(0.5))
    assert metric.clip(seen).refused == "shorter than 0.975 s"  # the pictures last longer than the sound
    assert metric.preprocessing()["rate"] == 16000 and len(metric.fingerprint()) == 64


def test_rows_of_clap(tmp_path: Path) -> None:
    metric = FADCLAP.of(Tools({"clap": save_clap(tmp_path / "clap")}))
    result = metric.clip(ArrayMedia(sound=tone(1.2)))
    assert result.features is not None and result.features.shape == (3, 6)
    assert metric.clip(ArrayMedia(sound=np.zeros(9000, np.float32))).refused == "silent"
    assert metric.preprocessing()["rate"] == 8000 and len(metric.fingerprint()) == 64
