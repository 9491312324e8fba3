"""DNSMOS as Microsoft's package computes it."""

from __future__ import annotations

import numpy as np
import pytest
from perception import need_model

from shared.perception.quality import HOP, MELS, MODEL, RATE, WINDOW, log_mel, quality_fingerprint, speech_quality

#: speechmos 0.0.1.1 on `voiced`, with librosa 0.11: signal, background, overall, p808.
PUBLIC = {3.0: (2.828, 2.3245, 1.8945, 2.3338), 10.5: (2.8219, 2.3484, 1.8995, 2.3471)}


def voiced(seconds: float) -> np.ndarray:
    """A hum that comes and goes, with some noise."""
    t, rng = np.arange(int(seconds * RATE)) / RATE, np.random.default_rng(5)
    hum = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20)) * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * t))
    return (0.1 * hum + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("seconds", PUBLIC)
def test_scores_are_those_of_the_public_package(seconds: float) -> None:
    need_model(MODEL, "onnxruntime")
    assert list(speech_quality(voiced(seconds)).values()) == pytest.approx(PUBLIC[seconds], abs=1e-3)


def test_the_spectrogram_has_its_range_and_place() -> None:
    click = np.zeros(WINDOW, np.float32)
    click[50 * HOP] = 1
    mel = log_mel(click)
    assert (
        mel.shape == (1 + (WINDOW - 1) // HOP, MELS)
        and mel.min() == pytest.approx(-1)
        and mel.max() == pytest.approx(1)
    )
    assert int(mel.sum(1).argmax()) == 50
    with pytest.raises(ValueError, match="no samples"):
        speech_quality(click[:0])
    assert len(quality_fingerprint()) == 64
