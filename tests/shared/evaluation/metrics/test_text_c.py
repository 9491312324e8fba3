"""Text-C with the real class of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_clips import ArrayMedia, moving
from feature_models import save_clip

from shared.evaluation.metrics.text_c import TextC
from shared.perception.image_text import ImageText


def test_it_is_the_mean_cosine_and_says_what_it_read(tmp_path: Path) -> None:
    encoder = ImageText.load(save_clip(tmp_path / "clip"))
    metric = TextC(encoder, 4.0)
    result = metric.clip(ArrayMedia(moving(8), 8.0, text="a red ball"))
    by_hand = 100 * encoder.images(moving(8)[::2]) @ encoder.text("a red ball")
    assert result.value == pytest.approx(float(by_hand.mean()), abs=1e-4)
    assert np.allclose(result.facts["likeness"], by_hand, atol=1e-4) and result.facts["text_is_cut"] is False
    assert metric.clip(ArrayMedia(moving(8), 8.0, text="word " * 30)).facts["text_is_cut"] is True
    assert metric.clip(ArrayMedia(moving(8), 2.0, text="x")).refused == "2 frames per second; 4 are read"
    assert metric.preprocessing()["fps"] == 4.0 and metric.preprocessing()["tokens"] == 24
    assert metric.preprocessing()["std"] == [0.25] * 3 and len(metric.fingerprint()) == 64
