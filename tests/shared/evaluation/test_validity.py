"""Validity: true clips are puppet shows, and what no script draws is none, however smooth, sharp or empty it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.fakes import FAKES
from shared.evaluation.validity import SceneReading, limits, picture_scores, validity
from shared.puppets.clip import render_clip
from shared.puppets.script import sample_spec
from shared.puppets.told import Told, told_by_script

SPECS = [s for s in (sample_spec(32, i) for i in range(40)) if s.props and s.characters][:6]
CLIPS = [render_clip(spec) for spec in SPECS]
SCENES = [SceneReading.read(clip.frames, 16) for clip in CLIPS]
BETWEEN = {region: (floor, 30.0) for region, (floor, _) in limits(SCENES).items()}
"""A ceiling as a codec has it; drawings of what was drawn would have none."""


def mean(scenes: list[SceneReading]) -> float:
    found = [validity(one, told_by_script(spec), BETWEEN)[0] for one, spec in zip(scenes, SPECS, strict=True)]
    return float(np.mean(found))


def test_truth_is_valid_and_another_clips_drawing_is_not() -> None:
    assert mean(SCENES) > 0.98
    other = [validity(a, told_by_script(s), BETWEEN, b)[0] for a, b, s in zip(SCENES, SCENES[1:], SPECS, strict=False)]
    assert np.mean(other) < 0.1


@pytest.mark.parametrize(("name", "most"), [("blurred", 0.8), ("empty", 0.0), ("block-shuffled", 0.15)])
def test_fakes_are_not_valid(name: str, most: float) -> None:
    made = [FAKES[name].make(s, c.frames, c.mix)[0] for s, c in zip(SPECS, CLIPS, strict=True)]
    assert mean([SceneReading.read(frames, 16) for frames in made]) <= most


def test_nothing_that_cannot_be_read_is_dropped() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    for frames in (noise, np.zeros_like(noise), np.full_like(noise, 127), np.full_like(noise, 255)):
        value, count = validity(SceneReading.read(frames, 16), told_by_script(SPECS[0]), BETWEEN)
        assert count == 1 and value < 0.05
        assert validity(SceneReading.read(frames, 16), Told(), BETWEEN)[0] < 0.3


def test_half_of_what_is_asked_is_worth_half() -> None:
    told = told_by_script(SPECS[0])
    twice = replace(told, people=told.people * 2)
    assert validity(SCENES[0], twice, BETWEEN)[0] == pytest.approx(0.5, abs=0.02)


def test_two_clips_mixed_are_neither() -> None:
    mixed = (CLIPS[0].frames.astype(int) + CLIPS[1].frames) // 2
    value, _ = validity(SceneReading.read(mixed.astype(np.uint8), 16), told_by_script(SPECS[0]), BETWEEN)
    assert value < 0.6


def test_scores_of_a_picture_have_their_names() -> None:
    scores = picture_scores(SCENES[0], told_by_script(SPECS[0]), BETWEEN, (8, 8))
    assert {name.split("_")[0] for name in scores} == {"validity", "blockiness", "sharpness", "energy"}
    assert [above / below for above, below in scores.values()] == pytest.approx([1] * 10, abs=0.05)


def test_a_window_is_judged_by_its_own_frames() -> None:
    frames = CLIPS[0].frames.copy()
    frames[:4] = 127
    scene, told = replace(SCENES[0], frames=frames), told_by_script(SPECS[0])
    first = np.arange(len(frames)) < 4
    between = {region: (floor, 30.0) for region, (floor, _) in limits(SCENES, [first] * len(SCENES)).items()}
    assert validity(scene, told, between, window=first)[0] < 0.1
    assert validity(scene, told, between, window=~first)[0] == 1
    assert validity(SCENES[0], told, between, window=first)[0] == 1
    assert validity(scene, told, between, SCENES[1], window=~first)[0] < 0.3


def test_a_window_beyond_a_shorter_scene_meets_its_last_picture() -> None:
    short = SceneReading.read(CLIPS[1].frames[:8], 16)
    last = np.arange(len(CLIPS[0].frames)) >= 24
    there, own = (SCENES[0].decibels(scene, last) for scene in (short, SCENES[0]))
    assert set(there) == {"objects", "people", "rest"} and there["people"] < own["people"]
