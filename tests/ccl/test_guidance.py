"""UCG: the coefficients of each form, intervals and rescaling."""

from __future__ import annotations

import itertools

import pytest
import torch

from ccl.guidance import FULL, NOTHING, OTHER_ONLY, TEXT_ONLY, Form, Guidance, coefficients
from shared.utils.errors import UserError

SCALES = (0.0, 1.0, 2.0, 3.5)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("has_context", [True, False])
def test_coefficients_sum_to_one_and_hold_no_zero(form, has_context):
    for w_c, w_m in itertools.product(SCALES, SCALES):
        weights = coefficients(form, w_c, w_m, has_context)
        assert sum(weights.values()) == pytest.approx(1) and 0 not in weights.values()


@pytest.mark.parametrize("form", Form)
def test_weights_of_one_are_the_plain_prediction(form):
    assert coefficients(form, 1.0, 1.0) == {FULL: 1.0}
    assert coefficients(form, 1.0, 1.0, has_context=False) == {TEXT_ONLY: 1.0}


@pytest.mark.parametrize("w", SCALES)
def test_dual_holds_the_other_forms(w):
    assert coefficients(Form.DUAL, w, w) == coefficients(Form.JOINT, w, 7.0)
    assert coefficients(Form.DUAL, 1.0, w) == coefficients(Form.CONTEXT, 7.0, w)
    assert coefficients(Form.DUAL, w, 0.0) == coefficients(Form.TEXT, w, 7.0, has_context=False)


def test_each_form_asks_for_its_states():
    states = {form: set(coefficients(form, 3.0, 2.0)) for form in Form}
    assert states == {
        Form.NONE: {FULL},
        Form.TEXT: {FULL, OTHER_ONLY},
        Form.JOINT: {FULL, NOTHING},
        Form.CONTEXT: {FULL, TEXT_ONLY},
        Form.DUAL: {FULL, TEXT_ONLY, NOTHING},
    }


def test_guidance_is_off_outside_its_interval():
    guidance = Guidance(Form.JOINT, (3.0, 4.0), interval=(0.2, 0.8))
    assert guidance.weights("audio", 0.8, True) == {FULL: 4.0, NOTHING: -3.0}
    for sigma in (0.2, 0.81, 1.0):
        assert guidance.weights("video", sigma, True) == {FULL: 1.0}
    assert guidance.weights("video", 1.0, False) == {TEXT_ONLY: 1.0}


def test_each_sample_is_guided_where_its_own_noise_lies_in_the_interval():
    guidance = Guidance(Form.DUAL, (3.0, 4.0), (2.0, 2.0), interval=(0.2, 0.8))
    predictions = {state: torch.randn(3, 2, 4) for state in (FULL, TEXT_ONLY, NOTHING)}
    levels = torch.tensor([0.9, 0.5, 0.2])
    found = guidance.combine(guidance.weights("video", levels, True), predictions)
    for sample, level in enumerate(levels):
        alone = {state: value[sample : sample + 1] for state, value in predictions.items()}
        torch.testing.assert_close(
            found[sample : sample + 1], guidance.combine(guidance.weights("video", level, True), alone)
        )
    torch.testing.assert_close(found[[0, 2]], predictions[FULL][[0, 2]])


def test_combine_is_the_weighted_sum():
    full, nothing = torch.randn(2, 3), torch.randn(2, 3)
    out = Guidance().combine({FULL: 3.0, NOTHING: -2.0}, {FULL: full, NOTHING: nothing})
    torch.testing.assert_close(out, nothing + 3 * (full - nothing))


def test_rescale_brings_the_deviation_of_each_sample_back():
    full, nothing = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    parts = {FULL: 6.0, NOTHING: -5.0}, {FULL: full, NOTHING: nothing}
    plain = Guidance().combine(*parts)
    wanted, half = full.std((1, 2)), Guidance(rescale=0.5).combine(*parts).std((1, 2))
    torch.testing.assert_close(Guidance(rescale=1.0).combine(*parts).std((1, 2)), wanted)
    torch.testing.assert_close(half, (wanted + plain.std((1, 2))) / 2)


def test_a_form_is_settled_by_what_the_model_has():
    assert Guidance().settled(True) == Guidance(Form.DUAL) and Guidance().settled(False) == Guidance(Form.TEXT)
    for form in Form:
        assert Guidance(form).settled(True) == Guidance(form)
    assert Guidance(Form.NONE).settled(False) == Guidance(Form.NONE)
    with pytest.raises(UserError, match="take text"):
        Guidance(Form.JOINT).settled(False)


def test_impossible_values_are_refused():
    with pytest.raises(UserError, match=r"1\.5"):
        Guidance(rescale=1.5)
    with pytest.raises(UserError, match="interval"):
        Guidance(interval=(0.5, 0.5))


def test_layers_are_skipped_where_the_text_is_not_there():
    guidance = Guidance(Form.DUAL, skip_layers=(11,))
    assert guidance.skipped(NOTHING) == guidance.skipped(OTHER_ONLY) == (11,)
    assert guidance.skipped(FULL) == guidance.skipped(TEXT_ONLY) == ()
    guidance.check_layers(30, step_cache=True)
    for layers, cached, message in (
        ((30,), False, "skips layer 30; this model has layers 0 to 29"),
        ((0,), True, "a step cache goes by the first and the last layer"),
        ((29,), True, "a step cache goes by"),
        (tuple(range(30)), False, "skips all 30 layers"),
    ):
        with pytest.raises(UserError, match=message):
            Guidance(skip_layers=layers).check_layers(30, cached)
    for form in (Form.NONE, Form.CONTEXT):
        with pytest.raises(UserError, match=f"guidance {form} has no evaluation without the text"):
            Guidance(form, skip_layers=(1,))
