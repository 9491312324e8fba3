"""What is chosen for all clips of a set: shares that come out, other draws that stay, captions that tell all."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from shared.puppets.choices import Choices, Mixture, mixture, tell_all
from shared.puppets.clip import render_show, told_by_captions
from shared.puppets.script import LEVELS, sample_spec
from shared.puppets.shows import Show, sample_show
from shared.puppets.spec import Spec
from shared.utils.errors import UserError
from shared.utils.levels import is_silent

SIZE = (64, 64)
READ = mixture(1, 30)


def shows(level: str, count: int, choices: Choices) -> list[Show]:
    return [choices.show(21, level, SIZE, 0.0, index) for index in range(count)]


def test_a_mixture_is_read_from_one_word() -> None:
    assert READ("2") == Mixture(((2, 1.0),)) and READ("2").settings == 2
    assert READ("1,4") == Mixture.of(1, 4) == Mixture(((1, 0.5), (4, 0.5)))
    assert READ("1:.2,2:.5,8:.3").settings == {"1": 0.2, "2": 0.5, "8": 0.3}
    assert READ(Mixture.of(3)) == Mixture.of(3)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("0", "whole numbers from 1 to 30"),
        ("1,31", "whole numbers from 1 to 30"),
        ("1.5", "whole numbers"),
        ("", "whole numbers"),
        ("1:.5,2", "whole numbers"),
        ("1:x", "whole numbers"),
        ("2,2", "a number occurs twice"),
        ("1:.5,2:.4", "the shares sum to 0.9"),
        ("1:1.5,2:-.5", "each must be above 0"),
        ("1:nan,2:.5", "the shares sum to nan"),
    ],
)
def test_what_is_no_mixture_is_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        READ(word)


@pytest.mark.parametrize("level", LEVELS)
def test_lengths_and_frame_rates_come_in_their_shares_apart(level: str) -> None:
    choices = Choices(seconds=READ("1:.2,2:.5,4:.25,8:.05"), fps=READ("16:.8,24:.1,30:.1"))
    drawn = [(show.shots[0].fps, sum(shot.frames for shot in show.shots)) for show in shows(level, 1000, choices)]
    seconds, rates = Counter(frames / fps for fps, frames in drawn), Counter(fps for fps, _ in drawn)
    for found, shares in ((seconds, {1: 0.2, 2: 0.5, 4: 0.25, 8: 0.05}), (rates, {16: 0.8, 24: 0.1, 30: 0.1})):
        assert found.keys() == shares.keys()
        assert all(abs(found[value] / 1000 - share) < 0.05 for value, share in shares.items())
    fast = [frames / fps for fps, frames in drawn if fps > 16]
    assert abs(np.mean([length == 2 for length in fast]) - 0.5) < 0.12  # one choice tells nothing of the other


@pytest.mark.parametrize("level", ["simple", "full"])
def test_a_rate_that_is_chosen_changes_nothing_else(level: str) -> None:
    for index in range(40):
        plain = sample_spec(21, index, level)
        chosen = Choices(fps=Mixture.of(30)).show(21, level, SIZE, 0.0, index).shots[0]
        assert replace(chosen, fps=plain.fps, frames=plain.frames) == plain and chosen.duration == plain.duration
        assert Choices().show(21, level, SIZE, 0.0, index) == Show((plain,))
    show = sample_show(21, 0, SIZE)
    assert Choices().show(21, "shows", SIZE, 0.0, 0) == show


@pytest.mark.parametrize("level", LEVELS)
def test_clips_of_a_second_sound(level: str) -> None:
    made = shows(level, 300, Choices(seconds=Mixture.of(1)))
    assert all(sum(shot.frames for shot in show.shots) == show.shots[0].fps for show in made)
    specs = [show.shots[0] for show in made]
    assert all(spec.props or any(person.syllables for person in spec.characters) for spec in specs)
    onsets = [onset for spec in specs for prop in spec.props for onset in prop.onsets]
    spoken = [syllable for spec in specs for person in spec.characters for syllable in person.syllables]
    assert min(onsets) >= 0.2 and max(onsets) <= 0.85 and all(0 < one.start < one.end < 1 for one in spoken)
    assert not any(is_silent(render_show(show).mix[None]) for show in made[:12])


@pytest.mark.parametrize("level", LEVELS)
def test_captions_that_tell_all(level: str) -> None:
    for index in range(60):
        spec = sample_spec(21, index, level)
        told = told_by_captions(tell_all(spec))
        assert told.light == spec.mood and [one.kind for one in told.people] == [one.kind for one in spec.characters]
        for person, seen in zip(told.people, spec.characters, strict=True):
            assert not seen.visible or (person.shirt, person.side) == (seen.shirt, seen.side)
        counts = [len(prop.onsets) if len(prop.onsets) <= 6 else None for prop in spec.props]
        assert [one.count for one in told.objects] == counts
        assert [(one.size, one.colour) for one in told.objects] == [(prop.size, prop.colour) for prop in spec.props]
        assert len(told.drifting) == len(spec.distractors)


@pytest.mark.parametrize("level", LEVELS)
def test_a_share_of_captions_tells_all_and_the_others_what_they_did(level: str) -> None:
    def bare(spec: Spec) -> Spec:
        """Script without what is told of it."""
        people = tuple(replace(one, mentioned=()) for one in spec.characters)
        things = tuple(replace(one, mentioned=()) for one in spec.props)
        drifting = tuple(replace(one, mentioned=False) for one in spec.distractors)
        return replace(
            spec, characters=people, props=things, distractors=drifting, mood_mentioned=False, music_mentioned=False
        )

    plain, told = (shows(level, 300, Choices(told=share)) for share in (None, 0.3))
    same = 0
    for before, after in zip(plain, told, strict=True):
        assert list(map(bare, after.shots)) == list(map(bare, before.shots))
        assert after in (before, Show(tuple(map(tell_all, before.shots))))
        same += after == before
    all_told = sum(show == Show(tuple(map(tell_all, show.shots))) for show in plain)
    assert abs((300 - same) - 0.3 * (300 - all_told)) < 0.1 * 300


def test_what_a_level_has_not_is_refused() -> None:
    with pytest.raises(UserError, match="puppet length 31: give a whole number from 1 to 30"):
        sample_spec(0, 0, seconds=31)
    with pytest.raises(UserError, match="puppet frame rate 11: give a whole number from 12 to 30"):
        sample_spec(0, 0, "full", fps=11)
    with pytest.raises(UserError, match="level 'full' has no shots, held_out to choose"):
        Choices(shots=2, held_out=True).check("full")
