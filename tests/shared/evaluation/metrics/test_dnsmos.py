"""DNSMOS as a metric: noise lowers it, and what says nothing is refused."""

from __future__ import annotations

import numpy as np
import pytest
from media import Media
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.dnsmos import DNSMOS
from shared.perception import installed
from shared.perception.quality import MODEL, RATE
from shared.utils.errors import UserError

NOTHING = np.zeros((0, 8, 8, 3), np.uint8)


def test_silence_and_shreds_are_refused() -> None:
    assert DNSMOS().clip(Media(NOTHING, 25.0, np.zeros(RATE, np.float32), RATE)).refused == "silent"
    assert DNSMOS().clip(Media(NOTHING, 25.0, np.ones(RATE // 2, np.float32), RATE)).refused == "shorter than 1 s"


def test_noise_is_bad_speech() -> None:
    need_model(MODEL, "onnxruntime")
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    result = DNSMOS.of(Tools()).clip(Media(NOTHING, 25.0, noise, RATE))
    assert result.value == result.facts["overall"] and 1 <= result.value < 1.8
    assert set(result.facts) == {"signal", "background", "overall", "p808"}


def test_without_its_weights_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    need_model("", "onnxruntime")
    monkeypatch.setattr(installed, "folders", tuple)
    with pytest.raises(UserError, match=r"dnsmos: its weights .* are not installed; run `make perception`"):
        DNSMOS.of(Tools())


@pytest.mark.slow
def test_noise_lowers_the_score_of_a_recording() -> None:
    need_model(MODEL, "onnxruntime")
    voice = read_audio(next(iter(spoken_lines())), RATE)[0]
    noisy = voice + 0.05 * np.random.default_rng(0).standard_normal(len(voice)).astype(np.float32)
    clean, worse = (DNSMOS().clip(Media(NOTHING, 25.0, sound, RATE)).value for sound in (voice, noisy.clip(-1, 1)))
    assert clean and worse and clean > 3 > 2.2 > worse
