"""Log-mel levels: power relative to a full-scale sine, on triangular mel bands, in decibels above a floor."""

from functools import cache

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from shared.utils.ranges import check_range


@cache
def hann(size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Window of a spectrum, [size]."""
    return torch.hann_window(size, dtype=dtype, device=device)


def mel_filters(n_fft: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular mel filters [n_fft / 2 + 1, n_mels] from 0 Hz to half the rate, summing to one over the mels.
    Real ones also where modules are built without values. UserError for a size out of all range."""
    check_range("n_fft", n_fft, 2, 2**16)
    check_range("n_mels", n_mels, 1, 2**12)
    check_range("sample_rate", sample_rate, 1, 2**20)
    with torch.device("cpu"):
        return melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate).float()


def sine_power(spectrum: Tensor, window: Tensor) -> Tensor:
    """Power of a complex spectrum that was taken with `window`; a full-scale sine has 1."""
    return spectrum.abs().div(window.sum() / 2).square()


def decibels(power: Tensor, floor_db: float) -> Tensor:
    """10 log10 of a power, not below `floor_db`."""
    return 10 * power.clamp_min(10 ** (floor_db / 10)).log10()
