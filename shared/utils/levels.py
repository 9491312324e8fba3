"""How loud sound is, and the one definition of silence."""

import math

import numpy as np
import numpy.typing as npt

SILENCE_DBFS = -45.0


def rms_dbfs(samples: npt.ArrayLike) -> float:
    """Root mean square of all samples and channels in dB relative to 1.0; -inf for exact zeros or none."""
    values = np.asarray(samples, dtype=np.float64)
    power = float(np.mean(np.square(values))) if values.size else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def is_silent(samples: npt.ArrayLike) -> bool:
    """Whether sound is silent: below -45 dBFS RMS over all samples, the one definition (docs/design.md, section 4)."""
    return rms_dbfs(samples) < SILENCE_DBFS
