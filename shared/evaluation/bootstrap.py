"""A mean over clips with its bootstrap interval, and the clips' values, so that two runs can be paired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shared.evaluation.scores import RESAMPLES
from shared.utils.rng import numpy_generator


def over_clips(values: Mapping[str, float | None], seed: int = 0) -> dict[str, Any]:
    """ "mean", its 95 % bootstrap "interval" over clips, and "per_clip", the values as they are given.

    A clip whose value is None does not count; without any that counts, mean and interval are None.
    """
    counted = np.array([value for value in values.values() if value is not None], dtype=np.float64)
    if not len(counted):
        return {"mean": None, "interval": None, "per_clip": dict(values)}
    picks = numpy_generator(seed, "bootstrap").integers(len(counted), size=(RESAMPLES, len(counted)))
    low, high = np.quantile(counted[picks].mean(1), (0.025, 0.975))
    return {"mean": float(counted.mean()), "interval": [float(low), float(high)], "per_clip": dict(values)}
