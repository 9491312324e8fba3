"""Named random generators: every stream of randomness is a function of a seed and of its names alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # scripts check their options before torch is imported
    import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called `names` under `seed`; independent of call order and of the platform."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A CPU `torch.Generator` of its own. Draws happen on the CPU so that every device sees the same numbers."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """A numpy generator (PCG64) of its own."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))
