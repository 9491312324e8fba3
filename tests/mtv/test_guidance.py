"""Guidance per track: the coefficients, the interval, and what they do to a prediction that is linear."""

from __future__ import annotations

import itertools

import pytest
import torch

from mtv.guidance import FULL, NO_TEXT, NOTHING, TrackGuidance, TrackState, combine
from shared.utils.errors import UserError

SCALES = (0.0, 1.0, 2.5)
SPEECH, EFFECTS, MUSIC = (TrackState(dropped=track) for track in ("speech", "effects", "music"))


def test_coefficients_sum_to_one_and_hold_no_zero():
    for scales in itertools.product(SCALES, repeat=4):
        weights = TrackGuidance(*scales).weights(0.5)
        assert sum(weights.values()) == pytest.approx(1) and 0 not in weights.values()


def test_each_scale_asks_for_one_state():
    assert TrackGuidance(1, 1, 1, 1).weights(0.5) == {FULL: 1}
    assert TrackGuidance(3, 1, 1, 1).weights(0.5) == {FULL: 3, NO_TEXT: -2}
    assert TrackGuidance(1, 3, 1, 1).weights(0.5) == {FULL: 3, SPEECH: -2}
    assert TrackGuidance(1, 1, 3, 1).weights(0.5) == {FULL: 3, EFFECTS: -2}
    assert TrackGuidance(1, 1, 1, 3).weights(0.5) == {FULL: 3, MUSIC: -2}
    assert TrackGuidance(2, 3, 1, 0).weights(0.5) == {FULL: 3, NO_TEXT: -1, SPEECH: -2, MUSIC: 1}
    assert set(TrackGuidance(2, 2, 2, 2).weights(0.5)) == {FULL, NO_TEXT, SPEECH, EFFECTS, MUSIC}
    assert TrackGuidance().weights(0.5) == {FULL: 2.5, NO_TEXT: -1, SPEECH: -0.5}
    assert TrackGuidance(0, 1, 1, 1).weights(0.5) == {NO_TEXT: 1}


def test_a_scale_moves_along_its_own_condition_only():
    """The formula itself; and where conditions add up, each counts as often as its scale says."""
    states = (FULL, NO_TEXT, SPEECH, EFFECTS, MUSIC)
    v = {state: torch.randn(2, 3, dtype=torch.float64) for state in states}
    guided = combine(TrackGuidance(4, 3, 2.5, 0.5).weights(0.5), v)
    more = 3 * (v[FULL] - v[NO_TEXT]) + 2 * (v[FULL] - v[SPEECH])
    more += 1.5 * (v[FULL] - v[EFFECTS]) - 0.5 * (v[FULL] - v[MUSIC])
    torch.testing.assert_close(guided, v[FULL] + more)

    base, *effects = torch.randn(5, 3, dtype=torch.float64)
    total = base + torch.stack(effects).sum(0)
    added = dict(zip(states, (total, *(total - effect for effect in effects)), strict=True))
    expected = base + 4 * effects[0] + 3 * effects[1] + 2.5 * effects[2] + 0.5 * effects[3]
    torch.testing.assert_close(combine(TrackGuidance(4, 3, 2.5, 0.5).weights(0.5), added), expected)


def test_one_state_is_its_prediction_to_the_bit():
    v = -torch.zeros(2, 3)
    assert combine({FULL: 1.0}, {FULL: v}) is v


def test_guidance_is_off_outside_its_interval():
    guidance = TrackGuidance(text=3.0, interval=(0.2, 0.8))
    assert NO_TEXT in guidance.weights(0.8) and NO_TEXT in guidance.weights(0.21)
    for sigma in (0.2, 0.81, 1.0):
        assert guidance.weights(sigma) == {FULL: 1.0}


def test_impossible_values_are_refused():
    with pytest.raises(UserError, match="the music scale of guidance is nan"):
        TrackGuidance(music=float("nan"))
    with pytest.raises(UserError, match="interval"):
        TrackGuidance(interval=(0.5, 0.5))
    with pytest.raises(UserError, match="guidance both: separate"):
        TrackGuidance(form="both")
    with pytest.raises(UserError, match="the scale scale of guidance is inf"):
        TrackGuidance(form="joint", scale=float("inf"))


def test_the_joint_form_is_its_formula():
    """v(0c,T without all) + w [v(c,T) - v(0c,T without all)], as MTV's official code has it, at 3.5."""
    assert TrackGuidance(form="joint").weights(0.5) == {FULL: 3.5, NOTHING: -2.5}
    assert TrackGuidance(form="joint", scale=1).weights(0.5) == {FULL: 1}
    assert TrackGuidance(form="joint", scale=0).weights(0.5) == {NOTHING: 1}
    assert TrackGuidance(form="joint", interval=(0.0, 0.4)).weights(0.5) == {FULL: 1}
    full, nothing = torch.randn(2, 4, dtype=torch.float64)
    guided = combine(TrackGuidance(form="joint", scale=3.5).weights(0.5), {FULL: full, NOTHING: nothing})
    torch.testing.assert_close(guided, nothing + 3.5 * (full - nothing))
