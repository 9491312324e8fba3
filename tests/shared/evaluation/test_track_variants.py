from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from mtv.captions import drop_speaker, parse, without_speaker
from shared.evaluation.scores import SCORES
from shared.evaluation.track_variants import (
    BASE,
    VARIANTS,
    Sound,
    TrackCase,
    effects_swapped,
    music_swapped,
    silent_speech,
    speaker_unmentioned,
    speech_swapped,
    text_changed,
    true_tracks,
    variants,
)
from shared.puppets import grammar
from shared.puppets.clip import caption
from shared.puppets.script import Spec, sample_spec

RATE = 16000


def halves(mix: Sound, rate: int) -> Mapping[str, Sound]:
    assert rate == RATE
    parts = {"speech": mix / 2, "effects": mix / 4, "music": mix / 4}
    return {name: part.astype(np.float32) for name, part in parts.items()}


@pytest.fixture(scope="module")
def own() -> list[TrackCase]:
    return true_tracks([sample_spec(32, i) for i in range(16)], RATE)


@pytest.fixture(scope="module")
def full() -> list[TrackCase]:
    """Clips of level full, without their sound."""
    specs = [sample_spec(32, i, "full") for i in range(200)]
    short = [replace(s, frames=2 * s.fps) for s in specs if s.duration == 2]
    return [TrackCase(i, spec, caption(spec), {"effects": np.zeros(1, np.float32)}) for i, spec in enumerate(short)]


def changed(case: TrackCase, own: list[TrackCase]) -> set[str]:
    """The tracks that are not the clip's own."""
    mine = own[case.index]
    assert list(case.stems) == list(mine.stems)
    return {name for name in mine.stems if not np.array_equal(case.stems[name], mine.stems[name])}


def test_own_tracks_sum_to_the_mix(own: list[TrackCase]) -> None:
    assert [case.index for case in own] == list(range(16))
    assert all(np.abs(case.mix).max() < 0.95 and len(case.speech) == 1 for case in own)


def test_one_track_is_swapped_and_the_script_goes_with_it(own: list[TrackCase]) -> None:
    for case in speech_swapped(own):
        mine = own[case.index]
        assert changed(case, own) == {"speech1"} and case.caption == mine.caption
        person = mine.spec.characters[0]
        assert case.spec.characters[0].syllables not in ((), person.syllables)
        syllables = case.spec.characters[0].syllables
        assert replace(case.spec, characters=(replace(person, syllables=syllables),)) == case.spec
        assert (case.spec.props, case.spec.mood) == (mine.spec.props, mine.spec.mood)
    for case in effects_swapped(own):
        mine = own[case.index]
        assert changed(case, own) == {"effects"} and case.caption == mine.caption
        assert replace(case.spec, props=(replace(case.spec.props[0], onsets=mine.spec.props[0].onsets),)) == mine.spec


def test_every_clip_that_can_be_scored_is_probed(own: list[TrackCase]) -> None:
    speaking = [p.index for p in own if any(c.syllables for c in p.spec.characters)]
    assert [p.index for p in speech_swapped(own)] == speaking == [p.index for p in silent_speech(own, without_speaker)]
    assert {p.index for p in effects_swapped(own)} <= {p.index for p in own if p.spec.props}


def test_a_count_that_is_told_stays_true(full: list[TrackCase]) -> None:
    cases = effects_swapped(full)
    for case in cases:
        for prop, mine in zip(case.spec.props, full[case.index].spec.props, strict=True):
            assert "count" not in prop.mentioned or len(prop.onsets) == len(mine.onsets)
    assert any("count" in prop.mentioned for case in cases for prop in case.spec.props)
    assert any(len(case.spec.props) == 2 for case in cases)


def test_other_music_has_another_mood_that_no_word_tells(own: list[TrackCase]) -> None:
    untold, swapped = music_swapped(own)
    assert [p.index for p in untold] == [p.index for p in swapped] == [p.index for p in own if p.spec.music]
    for base, case in zip(untold, swapped, strict=True):
        assert base.caption == case.caption and "light" not in case.caption
        assert base.spec.mood == own[base.index].spec.mood != case.spec.mood
        assert changed(base, own) == set() and changed(case, own) == {"music"}


def test_silent_speech_is_zeros_and_names_no_speaker(own: list[TrackCase]) -> None:
    for case in silent_speech(own, without_speaker):
        assert not np.any(list(case.speech.values())) and changed(case, own) == {"speech1"}
        assert parse(case.caption).people and not parse(case.caption).speaking
        assert not any(c.syllables for c in case.spec.characters)


def test_a_changed_text_keeps_tracks_and_names_other_colours(own: list[TrackCase]) -> None:
    cases = text_changed(own)
    assert len(cases) > len(own) / 2
    for case in cases:
        mine = own[case.index]
        assert changed(case, own) == set() and case.caption != mine.caption
        pairs = [*zip(case.spec.characters, mine.spec.characters, strict=True)]
        assert all(a.shirt != b.shirt or "shirt" not in a.mentioned for a, b in pairs)
        assert [p.onsets for p in case.spec.props] == [p.onsets for p in mine.spec.props]


def test_partners_speak_alike_and_last_as_long(full: list[TrackCase]) -> None:
    def pattern(spec: Spec) -> list[bool]:
        return [bool(c.syllables) for c in spec.characters]

    cases = speech_swapped(full)
    assert any(len(p.spec.characters) == 2 for p in cases)
    assert all(pattern(p.spec) == pattern(full[p.index].spec) for p in cases)
    longer = [replace(full[0], spec=replace(full[0].spec, frames=99)), *full[1:]]
    assert 0 not in {p.index for p in (*speech_swapped(longer), *effects_swapped(longer))}


def test_the_untold_speaker_is_one_of_two_visible_people(full: list[TrackCase]) -> None:
    cases = speaker_unmentioned(full, without_speaker)
    assert len(cases) > 5
    for case in cases:
        assert [c.visible for c in case.spec.characters] == [True, True]
        assert sum(bool(c.syllables) for c in case.spec.characters) == 1
        assert len(parse(case.caption).people) == 2 and not parse(case.caption).speaking


def test_captions_in_free_words_keep_their_speakers_and_music_of_shows_is_not_told() -> None:
    specs = [s for s in (sample_spec(32, i, "shows") for i in range(120)) if s.duration == 2]
    shows = true_tracks(specs[:40], RATE)
    for cases in (silent_speech(shows, drop_speaker), speaker_unmentioned(shows, drop_speaker)):
        assert cases and all(not parse(case.caption).speaking for case in cases)
    for case in (case for cases in music_swapped(shows) for case in cases):
        told = grammar.parse(case.caption)
        assert not told.music and told.light is told.pace is told.mode is None


def test_variants_are_named_in_order_and_empty_ones_are_left_out(own: list[TrackCase]) -> None:
    made = variants(own, VARIANTS, without_speaker, halves)
    assert list(made) == [name for name in SCORES if name.startswith("mtv:") and name != "mtv:speaker unmentioned"]
    assert set(BASE) | set(BASE.values()) <= set(made)
    assert np.array_equal(made["mtv:dsp"][3].stems["speech"], own[3].mix / 2)
    assert list(variants(own, ["silent speech"], without_speaker, halves)) == ["mtv:silent speech"]
    assert variants(own[:1], ["speech swapped", "music swapped"], without_speaker, halves) == {}
