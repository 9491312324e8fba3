"""What is heard of a clip of the puppets; on the level `shows` also the music's mode, and the vowels and voices.

A voice is told by its pitch: the spectrum below 2.3 kHz is compared with those of a man's and a woman's vowels.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shared.puppets.harmony import read_mode
from shared.puppets.readers import AudioReading, HeardSyllable, Sound, read_sound
from shared.puppets.script import PERSONS, Character, Spec, Syllable, sample_spec
from shared.puppets.sound import HIGH_BAND, VOWELS, synthesise
from shared.puppets.spec import PITCHES
from shared.puppets.vowels import read_syllables

Array = NDArray[np.float64]

WINDOW, EVIDENCE = 0.064, (-0.03, 0.0, 0.03)
"""Seconds of a spectrum, and from the middle of a syllable, of the spectra that are added up."""
LOWEST, GLIDE, STEP = 90.0, 1.06, 1.0125
"""Hz below which no voice is; ratio by which pitches glide; ratio of the pitches that are compared."""


def hear(sound: NDArray[np.float32], rate: int, level: str) -> AudioReading:
    """Read mono sound, float [N] in [-1, 1], of a level."""
    heard = read_sound(sound, rate)
    if level != "shows":
        return heard
    syllables = [one._replace(voice=read_voice(sound, rate, one)) for one in read_syllables(sound, rate)]
    return replace(heard, mode=read_mode(sound, rate), syllables=tuple(syllables))


def read_voice(sound: Sound, rate: int, syllable: HeardSyllable) -> float:
    """By how much a syllable in mono `sound` [N] is more like a woman's than like a man's, -1..1."""
    middle, size = (syllable.start + syllable.end) / 2, round(WINDOW * rate)
    padded = np.pad(np.asarray(sound, np.float64), size)
    firsts = [round((middle + by) * rate) + size - size // 2 for by in EVIDENCE]
    spectrum = np.sum([_spectrum(padded[first : first + size], rate) for first in firsts], axis=0)
    shape = np.sqrt(spectrum / max(float(spectrum.sum()), 1e-12))
    man, woman = (float((_voices(kind, rate) @ shape).max()) for kind in PERSONS)
    return woman - man


def _spectrum(sound: Array, rate: int) -> Array:
    frequency = np.fft.rfftfreq(len(sound), 1 / rate)
    inside = (frequency > LOWEST) & (frequency < HIGH_BAND)
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound))))[inside]


@cache
def _voices(kind: str, rate: int) -> Array:
    """Spectra of a kind's vowels at all its pitches, as square roots of shares, [voices, bins]."""
    size = round(WINDOW * rate)
    script: Spec = replace(sample_spec(0, 0), rate=rate, fps=1, frames=1, music=False, props=(), articulated=True)
    lowest, highest = PITCHES[kind][0] / GLIDE, PITCHES[kind][1] * GLIDE
    pitches = lowest * STEP ** np.arange(np.log(highest / lowest) / np.log(STEP))
    shapes = []
    for vowel in range(len(VOWELS)):
        for pitch in pitches.tolist():
            person = Character(kind, "left", "red", pitch, True, (Syllable(0, 1, 1.0, vowel, (1.0, 1.0)),), ())
            voice = synthesise(replace(script, characters=(person,)))["speech1"].astype(np.float64)
            spectrum = _spectrum(voice[(len(voice) - size) // 2 :][:size], rate)
            shapes.append(np.sqrt(spectrum / spectrum.sum()))
    return np.array(shapes)
