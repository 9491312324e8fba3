"""Onsets as librosa finds them."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.metrics.audio_onsets import librosa_onsets, onset_strength, peak_pick

RATE, HOP = 22050, 512
#: What librosa 0.11 says of `plucked`: frames of its onsets, and its onset strength at some frames.
FRAMES = [3, 14, 41, 48, 66, 96, 106, 110, 118, 147]
STRENGTH = {10: 0.9101, 14: 1.6992, 15: 2.4231, 41: 1.6133, 42: 3.5673, 100: 0.6165}


def plucked() -> np.ndarray:
    """Six tones that fade, in noise."""
    rng, t = np.random.default_rng(7), np.arange(4 * RATE) / RATE
    sound = 0.02 * rng.standard_normal(len(t))
    for k, at in enumerate((0.31, 0.94, 1.52, 2.2, 2.71, 3.4)):
        after = np.arange(len(t) - round(at * RATE)) / RATE
        sound[round(at * RATE) :] += 0.3 * np.exp(-after * 8) * np.sin(2 * np.pi * (200 + 150 * k) * after)
    return sound.astype(np.float32)


def test_strength_and_onsets_are_librosas() -> None:
    strength = onset_strength(plucked(), RATE)
    assert strength.shape == (1 + 4 * RATE // HOP,)
    assert strength[list(STRENGTH)] == pytest.approx(list(STRENGTH.values()), abs=2e-4)
    assert librosa_onsets(plucked(), RATE) * RATE / HOP == pytest.approx(FRAMES)


def test_silence_has_none() -> None:
    assert len(librosa_onsets(np.zeros(RATE, np.float32), RATE)) == 0


def test_a_peak_is_the_highest_around_and_stands_out() -> None:
    curve = np.array([0.0, 0.5, 0.1, 0.0, 0.0, 0.05, 0.0, 0.9, 0.9, 0.0])
    assert peak_pick(curve, 1, 1, 2, 2, 0) == [1, 7, 8]
    assert peak_pick(curve, 1, 1, 2, 2, 1) == [1, 7]  # too soon after the last one
    assert peak_pick(curve, 1, 2, 2, 2, 0) == [1, 7, 8]
    assert peak_pick(curve, 1, 1, 9, 9, 0) == [1, 7, 8] and peak_pick(curve * 0.1, 1, 1, 2, 2, 0) == []
