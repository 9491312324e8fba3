"""Fakes are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.fakes import FAKES
from shared.puppets.clip import render_clip, sample_spec

SPEC = next(s for s in (sample_spec(32, i) for i in range(99)) if s.props and s.characters)
CLIP = render_clip(SPEC)


@pytest.mark.parametrize("name", list(FAKES))
def test_a_fake_is_a_clip_of_the_same_size_and_another_one(name: str) -> None:
    frames, sound = FAKES[name].make(SPEC, CLIP.frames, CLIP.mix)
    assert frames.shape == CLIP.frames.shape and frames.dtype == np.uint8
    assert sound.shape == CLIP.mix.shape and sound.dtype == np.float32
    assert not (np.array_equal(frames, CLIP.frames) and np.array_equal(sound, CLIP.mix))
