"""Reading a clip of the puppets: what its video and its audio show, without the truth about times.

Of the script only what the captions say is used: which kinds are visible and, where mentioned, on which side. So
generated samples are read as rendered ones, and pictures and sounds can be paired at will, which gives floors. The
puppets keep bands (Hz) apart: onsets click in 4500-7500, voices alone reach 2300-3800, music has roots in 120-330.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from shared.puppets.picture import (
    FLASH_CENTRE_Y,
    FLASH_RADII,
    MOUTH_CENTRE_Y,
    MOUTH_HALF_WIDTH,
    SLOTS,
    render,
)
from shared.puppets.scene_fit import SIDE, Detection, Frames, Mention, canonical, read_layout
from shared.puppets.script import KINDS, PERSONS, Character, Spec, sample_spec
from shared.puppets.shapes import RING_RADII, RING_WIDTH, ring
from shared.puppets.sound import beat
from shared.puppets.styles import STYLES
from shared.utils.onsets import half_rise, onset_peaks

Array = NDArray[np.float64]
Sound = NDArray[np.float32] | Array

FLASH_LEAST, FLASH_SHARE = 0.1, 0.3
"""Least opacity of a spark, and its least share of the brightest one of the clip, both as a peak's prominence."""
RING_VIOLET = 0.7  # a ring's lesser of red and blue, over its green
SPARK_GAP = 0.2  # seconds between two onsets that are kept apart; the scripts have 0.35
NOSE_Y, MOUTH_BOX_HALF_HEIGHT = 0.475, 0.06
CLICK_BAND, SPEECH_BAND, MUSIC_BAND = (4500.0, 7500.0), (2300.0, 3800.0), (120.0, 330.0)
HOP = 0.005  # seconds between two frames of the analysis
WINDOW = 0.016
CLICK_FLOOR = 10 ** (-44 / 20)  # RMS of the click band below which nothing is an onset
CLICK_RISE, CLICK_SHARE = 2.0, 0.2
"""How many times louder than just BEFORE, and which share of the clip's loudest click, an onset has to be."""
BEFORE = (round(0.06 / HOP), round(0.02 / HOP))
"""Frames before an onset, from and to, that are compared with it."""
CLICK_GAP = 0.15  # seconds between two onsets that are kept apart; the scripts have 0.35
LAST = 0.03
"""Seconds before the end in which nothing is an onset: codecs put a step there."""
MUSIC_FLOOR, PACE_STEP, PACE_SPREAD = 1e-4, 4, 0.3
"""RMS below which there is no music; frames per step of the beat's fit; relative deviation that counts as a misfit."""


@dataclass(frozen=True)
class VideoReading:
    """Read from a picture: `onsets` in seconds, ascending, of all visible objects together; `mouths`, the opening per
    frame [T] of each of the `people`, zeros for a face that is not there; `people` and `objects`, what was found for
    the visible characters and props, in the script's order."""

    onsets: Array
    fps: float
    mouths: tuple[Array, ...]
    people: tuple[Detection, ...]
    objects: tuple[Detection, ...]
    mood: str


class HeardSyllable(NamedTuple):
    """A syllable read from sound: when its voice is on, in seconds, its vowel, and by how much `voice` is more like a
    woman's than like a man's."""

    start: float
    end: float
    vowel: int
    voice: float = 0.0


@dataclass(frozen=True)
class AudioReading:
    """Read from a sound: `onsets` in seconds, ascending; `loudness` of speech every HOP seconds; pace of the music. On
    `shows` also its mode ("" where there is no music) and the syllables (`hearing`)."""

    onsets: Array
    loudness: Array
    pace: str
    mode: str = ""
    syllables: tuple[HeardSyllable, ...] = ()

    def loudness_at(self, times: Array) -> Array:
        return np.interp(times, np.arange(len(self.loudness)) * HOP, self.loudness)


def read_picture(frames: NDArray[np.uint8], fps: float, spec: Spec) -> VideoReading:
    """Read frames uint8 [T, H, W, 3] of a clip whose captions are those of `spec`."""
    pixels = canonical(frames)
    mentions = [Mention(c.kind, c.side if "side" in c.mentioned else None) for c in spec.characters if c.visible]
    layout = read_layout(pixels, mentions + [Mention(prop.kind) for prop in spec.props if prop.visible], spec.style)
    faces = tuple(one for one in layout.detections if one.kind in PERSONS)
    props = tuple(one for one in layout.detections if one.kind in KINDS)
    mouths = [read_mouth(pixels, layout.pan, f.slot) if f.found else np.zeros(len(frames)) for f in faces]
    onsets = [flash_onsets(read_flash(pixels, layout.pan, p.kind, p.slot, spec.style), fps) for p in props]
    return VideoReading(np.sort(np.concatenate([*onsets, []])), fps, tuple(mouths), faces, props, layout.mood)


def read_sound(sound: NDArray[np.float32], rate: int) -> AudioReading:
    """Read mono sound, float [N] in [-1, 1]."""
    loudness = gaussian_filter1d(band_level(sound, rate, SPEECH_BAND), 0.025 / HOP)
    return AudioReading(read_onsets(sound, rate), loudness, read_pace(sound, rate))


def read_mouth(frames: Frames, pan: Array, slot: str) -> Array:
    """How open the mouth at a place is, per frame [T], with the camera at `pan` [T]: the missing brightness of the
    mouth's box in canonical `frames` relative to the bare skin above it, 0 for skin and 1 for black."""
    grey = frames.mean(-1)
    box = _box(pan, SLOTS[slot], MOUTH_CENTRE_Y, MOUTH_HALF_WIDTH, MOUTH_BOX_HALF_HEIGHT)
    skin = _box(pan, SLOTS[slot], NOSE_Y, 0.03, 0.02)
    return 1 - (grey * box).sum((1, 2)) / np.maximum((grey * skin).sum((1, 2)), 1e-3)


@cache
def mouth_range(mood: str, style: str = "stage") -> tuple[float, float]:
    """Calibrate `read_mouth`: what it reads from a shut mouth and from a wide open one in the light of a mood."""
    person = Character("man", "left", "red", 0.0, True, (), ())
    script: Spec = replace(
        sample_spec(0, 0), size=(SIDE, SIDE), fps=2, frames=2, mood=mood, style=style, characters=(person,), props=(),
        distractors=(), pan=(0.0, 0.0), silence=None, music=False,
    )  # fmt: skip
    frames = canonical(render(script, [np.array([0.0, 1.0])]))
    shut, wide = read_mouth(frames, np.zeros(2), "left")
    return float(shut), float(wide)


def read_flash(frames: Frames, pan: Array, kind: str, slot: str, style: str = "stage") -> Array:
    """Opacity of the cue at an object's contact point, per frame [T], over what usually is there: of the white spark
    or, where the style has one, of the violet ring, which is read wherever it may be."""
    if STYLES[style].cue == "ring":
        return _read_ring(frames, pan, kind, slot)
    (rx, ry), (x, y), white = FLASH_RADII[kind], _grid(pan), frames.min(-1)
    dx, dy = (x - SLOTS[slot]) / rx, (y - FLASH_CENTRE_Y[kind]) / ry
    spot = np.exp(-2 * (dx * dx + dy * dy))
    spot, usual = np.where(spot > 0.05, spot, 0), np.median(white, 0)
    return (spot * (white - usual)).sum((1, 2)) / np.maximum((spot * spot * (1 - usual)).sum((1, 2)), 1e-9)


def _read_ring(frames: Frames, pan: Array, kind: str, slot: str) -> Array:
    """Violet within a ring's reach, by the lesser of red and blue over green, as a share of a ring's at its onset."""
    x, y = _grid(pan)
    dx, dy = x - SLOTS[slot], y - FLASH_CENTRE_Y[kind]
    violet = np.minimum(frames[..., 0], frames[..., 2]) - frames[..., 1].astype(np.float64)
    near = np.hypot(dx, dy) < RING_RADII[1] + RING_WIDTH
    gain = (near * np.maximum(violet - np.median(violet, 0), 0)).sum((1, 2))
    return gain / (RING_VIOLET * (near * ring(dx, dy, 0.0)).sum((1, 2)))


def flash_onsets(flash: Array, fps: float) -> Array:
    """Onset times in seconds, ascending, of a spark of opacity `flash` [T]: where it passes half of a peak that stands
    out in the clip, between frames, which is as true where a codec has spread the rise over several."""
    peaks = onset_peaks(flash, FLASH_LEAST, FLASH_SHARE, max(1, round(SPARK_GAP * fps)), prominent=True)
    return np.sort(np.array([half_rise(flash, peak) / fps for peak in peaks]))  # two peaks may share one rise


def _grid(pan: Array) -> tuple[Array, Array]:
    """Scene coordinates of the pixels' centres: x [T, 1, SIDE] under the camera, y [1, SIDE, 1]."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    return centres + pan[:, None, None], centres[None, :, None]


def _box(pan: Array, cx: float, cy: float, half_width: float, half_height: float) -> Array:
    """Weights [T, SIDE, SIDE] of a box in scene units, summing to 1, with fractional pixels at its edges."""
    x, y = _grid(pan)
    inside_x = np.clip(0.5 + (half_width - np.abs(x - cx)) * SIDE, 0, 1)
    weights = inside_x * np.clip(0.5 + (half_height - np.abs(y - cy)) * SIDE, 0, 1)
    return weights / weights.sum((1, 2), keepdims=True)


def band_level(sound: Sound, rate: int, band: tuple[float, float], window: float = WINDOW) -> Array:
    """RMS amplitude of `sound` [N] inside `band` every HOP seconds, [1 + N / (rate * HOP)]; frame k is at k * HOP."""
    size, hop = round(window * rate), round(HOP * rate)
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size))
    count = len(sound) // hop + 1
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    return np.sqrt(2 * power[:, inside].sum(1) / size / (np.hanning(size) ** 2).sum())


def read_onsets(sound: Sound, rate: int) -> Array:
    """Onset times in seconds, ascending: where CLICK_BAND passes half of a peak that rises from what was before."""
    level = band_level(sound, rate, CLICK_BAND)
    peaks = onset_peaks(level, CLICK_FLOOR, CLICK_SHARE, round(CLICK_GAP / HOP), rise=CLICK_RISE, before=BEFORE)
    return np.array([half_rise(level, peak) * HOP for peak in peaks if peak * HOP <= len(sound) / rate - LAST])


def read_pace(sound: Sound, rate: int) -> str:
    """Pace of the music: "bright" (fast) or "dark" (slow), "" where there is none.

    The level of MUSIC_BAND is fitted by the puppets' beat at every tempo and phase of a grid. Frames with speech, just
    after a click, or louder than the beat explains weigh little. The mode is not read: codecs do not carry its thirds.
    """
    level, loudness, click = (
        band_level(sound, rate, band, window)[::PACE_STEP]
        for band, window in ((MUSIC_BAND, 0.05), (SPEECH_BAND, 0.03), (CLICK_BAND, 0.03))
    )
    if np.median(level) < MUSIC_FLOOR:
        return ""
    loudness = maximum_filter1d(loudness, 3)
    fade = np.exp(-HOP * PACE_STEP / 0.2)  # a hit rings on, by 1/e in 0.2 s
    ringing = np.array(list(accumulate(click[1:], lambda last, hit: max(last * fade, hit), initial=0.0)))
    clean = (level > MUSIC_FLOOR) / (1 + (loudness / 0.002) ** 2 + (ringing / 0.005) ** 2)
    beats, fast = _beats(len(level))
    weights = np.broadcast_to(clean, beats.shape)
    for _ in range(4):
        gain = (weights * beats * level).sum(1) / np.maximum((weights * beats**2).sum(1), 1e-12)
        music = np.maximum(gain[:, None] * beats, 1e-6)
        weights = clean / (1 + np.maximum(0, (level - music) / (PACE_SPREAD * music)) ** 2)
    misfit = (clean * np.log1p(((level - music) / (PACE_SPREAD * music)) ** 2)).sum(1)
    return "bright" if fast[np.argmin(misfit)] else "dark"


@cache
def _beats(count: int) -> tuple[Array, NDArray[np.bool_]]:
    """Loudness of the puppets' music at tempi and phases of a grid, [grid, count], and which of them are fast."""
    times = np.arange(count, dtype=np.float64) * HOP * PACE_STEP
    grid = [(bpm, phase) for bpm in (*range(64, 81, 4), *range(132, 153, 5)) for phase in np.arange(0, 1, 0.125)]
    swing = np.array([beat(times, bpm, phase) for bpm, phase in grid])
    return 0.35 + 0.65 * swing, np.array([bpm > 100 for bpm, _ in grid])
