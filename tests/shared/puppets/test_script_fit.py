"""The script that a picture shows, fitted without its caption, against the truth; and drawn again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.puppets.clip import render_clip
from shared.puppets.picture import render
from shared.puppets.script import Character, Spec, Syllable, sample_spec
from shared.puppets.script_fit import ScriptFit, fit_script
from shared.puppets.sound import mouth_opening


def short(index: int, level: str = "full") -> Spec:
    spec = sample_spec(32, index, level)
    return replace(spec, fps=16, frames=round(spec.duration * 16))


def decibels(frames: np.ndarray, drawing: np.ndarray) -> float:
    return float(-10 * np.log10(max(np.square((frames.astype(float) - drawing) / 255).mean(), 1e-9)))


@pytest.mark.parametrize("level", ["simple", "full"])
def test_who_and_what_is_there_and_when_things_happen(level: str) -> None:
    for spec in [s for s in (short(i, level) for i in range(30)) if s.duration <= 3][:8]:
        frames = render_clip(spec).frames
        fit = fit_script(frames, spec.fps, level)
        assert [d.kind for d in fit.spec.distractors] == [d.kind for d in spec.distractors]
        people = sorted((c.side, c.kind, c.shirt) for c in spec.characters if c.visible)
        assert sorted((c.side, c.kind, c.shirt) for c in fit.spec.characters) == people
        props = sorted((p for p in spec.props if p.visible), key=lambda prop: prop.slot)
        found = sorted(fit.spec.props, key=lambda prop: prop.slot)
        looks = [[(p.slot, p.kind, p.colour, p.size) for p in some] for some in (props, found)]
        assert looks[0] == looks[1] and fit.spec.mood == spec.mood
        for prop, one in zip(props, found, strict=True):
            assert fit.events(one) == pytest.approx(prop.onsets, abs=0.03)
        openings = {c.side: mouth_opening(spec, c) for c in spec.characters}
        for person, mouth in zip(fit.spec.characters, fit.mouths, strict=True):
            assert np.abs(mouth - openings[person.side]).max() < 0.2
        assert decibels(frames, fit.draw()) > 33, spec.id


def test_shows_fit_with_their_vowels_their_camera_and_what_drifts() -> None:
    specs = [s for s in (sample_spec(36, i, "shows") for i in range(60)) if s.duration <= 2]
    specs = [s for s in specs if s.distractors or s.pan != (0, 0)][:3]
    assert len({s.fps for s in specs}) > 1 and any(c.syllables for s in specs for c in s.characters)
    for spec in specs:
        frames = render_clip(spec).frames
        fit = fit_script(frames, spec.fps, "shows")
        people = sorted((c.side, c.kind, c.shirt) for c in spec.characters if c.visible)
        assert sorted((c.side, c.kind, c.shirt) for c in fit.spec.characters) == people
        props = sorted((p.slot, p.kind, p.colour, p.size) for p in spec.props if p.visible)
        assert sorted((p.slot, p.kind, p.colour, p.size) for p in fit.spec.props) == props
        assert len(fit.onsets) == sum(len(p.onsets) for p in spec.props if p.visible)
        assert [d.kind for d in fit.spec.distractors] == [d.kind for d in spec.distractors]
        assert fit.spec.pan == pytest.approx(spec.pan, abs=0.01) and len(fit.formed) == len(fit.mouths)
        assert decibels(frames, fit.draw()) > 38, spec.id


def test_a_mouth_of_another_vowel_in_every_frame_does_not_fit() -> None:
    person = Character("woman", "left", "red", 0.0, True, (), ())
    script = replace(short(0, "simple"), level="shows", articulated=True, props=(), music=False)
    found = []
    for frames in (4, 1):
        said = [Syllable(k / 16 - 0.01, k / 16 + 0.01, 1.0, k // frames % 5, (1.0, 1.0)) for k in range(script.frames)]
        spoken = replace(script, characters=(replace(person, syllables=tuple(said)),))
        picture = render(spoken, [np.full(script.frames, 0.7)])
        found.append(decibels(picture, fit_script(picture, 16, "shows").draw()))
    assert found[0] > 45 and found[1] < found[0] - 10


def test_a_ball_that_jumps_does_not_fit() -> None:
    spec = next(s for s in (short(i, "simple") for i in range(99)) if s.props and s.props[0].kind == "ball")
    empty, frames = render(replace(spec, props=()), [np.zeros(32)] * len(spec.characters)), render_clip(spec).frames
    jumping = frames.copy()
    jumping[8:24:3] = empty[8:24:3]  # now it is there, now it is not
    smooth, torn = (fit_script(made, 16).draw() for made in (frames, jumping))
    assert decibels(jumping, torn) < decibels(frames, smooth) - 8


def test_the_beat_of_the_wall_is_found_and_none_where_there_is_none() -> None:
    specs = [replace(s, music=music) for music in (True, False) for s in (short(i, "simple") for i in range(6))]
    for spec in specs:
        fit = fit_script(render_clip(spec).frames, 16).spec
        assert fit.music == spec.music and (not spec.music or abs(fit.tempo - spec.tempo) < 20)


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (64, 96)])
def test_other_sizes_and_an_object_at_which_nothing_happens(size: tuple[int, int]) -> None:
    spec = next(s for s in (short(i, "simple") for i in range(99)) if s.props and s.props[0].kind == "ball")
    for onset in (20.0, -20.0):
        still = replace(spec, size=size, props=(replace(spec.props[0], onsets=(onset,)),), characters=())
        fit = fit_script(render(still, []), 16)
        assert [p.kind for p in fit.spec.props] == ["ball"] and not fit.onsets.size
        assert decibels(render(still, []), fit.draw()) > 35


def test_noise_and_emptiness_are_read_without_failing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    for frames in (noise, np.zeros_like(noise), np.full_like(noise, 255), noise[:1]):
        fit = fit_script(frames, 16)
        assert isinstance(fit, ScriptFit) and fit.draw().shape == frames.shape
    stage = replace(short(0, "simple"), characters=(), props=())
    assert not fit_script(render(stage, []), 16).spec.props
