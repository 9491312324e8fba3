"""How well a mix was taken apart: SI-SDR of each track, or what is left on a track that should be silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

LEAST_DB, MOST_DB = -100.0, 100.0
"""Values are held between these, so that means over clips stay finite."""


def si_sdr(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of two signals of one shape, e.g. [channels, N].

    With a = <estimate, truth> / |truth|²: 10 log10(|a truth|² / |estimate − a truth|²) (Le Roux et al., ICASSP 2019,
    arXiv 1811.02508, equation 3; no mean is subtracted). An estimate of zeros scores LEAST_DB.
    Raises ValueError if the shapes differ, or if `truth` is zeros: see `residual_dbfs` for that case.
    """
    signal, wanted = _pair(estimate, truth)
    energy = float((wanted**2).sum())
    if energy == 0:
        raise ValueError("the true signal is all zeros, SI-SDR is not defined; residual_dbfs measures what is left")
    target = float((signal * wanted).sum()) / energy * wanted
    return _ratio_db(float((target**2).sum()), float(((signal - target) ** 2).sum()))


def residual_dbfs(estimate: ArrayLike) -> float:
    """RMS level in dB of full scale of what was found on a track whose truth is silence; at least LEAST_DB."""
    signal = np.asarray(estimate, np.float64)
    return _ratio_db(float((signal**2).mean()), 1.0)


def _pair(estimate: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    signal, wanted = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if signal.shape != wanted.shape or not signal.size:
        raise ValueError(f"estimate {signal.shape} and truth {wanted.shape} need one shape and at least one sample")
    return signal, wanted


def _ratio_db(signal: float, rest: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(np.float64(signal) / np.float64(rest))
    return LEAST_DB if signal == 0 else float(np.clip(ratio, LEAST_DB, MOST_DB))
