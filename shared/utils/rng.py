"""Named random generators: every stream of randomness is a function of a seed and of its names alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # scripts draw clips' scripts and check them before torch is loaded
    import torch


def derive(seed: int, *names: object) -> int:
    """Return a 63-bit seed for the stream called `names` under `seed`; no matter in which order or where."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """Return a CPU `torch.Generator` of its own. Draws happen on the CPU so that every device sees the same numbers."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """Return a numpy generator (PCG64) of its own."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))
