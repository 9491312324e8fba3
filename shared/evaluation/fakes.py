"""Clips that are made to fool a measure: what each of them must be caught by is tested, and stands in docs/measures.md.

All are made of true clips, by one function of frames uint8 [T, H, W, 3] and one of sound float32 [N] each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from shared.puppets.picture import render
from shared.puppets.script import MOODS, PERSONS, Character, Spec
from shared.puppets.sound import VOWELS, mouth_opening, synthesise
from shared.puppets.spec import PITCHES
from shared.utils.rng import numpy_generator

Frames = NDArray[np.uint8]
Sound = NDArray[np.float32]
Clip = tuple[Frames, Sound]
BLUR, CELL = 1.5, 8
"""Pixels: standard deviation of the blur; side of the blocks that are shuffled."""


class Fake(NamedTuple):
    """What is wrong with it, and how it is made of a script's true frames and mix."""

    what: str
    make: Callable[[Spec, Frames, Sound], Clip]


def blurred(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Blur each frame."""
    return gaussian_filter(frames, (0, BLUR, BLUR, 0)), sound


def empty(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Show the stage without anybody or anything, and play silence."""
    return render(replace(spec, characters=(), props=(), distractors=()), []), np.zeros_like(sound)


def frozen(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Show the middle frame all the time."""
    return np.repeat(frames[len(frames) // 2][None], len(frames), 0), sound


def shuffled_blocks(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Shuffle the blocks of the picture, all frames alike; sizes that CELL does not divide keep their edges."""
    height, width = (size // CELL * CELL for size in frames.shape[1:3])
    shape = (len(frames), height // CELL, CELL, width // CELL, CELL, 3)
    blocks = frames[:, :height, :width].reshape(shape).swapaxes(2, 3)
    flat = blocks.reshape(len(frames), -1, CELL, CELL, 3)
    order = numpy_generator(spec.seed, "shuffled blocks", spec.index).permutation(flat.shape[1])
    made = frames.copy()
    shuffled = flat[:, order].reshape(blocks.shape).swapaxes(2, 3)
    made[:, :height, :width] = shuffled.reshape(len(frames), height, width, 3)
    return made, sound


def without_events(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Leave each object as it waits for an event that does not come, in both streams."""
    never = tuple(replace(prop, onsets=(spec.duration + 1.0,)) for prop in spec.props)
    return drawn(replace(spec, props=never))


def fixed_times(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Let the first object hit at one second, whatever is told; video and audio agree perfectly."""
    last = [replace(prop, onsets=(spec.duration + 1.0,)) for prop in spec.props[1:]]
    first = [replace(prop, onsets=(1.0,)) for prop in spec.props[:1]]
    return drawn(replace(spec, props=(*first, *last)))


def late_sound(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Play the sound a third of a second too late, its end at the beginning."""
    return frames, np.roll(sound, spec.rate // 3)


def drawn(spec: Spec) -> Clip:
    """Draw a script, as `render_clip` does, without its truth."""
    return render(spec, [mouth_opening(spec, character) for character in spec.characters]), mixed(spec)


def mixed(spec: Spec) -> Sound:
    """Sound of a script."""
    return np.stack([*synthesise(spec).values()]).sum(axis=0, dtype=np.float32)


def other_vowels(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Let mouths open as far as they do, but form other vowels than are heard."""

    def others(person: Character) -> Character:
        return replace(person, syllables=tuple(replace(s, vowel=(s.vowel + 2) % len(VOWELS)) for s in person.syllables))

    made = replace(spec, characters=tuple(others(person) for person in spec.characters))
    return drawn(made)[0], sound


def other_mode(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Play the same music in the other mode."""
    warmth, brightness = spec.mood.split()
    return frames, mixed(replace(spec, mood=f"{'cold' if warmth == 'warm' else 'warm'} {brightness}"))


def other_voices(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Let men speak with women's voices, and women with men's."""

    def other(person: Character) -> Character:
        kind = PERSONS[1 - PERSONS.index(person.kind)]
        return replace(person, kind=kind, pitch=float(np.mean(PITCHES[kind])))

    return frames, mixed(replace(spec, characters=tuple(other(person) for person in spec.characters)))


def other_light(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Show the scene in the opposite light."""
    return drawn(replace(spec, mood=MOODS[MOODS.index(spec.mood) ^ 1]))[0], sound


def clear_sky(spec: Spec, frames: Frames, sound: Sound) -> Clip:
    """Leave out what drifts by."""
    return drawn(replace(spec, distractors=()))[0], sound


FAKES = {
    "blurred": Fake("each frame blurred", blurred),
    "empty": Fake("an empty stage in silence", empty),
    "frozen": Fake("the middle frame, all the time", frozen),
    "block-shuffled": Fake("blocks of 8x8 pixels at other places", shuffled_blocks),
    "event-less": Fake("nothing happens, in neither stream", without_events),
    "fixed times": Fake("one hit at one second, seen and heard, whatever is told", fixed_times),
    "late sound": Fake("the sound a third of a second late", late_sound),
}

OF_SHOWS = {
    "other vowels": Fake("mouths open as far, but form other vowels than are heard", other_vowels),
    "other mode": Fake("the same music in the other mode", other_mode),
    "other voices": Fake("men with women's voices, and women with men's", other_voices),
    "other light": Fake("a cold dark scene in warm bright light, and so on", other_light),
    "clear sky": Fake("nothing drifts by", clear_sky),
}
"""Fakes that other levels would not notice."""


def fakes_of(level: str) -> dict[str, Fake]:
    """Fakes that have to be caught on a level."""
    return FAKES | OF_SHOWS if level == "shows" else FAKES
