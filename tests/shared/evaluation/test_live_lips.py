"""Lips of true clips follow what is said, others do not; a recording goes on without a pause."""

from __future__ import annotations

import numpy as np

from shared.evaluation.live_lips import HISS, lips_follow, one_speaker, recorded
from shared.puppets.clip import render_clip

RATE = 16000


def test_lips_of_true_clips_follow_and_others_do_not() -> None:
    spec, caption = one_speaker(16)
    clip = render_clip(spec)
    assert caption == clip.caption and "Person1 is speaking" in caption
    speech = sum(stem for name, stem in clip.stems.items() if name.startswith("speech"))
    numbers = np.arange(len(clip.frames))
    follows, shifted = lips_follow(clip.frames, numbers, speech, spec.rate, spec)
    assert follows > 0.9 > shifted + 0.2
    late, _ = lips_follow(clip.frames, (numbers + 8) % len(numbers), speech, spec.rate, spec)
    assert late < follows - 0.2
    assert lips_follow(np.zeros_like(clip.frames), numbers, speech, spec.rate, spec) == (0.0, 0.0)
    assert lips_follow(clip.frames, numbers, np.zeros_like(speech), spec.rate, spec) == (0.0, 0.0)


def test_a_recording_is_as_long_as_asked_for_and_never_silent() -> None:
    sound = recorded(RATE, 5.0)
    assert len(sound) == 5 * RATE and np.abs(sound).max() <= 1
    assert all(part.std() > HISS / 2 for part in np.array_split(sound, 50))
    assert np.array_equal(sound, recorded(RATE, 5.0))
