"""Events seen against events heard: AV-Align (Yariv et al. 2023, arXiv 2309.16429) with its faults mended.

Reproduced: peaks of motion against onsets of sound. Mended: the window is in seconds, so that the frame rate does not
move the number; only peaks that stand out count, not every local maximum; each peak belongs to one onset at most, in
the best one-to-one pairing; the number is the F1 of the pairs, and the lag at which it would be best stands beside it.
What would fool it: a beat in both streams, which fits at every period; the model's clips shuffled show that.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.event_scores import TOLERANCE, match
from shared.evaluation.metrics.audio_onsets import onset_strength
from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short
from shared.utils.onsets import onset_peaks

Array = NDArray[np.float64]

RATE, N_FFT, HOP, RANGE_DB = 16000, 512, 80, 40.0
SIDE = 96
"""Pixels of the shorter side in which motion is read, of the whole picture."""
GAP = 0.15
"""Seconds between two onsets, or peaks, that are kept apart."""
SHARE = 0.4
"""Least height of an onset or a peak above its surroundings, as a share of the clip's highest."""
FLOOR_DB, FLOOR_MOTION = 1.0, 0.3
"""Least flux in dB, and least change of a pixel in levels of 255, above which anything is an event."""
STEP, SPREAD = 0.01, 0.04
"""Seconds between the lags that are tried, and of the bell that each pair of a peak and an onset counts with."""
LEAST_SECONDS = 1.0


class OnsetSync:
    """F1 of one-to-one pairs of motion peaks and audio onsets at most `window` seconds apart. `lag_ms` is above 0 where
    the sound is late. A clip in which one stream has no event has 0; one in which neither has is refused."""

    name = "onset_sync"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})

    def __init__(self, window: float = TOLERANCE, most_lag: float = 0.5) -> None:
        self.window, self.most_lag = window, most_lag

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make it with the settings `window` and `most_lag` in seconds."""
        return cls(**tools.settings.get(cls.name, {}))

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        return {
            "fps": "the clip's", "shorter_side": SIDE, "rate": RATE, "hop_s": HOP / RATE, "window_s": self.window,
            "apart_s": GAP, "least_share": SHARE, "least_db": FLOOR_DB, "range_db": RANGE_DB,
            "least_change": FLOOR_MOTION, "most_lag_s": self.most_lag,
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Return "": there are no weights."""
        return ""

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too short, silent, or nothing happens in either stream."""
        if why := too_short(media, LEAST_SECONDS) or silent(media, RATE):
            return Result(None, why)
        height, width = media.frames().shape[1:3]
        scale = min(1.0, SIDE / min(height, width))
        motion = frame_change(media.frames(size=(round(height * scale), round(width * scale))))
        seen, heard = motion_peaks(motion, media.fps), sound_onsets(media.audio(RATE))
        total = len(seen.times) + len(heard.times)
        if not total:
            return Result(None, "no event, seen or heard")
        pairs = len(match(seen.times, heard.times, self.window))
        lag = event_lag(seen, heard, self.most_lag)
        shifted = 0 if lag is None else len(match(seen.times, heard.times - lag, self.window))
        facts = {
            "lag_ms": None if lag is None else round(1000 * lag), "f1_at_lag": 2 * shifted / total,
            "motion": motion.round(3).tolist(), "peaks_s": seen.times.round(3).tolist(),
            "onsets_s": heard.times.round(3).tolist(),
        }  # fmt: skip
        return Result(2 * pairs / total, facts=facts)


def frame_change(frames: NDArray[np.uint8]) -> Array:
    """Mean absolute change of a pixel into each frame, in levels of 255, less the clip's median, [T]: what moves all
    the time, as a camera does, is no event."""
    grey = frames.astype(np.float32).mean(-1)
    change = np.abs(np.diff(grey, axis=0, prepend=grey[:1])).mean((1, 2)).astype(np.float64)
    return np.maximum(0, change - np.median(change[1:])) if len(change) > 1 else change


class Events(NamedTuple):
    """Times [N] in seconds, ascending, and how much each stands out, as a share of the one that does most."""

    times: Array
    weights: Array


def motion_peaks(change: Array, fps: float) -> Events:
    """Find when the picture changes most. What a frame shows first has happened since the one before: half a frame
    earlier, in the mean."""
    peaks = onset_peaks(change, FLOOR_MOTION, SHARE, max(1, round(GAP * fps)), prominent=True)
    return _events((np.array(peaks) - 0.5) / fps, change[peaks])


def sound_onsets(sound: NDArray[np.float32]) -> Events:
    """Find the onsets of mono `sound` [N] at RATE."""
    strength = onset_strength(sound, RATE, N_FFT, HOP, RANGE_DB)
    peaks = onset_peaks(strength, FLOOR_DB, SHARE, round(GAP * RATE / HOP), prominent=True)
    return _events(np.array(peaks) * HOP / RATE, strength[peaks])


def event_lag(seen: Events, heard: Events, most: float) -> float | None:
    """By how many seconds `heard` is late, of lags up to `most`: where the pairs, each as a bell of SPREAD as high as
    both events stand out, add up highest; of equal ones the smallest. None without a pair so near."""
    apart = (heard.times[None, :] - seen.times[:, None]).reshape(-1)
    weights = (heard.weights[None, :] * seen.weights[:, None]).reshape(-1)
    if not (np.abs(apart) <= most).any():
        return None
    reach = round(most / STEP)
    lags = np.array(sorted(range(-reach, reach + 1), key=abs)) * STEP
    height = np.exp(-0.5 * ((apart[None] - lags[:, None]) / SPREAD) ** 2) @ weights
    return float(lags[int(np.argmax(height.round(9)))])


def _events(times: Array, heights: Array) -> Events:
    return Events(times, heights / heights.max(initial=1e-9))
