"""Audiobox-aesthetics as a metric: the production quality, and the other scores beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drawn_clips import ArrayMedia, tone
from feature_models import save_aesthetics

from shared.evaluation.metrics.audiobox_aesthetics import AudioboxAesthetics
from shared.evaluation.metrics.base import Tools
from shared.perception.aesthetics import AXES, RATE


def test_it_is_the_production_quality(tmp_path: Path) -> None:
    metric = AudioboxAesthetics.of(Tools({"audiobox": save_aesthetics(tmp_path / "audiobox")}))
    media = ArrayMedia(sound=tone(1.2))
    result, scores = metric.clip(media), metric.rater.scores(media.audio(RATE))
    assert result.facts == scores and list(scores) == list(AXES.values())
    assert result.value == scores["quality"] != scores["enjoyment"]
    assert metric.clip(ArrayMedia(sound=np.zeros(9000, np.float32))).refused == "silent"
    assert metric.preprocessing()["window_s"] == 10 and len(metric.fingerprint()) == 64
