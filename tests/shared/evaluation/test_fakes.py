"""Fakes are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.fakes import FAKES, fakes_of
from shared.puppets.clip import render_clip, sample_spec

SPEC = next(s for s in (sample_spec(32, i) for i in range(99)) if s.props and s.characters)
CLIP = render_clip(SPEC)


def test_fakes_of_shows_change_the_one_thing_they_are_named_for() -> None:
    shots = (sample_spec(32, i, "shows") for i in range(99))
    spec = next(s for s in shots if s.music and s.distractors and any(c.syllables and c.visible for c in s.characters))
    clip = render_clip(spec)
    changed = {}
    for name in fakes_of("shows").keys() - FAKES.keys():
        frames, sound = fakes_of("shows")[name].make(spec, clip.frames, clip.mix)
        changed[name] = (not np.array_equal(frames, clip.frames), not np.array_equal(sound, clip.mix))
    assert {name for name, (seen, _) in changed.items() if seen} == {"other vowels", "other light", "clear sky"}
    assert {name for name, (_, heard) in changed.items() if heard} == {"other mode", "other voices"}
    assert fakes_of("simple") == fakes_of("full") == FAKES


@pytest.mark.parametrize("name", list(FAKES))
def test_a_fake_is_a_clip_of_the_same_size_and_another_one(name: str) -> None:
    frames, sound = FAKES[name].make(SPEC, CLIP.frames, CLIP.mix)
    assert frames.shape == CLIP.frames.shape and frames.dtype == np.uint8
    assert sound.shape == CLIP.mix.shape and sound.dtype == np.float32
    assert not (np.array_equal(frames, CLIP.frames) and np.array_equal(sound, CLIP.mix))
