"""The script that a picture of the puppets shows, read without any caption, so that the painter can draw it again.

Who and what stands where is found as by `scene_fit`; when things happen is read from their sparks, how mouths move from
their pixels, and the beat from the light of the wall. Where a ball is between two bounces is not read: the painter's
physics has it follow from the bounces, so that a ball that jumps does not fit.

The level is that of the world in which the picture was made: mouths form vowels on `shows`, and nothing drifts on
`simple`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from shared.puppets import readers, scene_fit
from shared.puppets.drifting import find_drifting
from shared.puppets.picture import PULSE, SLOTS, render
from shared.puppets.regions import Masks, regions
from shared.puppets.scene_fit import HALF_WIDTH, SIDE, Frames
from shared.puppets.script import KINDS, PERSONS, Character, Prop, Span, Spec, sample_spec
from shared.puppets.sound import beat
from shared.puppets.vowels import MouthReading, formed_syllables, read_mouth_shape

Array = NDArray[np.float64]

LEAST_GAIN = 0.0005
"""Mean squared error, of pixels in [0, 1], by which what stands at a place has to explain it better than nothing."""
STEPS = (0.5, 0.25, 0.125)
"""Frames by which an onset is moved, one after the other, as long as the drawing comes nearer."""
AROUND = 0.6  # seconds before and after an onset that are compared
NEVER = 9.0  # seconds after the end: the onset of an object at which nothing happens
LEAST_PULSE = 0.3  # of PULSE, by which the light of the wall has to swing for a beat to be seen
SKY = SIDE * 5 // 16
"""Upper rows, of things that drift, from which the camera is not read."""
TEMPI = (*range(64, 81, 4), *range(132, 153, 4))


@dataclass(frozen=True)
class ScriptFit:
    """What a picture shows: a script (who and what is there, with the times at which sparks were seen; `music`, whether
    the wall's light has a beat), and the opening 0..1 of each character's mouth per frame, [T] each; on `shows` also
    what is `formed` by each mouth."""

    spec: Spec
    mouths: tuple[Array, ...]
    formed: tuple[MouthReading, ...] = ()

    @property
    def onsets(self) -> Array:
        """All events that were seen, in seconds, ascending."""
        return np.array(sorted(onset for prop in self.spec.props for onset in self.events(prop)))

    @property
    def openings(self) -> tuple[Array, ...]:
        """Opening of each mouth per frame, [T] each, whatever vowel it forms there; `mouths` goes with the vowels."""
        return tuple(mouth.opening for mouth in self.formed) or self.mouths

    def events(self, prop: Prop) -> tuple[float, ...]:
        """Events of one object, in seconds."""
        return tuple(onset for onset in prop.onsets if 0 <= onset <= self.spec.duration)

    def draw(self) -> NDArray[np.uint8]:
        """Paint the script, frames uint8 [T, H, W, 3]."""
        return render(self.spec, list(self.mouths))

    def masks(self) -> Masks:
        """Regions of `draw`."""
        return regions(self.spec, list(self.mouths))


def fit_script(
    frames: NDArray[np.uint8], fps: float, level: str = "simple", style: str = "stage"
) -> ScriptFit:  # fmt: skip
    """Fit a script of a level and a style to frames uint8 [T, H, W, 3]."""
    pixels = scene_fit.canonical(frames)
    mood, standing, pan = scene_fit.read_places(pixels, LEAST_GAIN, 0 if level == "simple" else SKY, style)
    people, props = [], []
    for slot, (kind, colour, size) in standing.items():
        if kind in PERSONS:
            people.append(Character(kind, slot, colour, 0.0, True, (), ()))
        elif kind in KINDS:
            onsets = readers.flash_onsets(readers.read_flash(pixels, pan, kind, slot, style), fps)
            props.append(Prop(kind, size, colour, slot, True, tuple(onsets.tolist()), ()))
    mouths = tuple(_opening(pixels, pan, person.side, (mood, style)) for person in people)
    formed: tuple[MouthReading, ...] = ()
    if level == "shows":
        formed = tuple(read_mouth_shape(pixels, pan, one.side, one.kind, mood, fps) for one in people)
        said = [formed_syllables(mouth) for mouth in formed]
        mouths = tuple(opening for opening, _ in said)
        people = [replace(one, syllables=syllables) for one, (_, syllables) in zip(people, said, strict=True)]
    spec = replace(
        sample_spec(0, 0), level=level, style=style, articulated=level == "shows",
        size=frames.shape[1:3], fps=fps,  # type: ignore[arg-type]  # drawn at any rate
        frames=len(frames), mood=mood, music=False, silence=None,
        characters=tuple(people), props=(), distractors=(), pan=(float(pan[0]), float(pan[-1])),
    )  # fmt: skip
    if level == "simple":  # a camera that never moves: what it seems to do does not move the objects
        return _with_beat(ScriptFit(_with_times(spec, props, frames, (0.0, 0.0)), mouths), pixels)
    spec = _with_camera(_with_times(spec, props, frames, spec.pan), mouths, pixels)
    spec = replace(spec, distractors=find_drifting(pixels, spec, list(mouths)))
    return _with_beat(ScriptFit(spec, mouths, formed), pixels)


def _opening(pixels: Frames, pan: Array, slot: str, world: tuple[str, str]) -> Array:
    shut, wide = readers.mouth_range(*world)
    return np.clip((readers.read_mouth(pixels, pan, slot) - shut) / (wide - shut), 0, 1)


def _with_times(spec: Spec, props: Sequence[Prop], frames: NDArray[np.uint8], pan: Span) -> Spec:
    """Script with objects whose onsets are moved to where they look best, the camera at `pan`."""
    seen = replace(spec, pan=pan)
    return replace(spec, props=tuple(_timed(prop, seen, frames) for prop in props))


def _with_camera(spec: Spec, mouths: Sequence[Array], pixels: Frames) -> Spec:
    """Script whose camera, if it pans, goes from where to where its drawing is nearest, at every fourth frame."""
    span = range(0, len(pixels), 4)

    def misfit(pan: Span) -> float:
        drawn = render(replace(spec, size=(SIDE, SIDE), pan=pan), list(mouths), span)[:, SKY:] / 255
        return float(np.square(drawn - pixels[span, SKY:]).sum())

    pan = spec.pan
    for step in STEPS if any(pan) else ():
        for i, by in product((0, 1), (step / SIDE, -step / SIDE)):
            moved = (pan[0] + by, pan[1]) if i == 0 else (pan[0], pan[1] + by)
            pan = min(pan, moved, key=misfit)
    return replace(spec, pan=pan)


def _timed(prop: Prop, spec: Spec, frames: NDArray[np.uint8]) -> Prop:
    """Object with the onsets that were seen, moved to where its drawing is nearest; where none was seen, as it waits or
    as it rests: whichever it looks like."""
    if not prop.onsets:
        still = [replace(prop, onsets=(when,)) for when in (spec.duration + NEVER, -NEVER)]
        return min(still, key=lambda one: _misfit(one, spec, frames, spec.duration / 2, 0.0))
    for step in STEPS:
        for i, onset in enumerate(prop.onsets):
            moved = [(*prop.onsets[:i], onset + by / spec.fps, *prop.onsets[i + 1 :]) for by in (0.0, -step, step)]
            fitting = [replace(prop, onsets=onsets) for onsets in moved if list(onsets) == sorted(onsets)]
            prop = min(fitting, key=lambda one, at=onset: _misfit(one, spec, frames, at, AROUND))  # type: ignore[misc]
    return prop


def _misfit(prop: Prop, spec: Spec, frames: NDArray[np.uint8], at: float, around: float) -> float:
    """Squared error of an object's drawing in the columns of its place, in the frames around a time in seconds."""
    span = range(max(0, int((at - around) * spec.fps)), min(len(frames), int((at + around) * spec.fps) + 1))
    drawn = render(replace(spec, props=(prop,), characters=()), [], span)
    place = SLOTS[prop.slot] - float(spec.pan_offsets()[span].mean())
    unit, centre = min(spec.size), spec.size[1] / 2 + (place - 0.5) * min(spec.size)
    columns = slice(max(0, round(centre - HALF_WIDTH * unit)), round(centre + HALF_WIDTH * unit))
    return float(np.square(drawn[:, :, columns] - frames[span, :, columns].astype(float)).sum())


def _with_beat(fit: ScriptFit, pixels: Frames) -> ScriptFit:
    """Fit with the tempo and phase that the light of the wall's upper edge has; without music if it has none."""
    spec, rows = fit.spec, SIDE // 8
    wall = pixels[:, :rows].mean((1, 2, 3)).astype(float)
    if spec.distractors:
        wall = _light_beside(replace(spec, size=(SIDE, SIDE)), pixels, rows)
    swing = wall / max(float(np.median(wall)), 1e-3) - 1
    tempi, phases, waves = _beats(len(pixels), float(spec.fps))
    centred = waves - waves.mean(1, keepdims=True)
    strength = centred @ (swing - swing.mean()) / np.maximum(np.square(centred).sum(1), 1e-9)  # least squares
    explained = strength * (centred @ (swing - swing.mean()))
    best = int(np.argmax(np.where(strength > 0, explained, -1)))
    if strength[best] < LEAST_PULSE * PULSE:
        return fit
    return replace(fit, spec=replace(spec, music=True, tempo=float(tempi[best]), beat_phase=float(phases[best])))


def _light_beside(spec: Spec, pixels: Frames, rows: int) -> Array:
    """Light of the upper `rows` per frame [T], where nothing drifts in front of the wall, against the drawing's."""
    empty = replace(spec, characters=(), props=())
    drawn, bare = (render(replace(empty, distractors=some), [])[:, :rows] for some in (spec.distractors, ()))
    free = (drawn == bare).all(-1)
    light, even = ((picture[:, :rows].mean(-1) * free).sum((1, 2)) for picture in (pixels, bare))
    return np.where(even > 0, light / np.maximum(even, 1e-9), np.median(light / np.maximum(even, 1e-9)))


@cache
def _beats(count: int, fps: float) -> tuple[Array, Array, Array]:
    """Tempi, phases and the beat of each at the frame times, [grid, count]."""
    grid = [(float(bpm), phase) for bpm in TEMPI for phase in np.arange(0, 1, 0.0625)]
    times = np.arange(count) / fps
    return (*np.array(grid).T, np.array([beat(times, bpm, phase) for bpm, phase in grid]))  # type: ignore[return-value]
