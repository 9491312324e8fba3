"""How loud sound is, and the one definition of silence."""

import math

import numpy as np
import numpy.typing as npt

SILENCE_DBFS = -45.0
CANCELLED = 7.0  # dB below its loudest channel: more than the 6 that a mean takes from sound in one channel alone


def rms_dbfs(samples: npt.ArrayLike) -> float:
    """Root mean square of all samples and channels in dB relative to 1.0; -inf for exact zeros or none."""
    values = np.asarray(samples, dtype=np.float64)
    power = float(np.mean(np.square(values))) if values.size else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def is_silent(samples: npt.ArrayLike) -> bool:
    """Whether sound is silent: its loudest channel is below -45 dBFS RMS over all samples, the one definition
    (docs/design.md, section 4)."""
    values = np.asarray(samples)
    channels = values.reshape(-1, values.shape[-1]) if values.size else [values]
    return max(map(rms_dbfs, channels)) < SILENCE_DBFS


def why_silent(mono: npt.ArrayLike, loudest: float = -math.inf) -> str:
    """Reason why `mono` is no sound to train on, or nothing; `loudest`: level of the loudest channel it was made of."""
    level = rms_dbfs(mono)
    if max(level, loudest) < SILENCE_DBFS:
        return f"its sound is silent ({level:.1f} dBFS RMS); above {SILENCE_DBFS:g} dBFS is needed"
    return why_cancelled(mono, loudest)


def why_cancelled(mono: npt.ArrayLike, loudest: float) -> str:
    """Reason why `mono` is silent although a channel that it was made of is not, or nothing."""
    level = rms_dbfs(mono)
    if not level < SILENCE_DBFS <= loudest or level >= loudest - CANCELLED:
        return ""
    told = f"its channels cancel each other: {loudest:.1f} dBFS RMS in one, {level:.1f} in their sum"
    return f"{told}; turn the sign of one, or give one alone"
