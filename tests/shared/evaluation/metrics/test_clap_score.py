"""CLAP score: the mean cosine over windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_clips import ArrayMedia, tone
from feature_models import save_clap

from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.clap_score import CLAPScore


def test_it_is_the_mean_cosine(tmp_path: Path) -> None:
    metric = CLAPScore.of(Tools({"clap": save_clap(tmp_path / "clap")}))
    media = ArrayMedia(sound=tone(1.2), text="abell")
    result, encoder = metric.clip(media), metric.encoder
    by_hand = 100 * encoder.sound(media.audio(8000)) @ encoder.text("abell")
    assert result.value == pytest.approx(float(by_hand.mean()), abs=1e-4) and len(result.facts["likeness"]) == 3
    assert metric.clip(ArrayMedia(sound=np.zeros(9000, np.float32), text="a")).refused == "silent"
    assert metric.preprocessing()["window"] == 0.5 and len(metric.fingerprint()) == 64
