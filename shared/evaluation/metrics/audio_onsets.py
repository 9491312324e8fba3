"""Strength of onsets in sound, and those that librosa's detector takes.

Own code from librosa's documentation (`onset_strength`, `onset_detect`, `util.peak_pick` with their defaults, McFee et
al. 2015): spectral flux of a log-mel spectrogram. librosa itself would bring numba.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from shared.utils.mel import hann

Array = NDArray[np.float64]
Sound = NDArray[np.float32]

MELS, TOP_DB = 128, 80.0
BEFORE, AFTER, MEAN_BEFORE, MEAN_AFTER, WAIT, DELTA = 0.03, 0.0, 0.10, 0.10, 0.03, 0.07
"""Seconds around a peak in which it is the highest, in which it is DELTA above the mean, and until the next one."""


def onset_strength(sound: Sound, rate: int, n_fft: int = 2048, hop: int = 512, top_db: float = TOP_DB) -> Array:
    """Mean over mel bands of how much louder, in dB, each frame is than the one before; nothing counts that is more
    than `top_db` below the loudest. Mono [N] -> [1 + N / hop]; frame k stands for the time k * hop, as librosa has it.
    """
    values = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    window = hann(n_fft, values.device)
    spectrum = torch.stft(values, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    level = 10 * (_mels(n_fft, rate).T @ spectrum.abs().square()).clamp_min(1e-10).log10()
    level = level.clamp_min(float(level.max()) - top_db)
    flux = level.diff(dim=1).clamp_min(0).mean(0).double().numpy()
    count = level.shape[1]
    delayed: Array = np.pad(flux, (1 + n_fft // (2 * hop), 0))[:count]  # the window is centred, the onset before it
    return delayed


def librosa_onsets(sound: Sound, rate: int, hop: int = 512) -> Array:
    """Onset times in seconds, ascending, with librosa's defaults."""
    strength = onset_strength(sound, rate, hop=hop)
    low, high = float(strength.min(initial=0)), float(strength.max(initial=0))
    if not high > low:
        return np.zeros(0)
    scaled = (strength - strength.min()) / (strength.max() - strength.min() + np.finfo(np.float64).tiny)
    frames = [int(seconds * rate // hop) for seconds in (BEFORE, AFTER, MEAN_BEFORE, MEAN_AFTER, WAIT)]
    return np.array(peak_pick(scaled, frames[0], frames[1] + 1, frames[2], frames[3] + 1, frames[4])) * hop / rate


def peak_pick(curve: Array, before: int, after: int, mean_before: int, mean_after: int, wait: int) -> list[int]:
    """Frames that are the highest of those from `before` earlier to `after` - 1 later, DELTA above the mean of those
    from `mean_before` earlier to `mean_after` - 1 later, and more than `wait` frames after the last one."""
    peaks: list[int] = []
    for frame, value in enumerate(curve):
        around = curve[max(0, frame - before) : frame + after]
        mean = curve[max(0, frame - mean_before) : frame + mean_after].mean()
        if value == around.max() and value >= mean + DELTA and (not peaks or frame - peaks[-1] > wait):
            peaks.append(frame)
    return peaks


@cache
def _mels(n_fft: int, rate: int) -> Tensor:
    return melscale_fbanks(n_fft // 2 + 1, 0.0, rate / 2, MELS, rate, norm="slaney", mel_scale="slaney")
