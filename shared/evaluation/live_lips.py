"""Speech as a microphone would have it of puppets, and whether the lips of frames that were made live follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from shared.puppets.clip import render_clip
from shared.puppets.readers import HOP, read_picture, read_sound
from shared.puppets.script import HELD_OUT_SEED, Spec, sample_spec
from shared.utils.rng import numpy_generator

HISS = 0.003  # deviation of what a microphone adds


def speakers(fps: int | None = None) -> Iterator[Spec]:
    """Yield scripts of held-out clips in which the one person who is there speaks, a man or a woman as in the first."""
    first: Spec | None = None
    for index in count():
        spec = sample_spec(HELD_OUT_SEED, index, "simple", fps=fps)
        if len(spec.characters) == 1 and spec.characters[0].visible and spec.characters[0].syllables:
            first = first or spec
            if spec.characters[0].kind == first.characters[0].kind:
                yield spec


def one_speaker(fps: int) -> tuple[Spec, str]:
    """Find the first of them, and its caption."""
    spec = next(speakers(fps))
    return spec, render_clip(spec).caption


def recorded(rate: int, seconds: float) -> NDArray[np.float32]:
    """Join what they say, [N] at `rate` Hz, with the hiss of a microphone."""
    parts, there = list[NDArray[np.float32]](), 0
    for spec in speakers():
        if there >= seconds * rate:
            break
        stems = render_clip(replace(spec, rate=rate)).stems
        parts.append(np.sum([stem for name, stem in stems.items() if name.startswith("speech")], 0))
        there += len(parts[-1])
    sound = np.concatenate(parts)[: round(seconds * rate)]
    hiss = numpy_generator(0, "microphone").normal(0, HISS, len(sound))
    return (sound + hiss).astype(np.float32)


def lips_follow(
    frames: NDArray[np.uint8], numbers: NDArray[np.int64], sound: NDArray[np.float32], rate: int, spec: Spec
) -> tuple[float, float]:
    """Correlation of the mouth's opening in frames [T, H, W, 3] of these `numbers` with the loudness of the sound, and
    with that of half the sound later; 0 where the face is not there or nothing is said."""
    (mouth, *_), reading = read_picture(frames, spec.fps, spec).mouths, read_sound(sound, rate)
    last, times = len(reading.loudness) * HOP, numbers / spec.fps
    of = [reading.loudness_at(moved) for moved in (times, (times + last / 2) % last)]
    if not mouth.std() or not of[0].std() or not of[1].std():
        return 0.0, 0.0
    first, second = (float(np.corrcoef(mouth, loudness)[0, 1]) for loudness in of)
    return first, second
