from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.face_scores import face_scores, mouth_range
from shared.puppets.picture import render
from shared.puppets.readers import read_picture
from shared.puppets.script import MOODS, Spec, sample_spec


@pytest.fixture(scope="module")
def spec() -> Spec:
    return next(s for s in (sample_spec(32, i) for i in range(20)) if s.characters and s.props)


@pytest.mark.parametrize("opening", [0.0, 0.3, 1.0])
def test_the_opening_is_that_of_the_stage(spec: Spec, opening: float) -> None:
    frames = render(spec, [np.full(spec.frames, opening)])
    scores = face_scores(read_picture(frames, spec.fps, spec))
    assert scores["face_visible"] == (1, 1)
    assert scores["mouth_opening"] == (pytest.approx(opening, abs=0.06), 1)


def test_a_face_that_is_not_there_has_no_opening(spec: Spec) -> None:
    empty = render(replace(spec, characters=()), [])
    scores = face_scores(read_picture(empty, spec.fps, spec))
    assert scores == {"face_visible": (0, 1), "mouth_opening": (0, 0)}


@pytest.mark.parametrize("mood", MOODS)
def test_wide_and_shut_are_far_apart_in_any_light(mood: str) -> None:
    shut, wide = mouth_range(mood)
    assert wide - shut > 0.3
