"""Vowels of the puppets, read from pixels and from sound: what is said, beside how loud (`readers`).

Both readers know the puppets' five vowels and no times. A mouth is compared with what the painter would draw for every
vowel and opening; a voice by the peak of its band above all other sounds (`sound.THIRD_FORMANTS`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from shared.puppets.picture import MOUTH_CENTRE_Y, SLOTS, render
from shared.puppets.readers import HOP, SPEECH_BAND, HeardSyllable, Sound, band_level
from shared.puppets.scene_fit import SIDE, Frames, canonical
from shared.puppets.script import Character, Syllable, sample_spec
from shared.puppets.sound import HIGH_BAND, SPEECH_TOP, THIRD_FORMANTS, THIRD_WIDTH

Array = NDArray[np.float64]

VOWEL_NAMES = "aiueo"
"""Letters of the vowels, in the order of their numbers."""
OPENINGS = 16
HALF_WIDTH, HALF_HEIGHT = 0.125, 0.1
"""Of the patch around a mouth that is compared, in scene units."""
CHANGE = 0.0004
"""Mean squared error of a mouth, of pixels in [0, 1], times seconds, that a change of the vowel has to explain."""
SPEECH_FLOOR = 0.004
"""RMS of the voices' band below which nobody speaks."""
DIP = 0.35
"""Share of its own loudness by which a syllable must stand out from the dips beside it."""
EVIDENCE = 0.04
"""Seconds on both sides of a syllable's loudest moment whose spectrum tells the vowel."""


class MouthReading(NamedTuple):
    """Read from a face: `opening` 0..1 per frame [T]; `misfit` [T, 5], mean squared error of a vowel's best mouth, and
    `openings` [T, 5], how far that one is open."""

    opening: Array
    misfit: Array
    openings: Array
    fps: float

    def vowel(self, start: float, end: float) -> int | None:
        """Vowel formed between two times in seconds; None where no frame lies between them or the mouth is shut."""
        times = np.arange(len(self.opening)) / self.fps
        inside = (times >= start) & (times <= end)
        if not inside.any() or self.opening[inside].max() < 1.5 / OPENINGS:
            return None
        return int(self.misfit[inside].sum(0).argmin())


def read_mouth_shape(frames: Frames, pan: Array, slot: str, kind: str, mood: str, fps: float) -> MouthReading:
    """Read the mouth of a `kind` at a place from canonical `frames` [T, SIDE, SIDE, 3], the camera at `pan` [T], in a
    scene of `mood`."""
    patches = np.stack([_patch(frame, slot, x) for frame, x in zip(frames, pan, strict=True)])
    painted = _mouths(slot, kind, mood)
    errors = np.square(patches[:, None] - painted.reshape(1, -1, patches.shape[1])).mean(2)
    errors = errors.reshape(len(frames), len(VOWEL_NAMES), OPENINGS)
    opening = errors.min(1).argmin(1) / (OPENINGS - 1)
    return MouthReading(opening, errors.min(2).astype(np.float64), errors.argmin(2) / (OPENINGS - 1), fps)


def formed_syllables(mouth: MouthReading) -> tuple[Array, tuple[Syllable, ...]]:
    """Find the opening per frame [T] and the vowels that a mouth forms, as syllables in a row: those of least
    misfit, where every change of the vowel costs CHANGE, so that noise is not speech."""
    (count, vowels), misfit = mouth.misfit.shape, mouth.misfit / mouth.fps
    costs, before = misfit[0], np.zeros((count, vowels), int)
    for k in range(1, count):
        change = int(costs.argmin())
        stays = costs <= costs[change] + CHANGE
        before[k] = np.where(stays, np.arange(vowels), change)
        costs = np.minimum(costs, costs[change] + CHANGE) + misfit[k]
    path = np.zeros(count, int)
    path[-1] = costs.argmin()
    for k in range(count - 1, 0, -1):
        path[k - 1] = before[k, path[k]]
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    ends = [*starts[1:], count]
    syllables = tuple(
        # halfway between two of them, where the painter changes the vowel, lies between two frames
        Syllable((first - 0.25) / mouth.fps, (end - 0.75) / mouth.fps, 1.0, int(path[first]), (1.0, 1.0))
        for first, end in zip(starts, ends, strict=True)
    )
    return mouth.openings[np.arange(count), path], syllables


def read_syllables(sound: Sound, rate: int) -> list[HeardSyllable]:
    """Syllables of mono `sound` [N], of all voices, in order; music and effects may sound under them."""
    level = gaussian_filter1d(band_level(sound, rate, SPEECH_BAND), 0.015 / HOP)
    peaks, found = find_peaks(
        level, SPEECH_FLOOR, distance=round(0.1 / HOP), prominence=SPEECH_FLOOR, wlen=2 * len(level)
    )
    stands = found["prominences"] > DIP * level[peaks]
    spectra, frequency = _spectra(sound, rate)
    syllables = []
    for peak in peaks[stands]:
        loud = level > 0.25 * level[peak]
        before, after = np.flatnonzero(~loud[:peak]), np.flatnonzero(~loud[peak:])
        start = before[-1] + 1 if len(before) else 0
        end = peak + after[0] if len(after) else len(level) - 1
        near = slice(max(start, peak - round(EVIDENCE / HOP)), min(end, peak + round(EVIDENCE / HOP)) + 1)
        power = spectra[near].sum(0)
        syllables.append(HeardSyllable(start * HOP, end * HOP, int((_log_likelihoods(frequency) @ power).argmax())))
    return syllables


def vowel_agreement(mouths: Sequence[MouthReading], syllables: Sequence[HeardSyllable]) -> tuple[int, int]:
    """Count syllables whose heard vowel is formed by the mouth that is open then, and all that are heard."""
    hits = 0
    for heard in syllables:
        times = [np.arange(len(mouth.opening)) / mouth.fps for mouth in mouths]
        open_ = [
            float(mouth.opening[(t >= heard.start) & (t <= heard.end)].max(initial=0))
            for mouth, t in zip(mouths, times, strict=True)
        ]
        best = int(np.argmax(open_)) if open_ else 0
        hits += bool(mouths) and mouths[best].vowel(heard.start, heard.end) == heard.vowel
    return hits, len(syllables)


def _patch(frame: Frames, slot: str, pan: float) -> Frames:
    """Pixels around a mouth, flat [D]; columns between pixels are interpolated."""
    rows = slice(round((MOUTH_CENTRE_Y - HALF_HEIGHT) * SIDE), round((MOUTH_CENTRE_Y + HALF_HEIGHT) * SIDE))
    half = round(HALF_WIDTH * SIDE)
    columns = np.clip(round(SLOTS[slot] * SIDE) + np.arange(-half, half) - pan * SIDE, 0, SIDE - 1)
    left = np.minimum(columns.astype(int), SIDE - 2)
    share = (columns - left).astype(np.float32)[:, None]
    return (frame[rows, left] * (1 - share) + frame[rows, left + 1] * share).reshape(-1)


@cache
def _mouths(slot: str, kind: str, mood: str) -> Frames:
    """Paint every mouth, [vowels, OPENINGS, D]."""
    script = replace(sample_spec(0, 0), size=(SIDE, SIDE), fps=OPENINGS, frames=OPENINGS, mood=mood, music=False,
                     props=(), articulated=True)  # fmt: skip
    painted = []
    for vowel in range(len(VOWEL_NAMES)):
        person = Character(kind, slot, "red", 0.0, True, (Syllable(0, 1, 1.0, vowel, (1.0, 1.0)),), ())
        frames = canonical(render(replace(script, characters=(person,)), [np.linspace(0, 1, OPENINGS)]))
        painted.append([_patch(frame, slot, 0.0) for frame in frames])
    return np.array(painted)


def _spectra(sound: Sound, rate: int, window: float = 0.032) -> tuple[Array, Array]:
    """Power of the voices' band every HOP seconds, [frames, bins], and the bins' frequencies in Hz."""
    size, hop = round(window * rate), round(HOP * rate)
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: (len(sound) // hop + 1) * hop : hop]
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inside = (frequency > HIGH_BAND) & (frequency < SPEECH_TOP)
    power: Array = np.abs(np.fft.rfft(frames * np.hanning(size))[:, inside]) ** 2
    return power, np.asarray(frequency[inside], np.float64)


def _log_likelihoods(frequency: Array) -> Array:
    """Logarithm of each vowel's expected share of the power by frequency, [vowels, bins]."""
    expected = np.exp(-(((frequency - np.array(THIRD_FORMANTS)[:, None]) / (1.3 * THIRD_WIDTH)) ** 2)) + 1e-2
    return np.log(expected / expected.sum(1, keepdims=True))
