"""Leakage of changes that are known: in closed form, and as the stage itself paints and plays them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.bootstrap import over_clips
from shared.evaluation.leakage import (
    Change,
    log_mel,
    overlaps,
    picture_change,
    sound_change,
    sounding_boxes,
    sounding_region,
    sounding_spans,
)
from shared.puppets.clip import render_clip, sample_spec
from shared.puppets.script import Spec

RATE = 16000


def test_a_change_of_pixels_is_parted_by_the_region():
    first = np.full((5, 8, 8, 3), 100, np.uint8)
    second, region = first.copy(), np.zeros((8, 8), bool)
    region[:2] = True
    second[:, :2] = 49  # 51 darker: a fifth
    second[:, 4:, 0] = 151  # 51 brighter in 4 of 48 pixels outside
    change = picture_change(first, second, region)
    assert change == pytest.approx((0.2 * 4 / 48, 0.2))
    assert change.ratio == pytest.approx(1 / 12)
    assert picture_change(first, second, region & False) is None
    assert picture_change(first, second, region | True) is None
    assert Change(0.1, 0.0).ratio is None


def test_a_change_of_level_is_measured_in_decibels_where_it_is():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    other = noise.copy()
    other[RATE:] *= 10 ** (-6 / 20)
    change = sound_change(noise, other, RATE, [(1.0, 2.0)])
    assert change is not None
    assert change.inside == pytest.approx(6, abs=0.05) and change.outside < 0.05
    swapped = sound_change(noise, other, RATE, [(0.0, 1.0)])
    assert swapped is not None and swapped.outside == pytest.approx(6, abs=0.1)
    assert sound_change(noise, other, RATE, []) is None and sound_change(noise, other, RATE, [(-1, 9)]) is None


def test_levels_are_those_of_a_full_scale_sine_and_end_at_the_floor():
    sine = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    levels = log_mel(sine, RATE)
    assert levels.shape == (101, 64)
    assert levels[50].max() == pytest.approx(0, abs=2.5) and levels.min() == -70
    assert (log_mel(0 * sine, RATE) == -70).all()


def test_spans_and_what_shares_time_with_them():
    spec = next(s for s in (sample_spec(4, i) for i in range(50)) if s.characters and s.props)
    spans = sounding_spans(render_clip(spec).truth, start=0.5)
    speech = spec.characters[0].syllables
    assert spans[0] == pytest.approx((speech[0].start - 0.5, speech[-1].end - 0.5))
    assert [first + 0.5 for first, _ in spans[1:]] == pytest.approx(spec.props[0].onsets)
    assert overlaps([(1.0, 2.0), (3.0, 3.5)], [0.5, 1.9, 2.0, 3.2], [1.0, 2.5, 3.0, 3.3]).tolist() == [
        False, True, False, True,
    ]  # fmt: skip
    assert not overlaps([], [0.0], [1.0]).any()


def moved(spec: Spec) -> Spec:
    """The same scene with another sound: other syllables and later onsets."""
    other = next(s for s in (sample_spec(6, i) for i in range(60)) if s.characters and s.characters[0].syllables)
    syllables = other.characters[0].syllables
    people = tuple(replace(c, syllables=syllables) for c in spec.characters)
    props = tuple(replace(p, onsets=tuple(t + 0.17 for t in p.onsets)) for p in spec.props)
    return replace(spec, characters=people, props=props)


@pytest.mark.parametrize("level", ["simple", "full"])
def test_all_that_the_stage_moves_with_its_sound_lies_in_the_region(level):
    specs = [replace(sample_spec(5, i, level), size=(48, 64)) for i in range(40)]
    specs = [s for s in specs if s.duration == 2 and any(thing.visible for thing in (*s.characters, *s.props))][:7]
    shares = []
    for spec in specs:
        one, two = render_clip(spec), render_clip(moved(spec))
        region = sounding_region([one.truth], spec.size)
        change = picture_change(one.frames, two.frames, region)
        assert change is not None and change.inside > 0.002
        shares.append(change.ratio)
        assert np.abs(one.frames.astype(int) - two.frames)[:, ~region].max() < 40, spec.id  # faint rims of sparks
    assert max(shares) < 0.015
    assert any(spec.pan != (0.0, 0.0) for spec in specs) or level == "simple"


def test_the_region_is_of_both_clips_and_only_of_what_is_seen():
    specs = [s for s in (sample_spec(7, i, "full") for i in range(120)) if s.duration == 2]
    hidden = next(s for s in specs if s.props and not any(p.visible for p in s.props))
    hidden = replace(hidden, characters=tuple(replace(c, visible=False) for c in hidden.characters))
    shown = next(s for s in specs if s.props and s.props[0].visible)
    truths = [render_clip(spec).truth for spec in (hidden, shown)]
    assert sounding_boxes(truths[0]) == [] and not sounding_region(truths[:1], (64, 64)).any()
    both = sounding_region(truths, (64, 64))
    assert np.array_equal(both, sounding_region(truths[1:], (64, 64))) and 0.02 < both.mean() < 0.8


def test_a_mean_over_clips_leaves_out_what_does_not_count():
    found = over_clips({"a": 1.0, "b": None, "c": 3.0})
    assert found["mean"] == 2.0 and found["per_clip"] == {"a": 1.0, "b": None, "c": 3.0}
    low, high = found["interval"]
    assert 1.0 <= low < 2.0 < high <= 3.0 and over_clips({"a": 1.0, "b": None, "c": 3.0}) == found
    assert over_clips({"a": None}) == {"mean": None, "interval": None, "per_clip": {"a": None}}
