"""What drifts by is found where it is, on its path, and nothing is found where nothing drifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared.puppets.drifting import find_drifting
from shared.puppets.picture import render
from shared.puppets.scene_fit import canonical
from shared.puppets.script import Distractor, Spec, sample_spec
from shared.puppets.sound import mouth_opening

SPECS = [s for s in (sample_spec(34, i, "shows") for i in range(60)) if s.duration <= 3]
DRIFTING = [s for s in SPECS if s.distractors][:5]


def pictures(spec: Spec) -> tuple[np.ndarray, list[np.ndarray]]:
    mouths = [mouth_opening(spec, character) for character in spec.characters]
    return canonical(render(spec, mouths)), mouths


def found(spec: Spec, pixels: np.ndarray, mouths: list[np.ndarray]) -> tuple[Distractor, ...]:
    return find_drifting(pixels, replace(spec, distractors=()), mouths)


def test_kind_colour_and_path_are_found() -> None:
    assert {d.kind for s in DRIFTING for d in s.distractors} == {"cloud", "balloon"}
    for spec in DRIFTING:
        true, thing = spec.distractors[0], found(spec, *pictures(spec))[0]
        assert thing.kind == true.kind and (thing.kind == "cloud" or thing.colour == true.colour), spec.id
        for t in (0.0, spec.duration):
            assert abs(thing.x + thing.speed * t - true.x - true.speed * t) < 0.015
        assert abs(thing.y - true.y) < 0.01


def test_nothing_is_found_where_nothing_drifts_or_only_a_ghost_does() -> None:
    for spec in [s for s in SPECS if not s.distractors][:3]:
        assert found(spec, *pictures(spec)) == (), spec.id
    for spec in DRIFTING[:2]:
        clear, mouths = pictures(replace(spec, distractors=()))
        ghost = 0.7 * clear + 0.3 * pictures(spec)[0]
        assert found(spec, ghost.astype(np.float32), mouths) == ()
    assert found(SPECS[0], np.zeros_like(pictures(SPECS[0])[0]), pictures(SPECS[0])[1]) == ()
