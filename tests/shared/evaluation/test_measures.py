"""All measures together: the truth has their best, every fake is caught by those that are named for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.evaluation.fakes import FAKES, fakes_of
from shared.evaluation.measures import LEAST_CLIPS, MEASURES, SceneClip, measure_clips, names, shown, streams
from shared.evaluation.told_scores import BELIEFS
from shared.evaluation.validity import SceneReading
from shared.puppets.clip import render_clip
from shared.puppets.hearing import hear
from shared.puppets.readers import read_sound
from shared.puppets.script import sample_spec

FIT = [s for s in (sample_spec(32, i) for i in range(80)) if s.props and s.characters]
SPECS = [*[s for s in FIT if not s.characters[0].syllables][:1], *[s for s in FIT if s.characters[0].syllables][:5]]
"""One silent person among speaking ones."""
CLIPS = [render_clip(spec) for spec in SPECS]
TASKS = ("t2av", "t2v", "t2a", "i2av", "i2v", "shots", "part", "retake", "part:given", "a2v", "v2a", "mtv", "mtv:dsp")
OF_SHOWS = {"other vowels": "vowels", "other mode": "mode", "other voices": "voice", "other light": "light",
            "clear sky": "drifting"}  # fmt: skip
BETTER_LOW = tuple(name for name in MEASURES if name.startswith("blockiness"))


def read(clips: list[tuple[np.ndarray, np.ndarray]]) -> list[SceneClip]:
    pairs = zip(SPECS, clips, strict=True)
    return [SceneClip(s, SceneReading.read(frames, 16), read_sound(sound, s.rate)) for s, (frames, sound) in pairs]


TRUE = read([(clip.frames, clip.mix) for clip in CLIPS])


def values(sampled: list[SceneClip], task: str = "t2av") -> dict[str, Any]:
    return measure_clips(task, sampled, TRUE, range(6), (8, 8))["scores"]


def test_the_truth_is_at_the_ceiling_and_above_the_floor() -> None:
    scores = values(TRUE)
    assert scores["binding"]["clips"] == 0 == scores["once"]["clips"]
    for name, score in scores.items():
        if name in ("binding", "once"):
            continue
        assert score.get("of_true", 1) == pytest.approx(1)
        assert ("of_true" in score) == name.startswith(("blockiness", "energy"))
        assert score["headline"] == pytest.approx(1), name
        assert score["value"] > (0.8 if name == "validity" else 0.9) and (
            score["floor"] > 3 if name in BETTER_LOW else score["floor"] < 0.8
        ), name


@pytest.mark.parametrize(
    ("fake", "caught_by"),
    [
        ("blurred", {"sharpness_objects": 0.5, "energy_people": 0.5, "energy_objects": 0.5, "validity": 0.75}),
        ("empty", {"validity": 0.01, "events": 0.01, "kind": 0.01, "gender": 0.01, "speaker": 0.01, "pace": 0.01}),
        ("frozen", {"events": 0.01, "speaker": 0.5, "mouth_agreement": 0.01, "count": 0.01}),
        ("block-shuffled", {"validity": 0.1, "kind": 0.6, "events": 0.5, "looks": 0.7, "all_looks": 0.01}),
        ("event-less", {"event_recall": 0.01, "events": 0.01, "count": 0.01}),
        ("fixed times", {"events": 0.8}),
        ("late sound", {"agreement": 0.4, "events": 0.4, "mouth_agreement": 0.5}),
    ],
)
def test_every_fake_is_caught(fake: str, caught_by: dict[str, float]) -> None:
    scores = values(read([FAKES[fake].make(s, c.frames, c.mix) for s, c in zip(SPECS, CLIPS, strict=True)]))
    assert {name: scores[name]["value"] for name in caught_by if not scores[name]["value"] <= caught_by[name]} == {}
    if fake == "block-shuffled":
        assert scores["blockiness_rest"]["value"] > 5


def test_a_habit_agrees_with_itself_and_its_floor_says_so() -> None:
    made = read([FAKES["fixed times"].make(s, c.frames, c.mix) for s, c in zip(SPECS, CLIPS, strict=True)])
    still = next(
        s for s in (sample_spec(32, i) for i in range(99)) if not s.props
    )  # clips without events change nothing
    clip = render_clip(still)
    made.append(SceneClip(still, SceneReading.read(clip.frames, 16), read_sound(clip.mix, still.rate)))
    found = measure_clips("t2av", made, [*TRUE, made[-1]], range(7), (8, 8))
    agreement = found["scores"]["agreement"]
    assert agreement["value"] > 0.95 and agreement["floor"] > 0.95 and found["fixed_times"] > 0.95
    assert measure_clips("t2av", TRUE, TRUE, range(6), (8, 8))["scores"]["agreement"]["floor"] < 0.6


def test_shows_are_measured_and_each_of_their_fakes_is_caught_by_the_one_measure_it_is_for() -> None:
    every = [s for s in (sample_spec(33, i, "shows") for i in range(200)) if s.duration == 2 and s.music and s.props]
    fit = [s for s in every if all(c.visible for c in s.characters)]
    fit = [s for s in fit if len({c.kind for c in s.characters if c.syllables}) == 1]
    drifting = [s for s in fit if any(d.mentioned for d in s.distractors)]
    specs = [replace(s, fps=12, frames=24) for s in (*drifting[:1], *fit[:2])]
    clips = [render_clip(spec) for spec in specs]
    true = [
        SceneClip(s, SceneReading.read(c.frames, s.fps, "shows"), hear(c.mix, s.rate, "shows"))
        for s, c in zip(specs, clips, strict=True)
    ]

    def scores(made: list[SceneClip]) -> dict[str, Any]:
        return measure_clips("t2av", made, true, range(len(specs)), (8, 8))["scores"]

    best = scores(true)
    assert set(best) == set(names("t2av", "shows")) and best["vowels"]["floor"] < 0.5
    for name in ("vowels", "mode", "voice", "drifting", "side", "kind", "events", "speaker", "mouth_agreement"):
        assert best[name]["value"] > 0.9, name
    for fake, caught_by in OF_SHOWS.items():
        made = []
        for clip, one in zip(clips, true, strict=True):
            frames, sound = fakes_of("shows")[fake].make(one.spec, clip.frames, clip.mix)
            if frames is not clip.frames:
                one = one._replace(scene=SceneReading.read(frames, one.spec.fps, "shows"))
            made.append(one if sound is clip.mix else one._replace(audio=hear(sound, one.spec.rate, "shows")))
        found = scores(made)
        assert found[caught_by]["value"] < 0.3, fake
        fooled = ("validity", "events", "agreement", "mouth_agreement", "speaker", "count", "kind", "gender", "pace")
        assert all(found[name]["value"] > 0.9 * best[name]["value"] for name in fooled), fake


@pytest.mark.parametrize("task", TASKS)
def test_what_is_given_is_not_measured(task: str) -> None:
    made, there = streams(task)
    wanted = names(task, "simple")
    assert ("pace" in wanted) == ("audio" in made) and ("validity" in wanted) == ("video" in made)
    assert ("agreement" in wanted) == (len(there) == 2)
    assert {*names(task, "shows")} >= {*names(task, "full")} >= {*wanted}
    scores = values(TRUE, task)
    assert set(scores) == set(wanted) and scores["events"]["value"] > 0.95


def test_the_given_number_of_events_is_asked_for_where_the_text_has_none() -> None:
    silent = [replace(s, props=tuple(replace(p, mentioned=()) for p in s.props)) for s in SPECS]
    once = [clip._replace(spec=spec) for clip, spec in zip(TRUE, silent, strict=True)]
    few = [  # one of those that are seen
        clip._replace(audio=replace(clip.audio, onsets=clip.audio.onsets[:1])) for clip in once
    ]
    given, text = (
        measure_clips(task, few, once, range(6), (8, 8))["scores"]["event_recall"] for task in ("v2a", "t2av")
    )
    assert text["value"] == 1 and given["value"] < 0.8


def test_one_event_that_is_told_has_to_be_there() -> None:
    props = [tuple(replace(p, onsets=p.onsets[:1], mentioned=("count",)) for p in spec.props) for spec in SPECS]
    one = [replace(spec, props=some) for spec, some in zip(SPECS, props, strict=True)]
    told = [clip._replace(spec=spec) for clip, spec in zip(TRUE, one, strict=True)]
    deaf = [clip._replace(audio=replace(clip.audio, onsets=clip.audio.onsets[:0])) for clip in told[:3]]
    for task, wanted in (("t2a", 0.5), ("t2av", 0.5), ("t2v", 1.0)):
        score = measure_clips(task, [*deaf, *told[3:]], told, range(6), (8, 8))["scores"]["once"]
        assert (score["value"], score["headline"], score["floor"], score["clips"]) == (wanted, wanted, 0, 6)


def test_a_clip_whose_length_no_other_has_meets_the_sounds_of_the_nearest_cut_to_it() -> None:
    short = [clip._replace(spec=replace(clip.spec, frames=clip.spec.frames - i)) for i, clip in enumerate(TRUE)]
    late = [clip._replace(audio=replace(clip.audio, onsets=np.array([5.0]))) for clip in short]
    floors = [measure_clips("t2av", made, TRUE, range(6), (8, 8))["scores"]["agreement"] for made in (short, late)]
    assert floors[0]["floor"] > 0 == floors[1]["floor"] and floors[1]["ceiling"] == 1


def test_few_clips_are_not_shown_and_every_measure_says_what_would_fool_it() -> None:
    found = measure_clips("t2av", TRUE, TRUE, range(6), (8, 8))
    assert shown(found) == {}
    enough = {"scores": {"count": {"clips": LEAST_CLIPS}, "kind": {"clips": LEAST_CLIPS - 1}}}
    assert list(shown(enough)) == ["count"]
    assert all(measure.fooled_by and measure.meaning for measure in MEASURES.values())
    every = {name for task in TASKS for name in names(task, "shows")}
    assert every == set(MEASURES) - {*BELIEFS} and {*BELIEFS} <= {*names("a2v", "full", conflict=True)}
    assert {*MEASURES} - {*names("t2av", "simple"), *BELIEFS} == {"vowels", "mode", "voice", "drifting"}


def test_texts_that_contradict_what_is_given_are_told_apart_where_something_is_given() -> None:
    specs = [sample_spec(32, i, conflict=1.0) for i in range(8)]
    fit = [s for s in specs if s.caption_overrides][:3]
    clips = [render_clip(s) for s in fit]
    pairs = zip(fit, clips, strict=True)
    true = [SceneClip(s, SceneReading.read(c.frames, 16), read_sound(c.mix, s.rate)) for s, c in pairs]
    scores = measure_clips("a2v", true, true, range(3), (8, 8))["scores"]
    assert (scores["given_believed"]["value"], scores["text_believed"]["value"]) == (1.0, 0.0)
    assert scores["given_believed"]["clips"] == 3
    assert not {*BELIEFS} & {*measure_clips("t2av", true, true, range(3), (8, 8))["scores"]}
    assert not {*BELIEFS} & {*values(TRUE, "a2v")}
