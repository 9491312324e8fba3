"""What the puppets sound like (docs/design.md section 9): stems are functions of the script alone.

Bands: speech 150-3800 Hz with a fixed share above 2.3 kHz; effects ring below 2.2 kHz and click in 4.4-7.4 kHz; music
130-1500 Hz. So all three overlap below 2 kHz, 2.3-3.8 kHz is speech and 4.5-7.5 kHz marks onsets.
"""

import functools
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.puppets.script import Character, Prop, Spec, Syllable
from shared.puppets.styles import STYLES
from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]

VOWELS = ((730, 1090), (390, 1900), (320, 800), (530, 1700), (560, 900))
"""First two formants in Hz of a man; a woman's are 1.15 times higher."""
FORMANT_GAINS, FORMANT_WIDTHS = (1.0, 0.6), (130.0, 170.0)
SPEECH_TOP, HIGH_BAND, HIGH_SHARE = 3800.0, 2300.0, 0.3
"""Hz; the share of the amplitude that every vowel has between HIGH_BAND and SPEECH_TOP."""
THIRD_FORMANTS, THIRD_WIDTH = (2990.0, 3530.0, 2450.0, 3260.0, 2720.0), 110.0
"""Of an articulated voice: Hz at which the high band of each vowel has its peak, and its deviation. Voices alone reach
there, so that vowels can be told apart in the mix."""
SPEECH_LEVEL = 0.16
MOUTH_SMOOTHING = 0.025  # seconds: standard deviation of the Gaussian between loudness and mouth opening
PITCH = {"big": 1.0, "small": 2.0}
COLOUR_PITCH = {"red": 1.0, "green": 1.122, "blue": 1.26, "yellow": 1.414}
"""The sound of a colour: two semitones each, so the eight sizes and colours have eight pitches."""
CLICK_LEVEL = {"ball": 0.16, "bell": 0.18, "drum": 0.22}
CHORD = {"major": (1.0, 1.25, 1.5, 2.0), "minor": (1.0, 1.2, 1.5, 2.0)}
HIGH_THIRD = 1.2
"""Amplitude, on the level `shows`, of the chord's third two octaves up: there major and minor lie a mel band apart."""
PEAK = 0.94
_TAIL = 1.2  # seconds after which a hit is cut off
FADE = 0.03
"""Seconds at both ends of a silent span in which the stems fade; between them they are exactly zero."""


def synthesise(spec: Spec) -> dict[str, NDArray[np.float32]]:
    """Stems `speech1`.. (one per character, at least one), `effects`, `music`: float32 [N] on the 16-bit grid, absent
    ones exact zeros; one common gain keeps the peak of their sum under 0.95."""
    stems = {f"speech{i}": _speech(spec, character) for i, character in enumerate(spec.characters, 1)}
    stems = (stems or {"speech1": np.zeros(spec.samples)}) | {"effects": _effects(spec), "music": _music(spec)}
    if spec.silence:  # ramps of FADE seconds just inside its ends
        t, (start, end) = np.arange(spec.samples) / spec.rate, spec.silence
        gate = np.clip(np.maximum((start + FADE - t) / FADE, (t - end + FADE) / FADE), 0, 1)
        stems = {name: stem * gate for name, stem in stems.items()}
    gain = min(1.0, PEAK / max(1e-9, float(np.abs(sum(stems.values())).max())))
    return {name: (np.rint(stem * gain * 32768) / 32768).astype(np.float32) for name, stem in stems.items()}


def mouth_opening(spec: Spec, character: Character) -> Array:
    """Mouth's opening 0..1 at the frame times, [T]: the speaker's loudness, smoothed (MOUTH_SMOOTHING)."""
    rate = 1000
    loudness = np.zeros(int(spec.duration * rate) + 2)
    for syllable in character.syllables:
        first, last = int(np.ceil(syllable.start * rate)), int(syllable.end * rate) + 1
        loudness[first:last] = _loudness(np.arange(first, last) / rate, syllable)
    window = np.arange(-100, 101) / rate
    kernel = np.exp(-0.5 * (window / MOUTH_SMOOTHING) ** 2)
    smooth = np.convolve(loudness, kernel / kernel.sum(), mode="same")
    return np.clip(1.15 * np.interp(spec.frame_times() * rate, np.arange(len(smooth)), smooth), 0, 1)


def vowels_at(character: Character, times: Array) -> NDArray[np.int_]:
    """Vowel that the mouth forms at `times` [T]: of the nearest syllable; -1 for a person who does not speak."""
    if not character.syllables:
        return np.full(len(times), -1)
    gaps = np.array([(a.end + b.start) / 2 for a, b in pairwise(character.syllables)])
    return np.array([syllable.vowel for syllable in character.syllables])[np.searchsorted(gaps, times)]


def beat(t: Array, tempo: float, phase: float) -> Array:
    """How far the beat is on, 0..1, at times `t`: the pulse that music and light share."""
    return (0.5 + 0.5 * np.cos(2 * np.pi * (t * tempo / 60 - phase))) ** 2


def _loudness(t: Array, syllable: Syllable) -> Array:
    along = np.clip((t - syllable.start) / (syllable.end - syllable.start), 0, 1)
    return syllable.loudness * np.sin(np.pi * along**0.8) ** 2


def _speech(spec: Spec, character: Character) -> Array:
    sound = np.zeros(spec.samples)
    for syllable in character.syllables:
        first, last = int(np.ceil(syllable.start * spec.rate)), min(spec.samples, int(syllable.end * spec.rate))
        t = np.arange(first, last) / spec.rate
        since, length = t - syllable.start, syllable.end - syllable.start
        low, high = character.pitch * syllable.glide[0], character.pitch * syllable.glide[1]
        turns = low * since + (high - low) * since**2 / (2 * length)
        formants = STYLES[spec.style].formants * (1.15 if character.kind == "woman" else 1.0)
        amplitudes = _harmonics((low + high) / 2, syllable.vowel, formants, spec.articulated)
        voice = np.polyval(np.append(amplitudes[::-1], 0), np.exp(2j * np.pi * turns)).imag
        sound[first:last] = SPEECH_LEVEL * _loudness(t, syllable) * voice
    return sound


def _harmonics(pitch: float, vowel: int, scale: float, articulated: bool) -> NDArray[np.complex128]:
    """Complex amplitudes of the harmonics 1.. of a vowel; low and high band are normalised separately, so that the
    loudness read from the high band does not depend on vowel or pitch. An articulated voice has the vowel's third
    formant there. Schroeder phases keep the crest low."""
    count = int(SPEECH_TOP / (pitch * (1.04 if articulated else 1.1)))  # the pitch glides upwards by that much
    frequency = pitch * np.arange(1, count + 1)
    low = np.zeros(count)
    for formant, gain, width in zip(VOWELS[vowel], FORMANT_GAINS, FORMANT_WIDTHS, strict=True):
        low += gain / (1 + ((frequency - formant * scale) / width) ** 2)
    peak = np.exp(-0.5 * ((frequency - THIRD_FORMANTS[vowel]) / THIRD_WIDTH) ** 2) if articulated else 1.0
    high = np.where(frequency > HIGH_BAND, peak, 0.0)
    low = np.where(frequency > HIGH_BAND, 0.0, low)
    amplitude = low / np.sqrt((low**2).sum()) + HIGH_SHARE / (1 - HIGH_SHARE) * high / np.sqrt((high**2).sum())
    index = np.arange(count)
    return amplitude * np.exp(1j * np.pi * index * (index + 1) / count)


def _effects(spec: Spec) -> Array:
    sound = np.zeros(spec.samples)
    for prop in spec.props:
        for onset in prop.onsets:
            first = int(np.ceil(onset * spec.rate))
            last = min(spec.samples, first + int(_TAIL * spec.rate))
            sound[first:last] += _strike(np.arange(first, last) / spec.rate - onset, prop, spec)
    return sound


def _strike(t: Array, prop: Prop, spec: Spec) -> Array:
    """One hit: a pitched body below 2.2 kHz and a click in 4.4-7.4 kHz; `t` seconds since the onset."""
    style = STYLES[spec.style]
    pitch = style.base_pitch[prop.kind] * PITCH[prop.size] * COLOUR_PITCH[prop.colour]
    tau = 2 * np.pi * t
    if prop.kind == "ball":
        glide = pitch * tau + 2 * np.pi * pitch * 0.5 * 0.03 * (1 - np.exp(-t / 0.03))
        sound = 0.42 * (np.sin(glide) + 0.4 * np.sin(2 * glide) + 0.15 * np.sin(3 * glide)) * np.exp(-t / 0.11)
    else:
        sound = np.zeros(len(t))
        for ratio, gain, last in style.partials[prop.kind]:
            sound += gain * np.sin(ratio * pitch * tau) * np.exp(-t / last)
    attack = 1 - np.exp(-t / 0.002)
    noise = (_chirp(spec.rate) if style.click == "chirp" else _click_noise(spec.rate))[: len(t)]
    sound[: len(noise)] += CLICK_LEVEL[prop.kind] * noise * np.exp(-t[: len(noise)] / 0.02)
    return attack * sound


@functools.cache
def _click_noise(rate: int) -> Array:
    """Draw the same quarter second of band-limited noise, RMS 1, for every click."""
    samples = rate // 4
    spectrum = np.fft.rfft(numpy_generator(0, "stage click").standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    spectrum[(frequency < 4400) | (frequency > 7400)] = 0
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.sqrt((noise**2).mean())


@functools.cache
def _chirp(rate: int) -> Array:
    """Make a quarter second of a tone that falls from the top of the clicks' band to its bottom, RMS 1."""
    t = np.arange(rate // 4) / rate
    return np.sqrt(2) * np.sin(2 * np.pi * (4600 * t + 2600 * 0.02 * (1 - np.exp(-t / 0.02))))


def _music(spec: Spec) -> Array:
    if not spec.music:
        return np.zeros(spec.samples)
    t = np.arange(spec.samples) / spec.rate
    pad = np.zeros(spec.samples)
    for i, ratio in enumerate(CHORD[spec.mode]):
        turn = np.exp(2j * np.pi * (spec.root * ratio * t + 0.37 * i))
        pad += np.polyval(STYLES[spec.style].pad, turn).imag
    if spec.articulated:
        pad += HIGH_THIRD * np.sin(2 * np.pi * spec.root * 4 * CHORD[spec.mode][1] * t)
    pad *= 0.35 + 0.65 * beat(t, spec.tempo, spec.beat_phase)
    return pad / np.sqrt((pad**2).mean()) * 10 ** (spec.music_level / 20)
