from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from mtv.captions import parse, without_speaker
from shared.evaluation.scores import MADE
from shared.evaluation.track_variants import (
    BASE,
    VARIANTS,
    Probe,
    Sound,
    effects_swapped,
    music_swapped,
    silent_speech,
    speaker_unmentioned,
    speech_swapped,
    true_tracks,
    variants,
)
from shared.puppets.captions import caption
from shared.puppets.script import Spec, sample_spec

RATE = 16000


def halves(mix: Sound, rate: int) -> Mapping[str, Sound]:
    assert rate == RATE
    parts = {"speech": mix / 2, "effects": mix / 4, "music": mix / 4}
    return {name: part.astype(np.float32) for name, part in parts.items()}


@pytest.fixture(scope="module")
def own() -> list[Probe]:
    return true_tracks([sample_spec(32, i) for i in range(16)], RATE)


@pytest.fixture(scope="module")
def full() -> list[Probe]:
    """Clips of level full, without their sound."""
    specs = [sample_spec(32, i, "full") for i in range(200)]
    short = [replace(s, frames=2 * s.fps) for s in specs if s.duration == 2]
    return [Probe(i, spec, caption(spec), {"effects": np.zeros(1, np.float32)}) for i, spec in enumerate(short)]


def changed(probe: Probe, own: list[Probe]) -> set[str]:
    """The tracks that are not the clip's own."""
    mine = own[probe.index]
    assert list(probe.stems) == list(mine.stems)
    return {name for name in mine.stems if not np.array_equal(probe.stems[name], mine.stems[name])}


def test_own_tracks_sum_to_the_mix(own: list[Probe]) -> None:
    assert [probe.index for probe in own] == list(range(16))
    assert all(np.abs(probe.mix).max() < 0.95 and len(probe.speech) == 1 for probe in own)


def test_one_track_is_swapped_and_the_script_goes_with_it(own: list[Probe]) -> None:
    for probe in speech_swapped(own):
        mine = own[probe.index]
        assert changed(probe, own) == {"speech1"} and probe.caption == mine.caption
        person = mine.spec.characters[0]
        assert probe.spec.characters[0].syllables not in ((), person.syllables)
        syllables = probe.spec.characters[0].syllables
        assert replace(probe.spec, characters=(replace(person, syllables=syllables),)) == probe.spec
        assert (probe.spec.props, probe.spec.mood) == (mine.spec.props, mine.spec.mood)
    for probe in effects_swapped(own):
        mine = own[probe.index]
        assert changed(probe, own) == {"effects"} and probe.caption == mine.caption
        assert replace(probe.spec, props=(replace(probe.spec.props[0], onsets=mine.spec.props[0].onsets),)) == mine.spec


def test_every_clip_that_can_be_scored_is_probed(own: list[Probe]) -> None:
    speaking = [p.index for p in own if any(c.syllables for c in p.spec.characters)]
    assert [p.index for p in speech_swapped(own)] == speaking == [p.index for p in silent_speech(own, without_speaker)]
    assert {p.index for p in effects_swapped(own)} <= {p.index for p in own if p.spec.props}


def test_a_count_that_is_told_stays_true(full: list[Probe]) -> None:
    probes = effects_swapped(full)
    for probe in probes:
        for prop, mine in zip(probe.spec.props, full[probe.index].spec.props, strict=True):
            assert "count" not in prop.mentioned or len(prop.onsets) == len(mine.onsets)
    assert any("count" in prop.mentioned for probe in probes for prop in probe.spec.props)
    assert any(len(probe.spec.props) == 2 for probe in probes)


def test_other_music_has_another_mood_that_no_word_tells(own: list[Probe]) -> None:
    untold, swapped = music_swapped(own)
    assert [p.index for p in untold] == [p.index for p in swapped] == [p.index for p in own if p.spec.music]
    for base, probe in zip(untold, swapped, strict=True):
        assert base.caption == probe.caption and "light" not in probe.caption
        assert base.spec.mood == own[base.index].spec.mood != probe.spec.mood
        assert changed(base, own) == set() and changed(probe, own) == {"music"}


def test_silent_speech_is_zeros_and_names_no_speaker(own: list[Probe]) -> None:
    for probe in silent_speech(own, without_speaker):
        assert not np.any(probe.speech) and changed(probe, own) == {"speech1"}
        assert parse(probe.caption).people and not parse(probe.caption).speaking
        assert not any(c.syllables for c in probe.spec.characters)


def test_partners_speak_alike_and_last_as_long(full: list[Probe]) -> None:
    def pattern(spec: Spec) -> list[bool]:
        return [bool(c.syllables) for c in spec.characters]

    probes = speech_swapped(full)
    assert any(len(p.spec.characters) == 2 for p in probes)
    assert all(pattern(p.spec) == pattern(full[p.index].spec) for p in probes)
    longer = [replace(full[0], spec=replace(full[0].spec, frames=99)), *full[1:]]
    assert 0 not in {p.index for p in (*speech_swapped(longer), *effects_swapped(longer))}


def test_the_untold_speaker_is_one_of_two_visible_people(full: list[Probe]) -> None:
    probes = speaker_unmentioned(full, without_speaker)
    assert len(probes) > 5
    for probe in probes:
        assert [c.visible for c in probe.spec.characters] == [True, True]
        assert sum(bool(c.syllables) for c in probe.spec.characters) == 1
        assert len(parse(probe.caption).people) == 2 and not parse(probe.caption).speaking


def test_variants_are_named_in_order_and_empty_ones_are_left_out(own: list[Probe]) -> None:
    made = variants(own, VARIANTS, without_speaker, halves)
    assert list(made) == [name for name in MADE if name.startswith("mtv:") and name != "mtv:speaker unmentioned"]
    assert set(BASE) | set(BASE.values()) <= set(made)
    assert np.array_equal(made["mtv:dsp"][3].stems["speech"], own[3].mix / 2)
    assert list(variants(own, ["silent speech"], without_speaker, halves)) == ["mtv:silent speech"]
    assert variants(own[:1], ["speech swapped", "music swapped"], without_speaker, halves) == {}
