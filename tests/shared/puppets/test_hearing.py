"""On shows the mode, the vowels and whose voice it is are heard in the mix; elsewhere as before."""

from __future__ import annotations

import numpy as np

from shared.puppets.hearing import hear
from shared.puppets.readers import read_sound
from shared.puppets.script import Spec, sample_spec
from shared.puppets.sound import synthesise

SPECS = [s for s in (sample_spec(35, i, "shows") for i in range(70)) if s.duration <= 4]


def kinds(spec: Spec) -> set[str]:
    return {person.kind for person in spec.characters if person.syllables}


def test_voices_of_men_and_of_women_are_told_apart_in_the_mix() -> None:
    alone = [spec for spec in SPECS if len(kinds(spec)) == 1][:30]
    assert {kind for spec in alone for kind in kinds(spec)} == {"man", "woman"}
    heard = [hear(np.sum([*synthesise(spec).values()], axis=0), spec.rate, "shows") for spec in alone]
    pairs = list(zip(alone, heard, strict=True))
    right = [("woman" in kinds(s)) == (sum(one.voice for one in h.syllables) > 0) for s, h in pairs]
    assert len(right) > 20 and np.mean(right) > 0.95
    assert np.mean([h.mode == (s.mode if s.music else "") for s, h in pairs]) > 0.9
    assert all(len(h.syllables) == sum(len(c.syllables) for c in s.characters) for s, h in pairs)


def test_other_levels_are_heard_as_before_and_silence_is_nobody() -> None:
    sound = np.sum([*synthesise(sample_spec(35, 0)).values()], axis=0)
    one, other = hear(sound, 16000, "simple"), read_sound(sound, 16000)
    assert (one.pace, one.mode, one.syllables) == (other.pace, "", ()) and np.array_equal(one.loudness, other.loudness)
    silence = hear(np.zeros(16000, np.float32), 16000, "shows")
    assert silence.mode == "" and silence.syllables == ()
