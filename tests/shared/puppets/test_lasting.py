"""Scenes of `simple` over a longer time."""

from __future__ import annotations

import numpy as np
import pytest

from shared.puppets.clip import audio_caption, caption, render_clip
from shared.puppets.lasting import LENGTHS, lasting
from shared.puppets.script import ONSET_GAP, sample_spec
from shared.puppets.spec import FIRST_ONSET, LAST_ONSET
from shared.utils.errors import UserError

SPECS = [sample_spec(71, index) for index in range(60)]


@pytest.mark.parametrize("seconds", LENGTHS["simple"])
def test_the_same_words_tell_a_longer_scene(seconds: int) -> None:
    for spec in SPECS:
        made = lasting(spec, seconds)
        assert (caption(made), audio_caption(made), made.duration) == (caption(spec), audio_caption(spec), seconds)
        assert (made == spec) == (seconds == 2) or not spec.props
        for prop, own in zip(made.props, spec.props, strict=True):
            assert len(prop.onsets) == len(own.onsets)
            assert prop.onsets[0] >= FIRST_ONSET and prop.onsets[-1] <= seconds - LAST_ONSET + 1e-9
            assert all(np.diff(prop.onsets) >= ONSET_GAP - 1e-9)
        for person, own in zip(made.characters, spec.characters, strict=True):
            assert len(person.syllables) == len(own.syllables) * seconds // 2
            assert all(a.end <= b.start for a, b in zip(person.syllables, person.syllables[1:], strict=False))
            assert not person.syllables or person.syllables[-1].end > seconds - 1.5
    clip = render_clip(lasting(SPECS[0], seconds))
    assert len(clip.frames) == 16 * seconds and len(clip.mix) == 16000 * seconds


def test_other_lengths_and_levels_are_refused() -> None:
    for spec, seconds in ((SPECS[0], 3), (SPECS[0], 1), (sample_spec(1, 0, "full"), 8)):
        with pytest.raises(UserError, match=f"cannot last {seconds}; give a multiple, of simple"):
            lasting(spec, seconds)
