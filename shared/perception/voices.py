"""Voice activity: when somebody speaks, by Silero's detector (MIT), which comes inside its package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared.perception.installed import optional_module, sha256

Array = NDArray[np.float64]
Sound = NDArray[np.float32]

RATE = 16000
STEP = 512
"""Samples per probability: 32 ms."""
WHAT = "finding voices"


def speech_probability(sound: Sound) -> Array:
    """Probability of speech in mono `sound` [N] at RATE, for every STEP samples: [ceil(N / STEP)]. UserError where the
    package is missing."""
    values = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    with torch.no_grad():
        found: Array = _model().audio_forward(values, RATE)[0].numpy().astype(np.float64)
    return found


def speech_share(sound: Sound, least: float = 0.5) -> float:
    """Share of mono `sound` [N] at RATE in which somebody speaks with a probability of `least`."""
    return float((speech_probability(sound) >= least).mean()) if len(sound) else 0.0


def voices_fingerprint() -> str:
    """Hash of the detector's weights. UserError where the package is missing."""
    return sha256(Path(_package().__file__ or "").parent / "data" / "silero_vad.onnx")


def _package() -> Any:
    return optional_module("silero_vad", "silero-vad", WHAT)


@cache
def _model() -> Any:
    optional_module("onnxruntime", "onnxruntime", WHAT)
    threads = torch.get_num_threads()
    try:
        return _package().load_silero_vad(onnx=True)  # its import sets the number of torch's threads
    finally:
        torch.set_num_threads(threads)
