"""Clips against what is told of them: the truth has everything right, and each wrong attribute costs its own score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.evaluation.told_scores import belief_scores, count_scores, heard_scores, seen_scores
from shared.puppets.readers import AudioReading, HeardSyllable
from shared.puppets.script import Character, Distractor, Prop, sample_spec
from shared.puppets.script_fit import ScriptFit
from shared.puppets.told import Told, ToldObject, ToldPerson

MOVING, STILL = np.sin(np.arange(32.0)) ** 2, np.zeros(32)
PEOPLE = (
    Character("man", "left", "red", 0.0, True, (), ()),
    Character("woman", "right", "blue", 0.0, True, (), ()),
)
THINGS = (Prop("ball", "big", "red", "centre", True, (0.5, 1.0), ()),)
SCRIPT = replace(sample_spec(32, 0), characters=PEOPLE, props=THINGS, mood="warm bright")
FIT = ScriptFit(SCRIPT, (MOVING, STILL))
TOLD = Told(
    (ToldPerson("man", "left", "red", True), ToldPerson("woman", "right", "blue", False)),
    (ToldObject("ball", "big", "red", 2),),
    "warm bright",
    "fast",
)


def values(fit: ScriptFit, told: Told = TOLD) -> dict[str, float]:
    scores = seen_scores(told, fit)
    return {n: right / count for n, (right, count) in scores.items() if count and n not in ("looks", "all_looks")}


def test_the_truth_has_everything_right() -> None:
    assert set(values(FIT).values()) == {1.0} and len(values(FIT)) == 10


@pytest.mark.parametrize(
    ("changed", "lower"),
    [
        (
            {"characters": (replace(PEOPLE[0], shirt="blue"), replace(PEOPLE[1], shirt="red"))},
            {"shirt": 0, "binding": 0},
        ),
        ({"characters": (replace(PEOPLE[0], kind="woman"), PEOPLE[1])}, {"gender": 0.5, "binding": 0.5}),
        (
            {"characters": (replace(PEOPLE[0], side="right"), replace(PEOPLE[1], side="left"))},
            {"side": 0, "binding": 0},
        ),
        ({"props": (replace(THINGS[0], colour="green"),)}, {"colour": 0}),
        ({"props": (replace(THINGS[0], size="small"),)}, {"size": 0}),
        ({"props": (replace(THINGS[0], onsets=(0.5,)),)}, {"count_seen": 0}),
        ({"props": (replace(THINGS[0], onsets=(0.5, 12.0)),)}, {"count_seen": 0}),  # after the end
        ({"props": (*THINGS, replace(THINGS[0], kind="drum"))}, {"kind": 0.5}),  # an uninvited guest
        ({"mood": "cold dark"}, {"light": 0}),
    ],
)
def test_what_is_wrong_costs_its_own_score(changed: dict[str, Any], lower: dict[str, float]) -> None:
    found = values(ScriptFit(replace(SCRIPT, **changed), (MOVING, STILL)))
    assert {name: value for name, value in found.items() if value < 1} == lower


def test_looks_take_all_of_it_together() -> None:
    def looks(fit: ScriptFit, told: Told = TOLD) -> list[tuple[float, float]]:
        return [seen_scores(told, fit)[name] for name in ("looks", "all_looks")]

    assert looks(FIT) == [(10, 10), (1, 1)]
    green = replace(SCRIPT, props=(replace(THINGS[0], colour="green", onsets=()),), mood="cold dark")
    assert looks(ScriptFit(green, FIT.mouths)) == [(8, 10), (0, 1)]
    assert looks(replace(FIT, mouths=(MOVING, MOVING))) == [(10, 10), (1, 1)]  # who speaks is no look
    nothing = ScriptFit(replace(SCRIPT, characters=(), props=()), ())
    assert looks(nothing, Told()) == [(0, 0), (0, 0)] and looks(nothing) == [(1, 10), (0, 1)]


def test_both_mouths_moving_is_half_right_and_nobody_there_is_wrong_in_everything() -> None:
    assert values(ScriptFit(SCRIPT, (MOVING, MOVING)))["speaker"] == 0.5
    nobody = values(ScriptFit(replace(SCRIPT, characters=(), props=()), ()))
    assert {name for name, value in nobody.items() if value} == {"light"}


def test_what_is_not_told_is_not_asked() -> None:
    found = values(FIT, Told((ToldPerson("man"),), (ToldObject("ball"),)))
    assert found == {"gender": 0.5, "kind": 1}  # the woman was not told


def test_offscreen_is_not_looked_for() -> None:
    told = Told((ToldPerson("man", speaks=True, visible=False),), (ToldObject("ball", count=2, visible=False),))
    assert values(ScriptFit(replace(SCRIPT, characters=(), props=()), ()), told) == {}


def test_what_drifts_is_asked_for_where_it_is_told_and_costs_nothing_elsewhere() -> None:
    told = replace(TOLD, drifting=(("balloon", "red"),))
    for drifting, right in (
        ((), 0),
        ((Distractor("balloon", "red", 0.1, 0.1, 0.3, False),), 1),
        ((Distractor("balloon", "blue", 0.1, 0.1, 0.3, False),), 0),
        ((Distractor("cloud", "red", 0.1, 0.1, 0.3, False),), 0),
    ):
        fit = replace(FIT, spec=replace(SCRIPT, distractors=drifting))
        assert values(fit, told)["drifting"] == right and "drifting" not in values(fit)
        assert values(fit, replace(TOLD, drifting=(("balloon", None),)))["drifting"] == bool(
            drifting and drifting[0].kind == "balloon"
        )


def test_objects_have_sides_too() -> None:
    told = replace(TOLD, people=(), objects=(ToldObject("ball", side="left"),))
    assert seen_scores(told, FIT)["side"] == (0, 1)
    assert seen_scores(replace(told, objects=(ToldObject("ball", side="centre"),)), FIT)["side"] == (1, 1)


def test_voices_and_modes_are_those_told() -> None:
    high, low = (HeardSyllable(0.1, 0.3, 0, voice) for voice in (0.2, -0.1))
    heard = AudioReading(np.zeros(0), np.zeros(9), "dark", "minor", (high, low, high))
    woman, man = (replace(TOLD, people=(ToldPerson(kind, speaks=True),), mode="minor") for kind in ("woman", "man"))
    assert heard_scores(woman, heard)["voice"] == (1, 1) and heard_scores(man, heard)["voice"] == (0, 1)
    assert heard_scores(man, replace(heard, syllables=(low,)))["voice"] == (1, 1)
    assert heard_scores(man, replace(heard, syllables=()))["voice"] == (0, 1)
    assert heard_scores(replace(man, people=(*man.people, *woman.people)), heard)["voice"] == (0, 0)
    assert heard_scores(man, heard)["mode"] == (1, 1)
    assert heard_scores(replace(man, mode="major"), heard)["mode"] == (0, 1)


def test_counts_are_right_in_every_stream_that_is_made() -> None:
    two, one = (AudioReading(np.array(times), np.zeros(9), "dark") for times in ([0.5, 1.0], [0.5]))
    assert heard_scores(TOLD, two) == {"count_heard": (1, 1), "pace": (0, 1), "mode": (0, 0), "voice": (0, 1)}
    assert heard_scores(TOLD, replace(two, pace="bright"))["pace"] == (1, 1)
    once = ScriptFit(replace(SCRIPT, props=(replace(THINGS[0], onsets=(0.5,)),)), FIT.mouths)
    for fit, audio, right in ((FIT, two, 1), (FIT, one, 0), (once, two, 0), (FIT, None, 1), (None, one, 0)):
        assert count_scores(TOLD, fit, audio) == {"count": (right, 1)}
    assert count_scores(Told((), (ToldObject("ball"),)), FIT, two) == {"count": (0, 0)}


@pytest.mark.parametrize(
    ("said", "changed", "believed"),
    [
        (("mood", "cold dark"), {}, (0, 1)),
        (("mood", "cold dark"), {"mood": "cold dark"}, (1, 0)),
        (("mood", "cold dark"), {"mood": "warm dark"}, (0, 0)),
        (("object", "drum"), {}, (0, 1)),
        (("object", "drum"), {"props": (replace(THINGS[0], kind="drum"),)}, (1, 0)),
        (("person", "woman"), {"characters": PEOPLE[1:]}, (1, 0)),
    ],
)
def test_a_clip_believes_its_text_or_what_is_given(
    said: tuple[str, str], changed: dict[str, Any], believed: tuple[int, int]
) -> None:
    spec = replace(SCRIPT, characters=PEOPLE[:1], caption_overrides=(said,))
    fit = ScriptFit(replace(SCRIPT, characters=PEOPLE[:1]) if not changed else replace(SCRIPT, **changed), (MOVING,))
    found = belief_scores(spec, fit, None)
    assert (found["text_believed"], found["given_believed"]) == tuple((float(one), 1.0) for one in believed)


def test_of_a_sound_only_the_pace_tells_whom_it_believes() -> None:
    spec = replace(SCRIPT, caption_overrides=(("mood", "cold dark"),))
    slow, nothing = (AudioReading(np.zeros(0), np.zeros(1), pace) for pace in ("dark", ""))
    assert belief_scores(spec, None, slow) == {"text_believed": (1.0, 1.0), "given_believed": (0.0, 1.0)}
    none = {"text_believed": (0.0, 0.0), "given_believed": (0.0, 0.0)}
    assert belief_scores(spec, None, nothing) == none
    assert belief_scores(replace(spec, caption_overrides=(("object", "drum"),)), None, slow) == none
    unseen = replace(spec, caption_overrides=(("object", "drum"),), props=(replace(THINGS[0], visible=False),))
    assert belief_scores(unseen, FIT, None) == none
