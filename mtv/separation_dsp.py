"""Speech, effects and music by signal processing alone: no weights, no training (docs/mtv.md).

Two passes of soft masks on a short-time Fourier transform. The tracks sum to the mix.

1. Long windows: tones that hold their level for seconds are music (harmonic against percussive, by order statistics
   along time and frequency: FitzGerald, DAFx 2010). All tones share one loudness curve, so that where a voice or a hit
   covers some of them the others tell how loud they are.
2. Short windows on what is left: a click above 4 kHz marks a hit. What rose with it and has only fallen since is the
   ringing of the hit; what rises without a click is a voice. A voice shows between 2.3 and 3.8 kHz, and a frame has no
   more of it below than that band allows. What is no voice is of a hit within a second of a click, and else of music.

Melodies, drums, quick changes of chord, effects without a sharp attack, and singing land on the wrong track. Recorded
voices hold tones that are taken for music, and hiss where a hit clicks: for recordings of the real world the speech is
to be found by a network, and `split_rest` parts what is left.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, percentile_filter
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from shared.utils.onsets import onset_peaks

Array = NDArray[np.float64]

LEAST_RATE = 16000  # Hz; below it the band of the clicks is missing
VOICE_BAND, CLICK_BAND = (2300.0, 3900.0), (4200.0, 7600.0)  # Hz: where a voice is looked for, and where a hit is
RING_TOP = 2200.0  # Hz; between ringing and clicks nothing belongs to a hit
MUSIC_WINDOW, MUSIC_SPAN, MUSIC_TOP = 0.256, 4.0, 2000.0
"""Seconds of the long window and of the span over which a tone is steady; Hz above which no tone is looked for."""
TONE_LEVEL, CURVE_LEVEL = 10, 50
"""Percentiles: along time, a tone's usual level (the others only add to it); among the tones, the loudness curve."""
TONE_WIDTH, TONE_RISE, LOUDEST = 150.0, 2.0, 3.0
"""Hz around a tone, how far it stands out of them, and how far the curve rises above the usual level."""
WINDOW, CLICK_WINDOW = 0.048, 0.016  # seconds of the short window, and of the one that finds clicks; hops are a quarter
CLICK_FLOOR, CLICK_SHARE, CLICK_RISE, CLICK_GAP = 10 ** (-50 / 20), 0.15, 2.0, 0.15
"""A click's least level, its least share of the loudest, its rise over just before, seconds between two."""
CLICK_BEFORE = (15, 5)  # frames before a click, from and to, over which it rises: 60 to 20 ms earlier
CLICK_LAST, LONGEST_DECAY = 0.1, 0.5  # seconds that a click may last, and in which a ringing falls to 1/e at the latest
HEARD = 1.0  # seconds that a hit may be heard after its click
VOICE_SHARE = 2.0  # how many times louder a voice is below VOICE_BAND than inside it, at most
_SILENT = 1e-3  # share of the loudest frame below which a frame says nothing about the music
_TINY = 1e-12


def split(mix: NDArray[np.float32], rate: int) -> tuple[Array, Array, Array]:
    """Speech, effects, music: float64 [channels, N], whose sum is `mix`. One mask serves all channels."""
    sound = np.asarray(mix, np.float64)
    rest, clicks = _without_tones(sound, rate)
    unvoiced = _masked(rest, rate, WINDOW, lambda level, transform: _unvoiced_mask(level, transform, clicks))
    speech, effects = rest - unvoiced, unvoiced * _after_clicks(clicks, rest.shape[1], rate)
    return speech, effects, sound - speech - effects


def split_rest(sound: NDArray[np.float32], rate: int) -> tuple[Array, Array]:
    """Effects and music, whose sum is `sound`, [channels, N] without voices: the ringing of hits, and all else."""
    whole = np.asarray(sound, np.float64)
    rest, clicks = _without_tones(whole, rate)
    hits = _masked(rest, rate, WINDOW, lambda level, transform: _ringing_mask(level, transform, clicks))
    effects = hits * _after_clicks(clicks, rest.shape[1], rate)
    return effects, whole - effects


def _without_tones(sound: Array, rate: int) -> tuple[Array, Array]:
    """`sound` [channels, N] without what holds its level for seconds, and the clicks that are in it, seconds."""
    rest = sound - _masked(sound, rate, MUSIC_WINDOW, _music_mask)
    return rest, find_clicks(rest, rate)


def find_clicks(sound: Array, rate: int) -> Array:
    """Seconds, ascending, at which the level of CLICK_BAND jumps up; `sound` is [channels, N]."""
    padded, transform = _padded(sound, rate, CLICK_WINDOW)
    band = _band(_level(transform.stft(padded)), transform, CLICK_BAND)
    loudness = 2 * band / transform.win.sum()  # a sine of amplitude 1 has level 1
    times = transform.t(padded.shape[1])
    gap, onsets = round(CLICK_GAP / transform.delta_t), []
    for peak in onset_peaks(loudness, CLICK_FLOOR, CLICK_SHARE, gap, rise=CLICK_RISE, before=CLICK_BEFORE):
        while peak > 0 and loudness[peak - 1] > loudness[peak] / 2:
            peak -= 1
        onsets.append(times[peak])
    return np.array(onsets)


def _masked(sound: Array, rate: int, window: float, mask: Callable[[Array, ShortTimeFFT], Array]) -> Array:
    """Part of `sound` [channels, N] that `mask(level [bins, frames], transform)`, 0..1, lets through."""
    padded, transform = _padded(sound, rate, window)
    spectrum = transform.stft(padded, padding="even")  # mirrored at its ends, a steady tone stays steady there
    kept = transform.istft(spectrum * mask(_level(spectrum), transform), k1=padded.shape[1])
    return np.real(kept)[:, : sound.shape[1]]


def _padded(sound: Array, rate: int, window: float) -> tuple[Array, ShortTimeFFT]:
    """`sound` with silence behind it until it fills one window, and the transform of such windows."""
    size, missing = 4 * round(window * rate / 4), max(0, round(window * rate) + 1 - sound.shape[1])
    return np.pad(sound, ((0, 0), (0, missing))), ShortTimeFFT(hann(size, sym=False), size // 4, rate)


def _level(spectrum: NDArray[np.complex128]) -> Array:
    return np.sqrt((np.abs(spectrum) ** 2).mean(0))


def _band(level: Array, transform: ShortTimeFFT, band: tuple[float, float]) -> Array:
    """Level inside a band (Hz); [frames]."""
    return np.sqrt((level[(transform.f >= band[0]) & (transform.f <= band[1])] ** 2).sum(0))


def _music_mask(level: Array, transform: ShortTimeFFT) -> Array:
    """Share of each bin that its steady tone has; [bins, frames]."""
    mask, loudness = np.zeros_like(level), np.sqrt((level**2).sum(0))
    sounding = loudness > max(_SILENT * loudness.max(), _TINY)
    if not sounding.any():
        return mask
    bins = int(np.searchsorted(transform.f, MUSIC_TOP))
    audible = level[:bins, sounding]
    frames = max(3, round(MUSIC_SPAN / transform.delta_t))
    usual = percentile_filter(audible, TONE_LEVEL, size=(1, frames))
    around = median_filter(usual, size=(round(TONE_WIDTH / transform.delta_f) | 1, 1))
    tones = np.where(usual > TONE_RISE * around, usual, 0.0)
    # how many times louder than usual the tones are, [frames]: a weighted percentile over them, smoothed
    ratio = np.where(tones > 0, audible / np.maximum(tones, _TINY), np.inf)
    order = np.argsort(ratio, axis=0)
    weight = np.cumsum(np.take_along_axis(tones, order, 0), axis=0)
    chosen = (weight < CURVE_LEVEL / 100 * weight[-1]).sum(0, keepdims=True)
    curve = np.take_along_axis(np.take_along_axis(ratio, order, 0), chosen, 0)[0]
    curve = np.minimum(median_filter(np.where(weight[-1] > 0, curve, 0.0), 3), LOUDEST)
    music = np.minimum(tones * curve, audible)
    mask[:bins, sounding] = music**2 / (music**2 + (audible - music) ** 2 + _TINY)
    return mask


def _unvoiced_mask(level: Array, transform: ShortTimeFFT, clicks: Array) -> Array:
    """Share of each bin that is no voice; [bins, frames]."""
    ringing = _ringing(level, transform, clicks)
    voice = np.maximum(level - ringing, 0.0)
    low = transform.f < VOICE_BAND[0]
    band = _band(level, transform, VOICE_BAND)
    allowed = np.minimum(1.0, VOICE_SHARE * band / (np.sqrt((voice[low] ** 2).sum(0)) + _TINY))
    voice[low] *= allowed
    # what is too much for a voice is none; where nothing is, the voice gets it
    ringing[low] = np.where(allowed < 1, np.maximum(ringing[low], level[low] - voice[low]), ringing[low])
    return ringing**2 / (ringing**2 + voice**2 + _TINY)


def _ringing_mask(level: Array, transform: ShortTimeFFT, clicks: Array) -> Array:
    """Share of each bin that rings after a click; [bins, frames]."""
    ringing = _ringing(level, transform, clicks)
    return ringing**2 / (ringing**2 + np.maximum(level - ringing, 0.0) ** 2 + _TINY)


def _after_clicks(clicks: Array, samples: int, rate: int) -> Array:
    """1 from each click until HEARD after it, 0 elsewhere, with ramps of a window outside; [samples]."""
    times = np.arange(samples) / rate
    index = np.searchsorted(clicks, times, side="right")
    before, after = np.append(-np.inf, clicks)[index], np.append(clicks, np.inf)[index]
    return np.clip(1 + np.maximum(before + HEARD - times, times - after) / WINDOW, 0, 1)


def _ringing(level: Array, transform: ShortTimeFFT, clicks: Array) -> Array:
    """Level of the hits, [bins, frames]: what rose at a click, as long as it only falls."""
    ringing = np.zeros_like(level)
    times = transform.delta_t * (np.arange(level.shape[1]) + transform.p_min)
    half, fading = transform.m_num * transform.T / 2, np.exp(-transform.delta_t / LONGEST_DECAY)
    firsts = np.searchsorted(times, clicks - half)  # the first window that reaches the click
    nexts = np.append(firsts, level.shape[1])[1:]
    low, high = transform.f < RING_TOP, transform.f > CLICK_BAND[0]
    for click, first, following in zip(clicks, firsts, nexts, strict=True):
        settled = min(int(np.searchsorted(times, click + half / 2)), level.shape[1] - 1)
        old = other = np.zeros(len(level))
        if first:
            old = ringing[:, first - 1].copy()
            other = np.maximum(level[:, first - 1] - old, 0.0)
        rose = np.maximum(level[:, settled : settled + 2].min(1) - other, 0.0)
        attack = level[:, first : settled + 1]
        least = np.minimum(attack, np.maximum(rose, old)[:, None])
        ringing[:, first : settled + 1] = np.maximum(least, attack - other[:, None])
        for k in range(settled + 1, following):
            ringing[:, k] = np.minimum(level[:, k], ringing[:, k - 1] * fading)
        end = int(np.searchsorted(times, click + CLICK_LAST))
        ringing[high, first:end] = level[high, first:end]
    ringing[~(low | high)] = 0.0
    return ringing
