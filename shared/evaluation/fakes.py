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
from shared.puppets.script import Spec
from shared.puppets.sound import mouth_opening, synthesise
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
    frames = render(spec, [mouth_opening(spec, character) for character in spec.characters])
    return frames, np.stack([*synthesise(spec).values()]).sum(axis=0, dtype=np.float32)


FAKES = {
    "blurred": Fake("each frame blurred", blurred),
    "empty": Fake("an empty stage in silence", empty),
    "frozen": Fake("the middle frame, all the time", frozen),
    "block-shuffled": Fake("blocks of 8x8 pixels at other places", shuffled_blocks),
    "event-less": Fake("nothing happens, in neither stream", without_events),
    "fixed times": Fake("one hit at one second, seen and heard, whatever is told", fixed_times),
    "late sound": Fake("the sound a third of a second late", late_sound),
}
