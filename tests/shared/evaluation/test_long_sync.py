"""Stretches of a long clip: true ones are in step throughout, and a sound that comes later and later drifts."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from shared.evaluation.long_sync import by_stretch, drift, told_scripts
from shared.puppets.clip import render_clip


@pytest.fixture(scope="module")
def true():
    """Frames and sound of a script, four times one after the other, and the script."""
    spec, caption, heard = next(told_scripts(16))
    clip = render_clip(spec)
    assert clip.caption == caption and clip.audio_caption == heard
    return np.concatenate([clip.frames] * 4), np.concatenate([clip.mix] * 4), spec


def test_scripts_have_a_voice_and_events_in_sight() -> None:
    for spec, caption, _ in islice(told_scripts(16), 5):
        assert "is speaking" in caption and any(prop.onsets for prop in spec.props)
        assert replace(spec).fps == 16


def test_true_clips_stay_in_step(true) -> None:
    frames, sound, spec = true
    stretch = len(frames) / spec.fps / 2
    parts = by_stretch(frames, sound, spec.rate, spec, stretch)
    assert len(parts) == 2 and all(part["agreement"] == 1 and part["mouths"] > 0.9 for part in parts)
    found = drift({"a": parts, "b": parts}, stretch)
    assert found["agreement"]["a minute"]["mean"] == pytest.approx(0, abs=1e-9)
    assert abs(found["mouths"]["a minute"]["mean"]) < 0.3 and found["mouths"]["0 s"]["mean"] > 0.9


def test_a_sound_that_comes_apart_drifts(true) -> None:
    frames, sound, spec = true
    half = len(sound) // 2
    late = np.concatenate([sound[:half], np.roll(sound[half:], spec.rate // 2)])
    stretch = len(frames) / spec.fps / 2
    parts = by_stretch(frames, late, spec.rate, spec, stretch)
    assert parts[0]["agreement"] == 1 and parts[1]["agreement"] < 1 and parts[1]["mouths"] < parts[0]["mouths"] - 0.2
    found = drift({"a": parts, "b": parts}, stretch)
    assert found["agreement"]["a minute"]["mean"] < 0 and found["mouths"]["a minute"]["interval"][1] < 0


def test_nothing_seen_and_heard_counts_nothing(true) -> None:
    frames, sound, spec = true
    (empty,) = by_stretch(np.zeros_like(frames), np.zeros_like(sound), spec.rate, spec, 60.0)
    assert empty == {"agreement": None, "mouths": 0.0}
    found = drift({"a": [empty]})
    assert found["agreement"]["0 s"]["mean"] is None and found["agreement"]["a minute"]["mean"] is None
