"""Named random generators: every stream of randomness is a function of a seed and of its names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shared.utils.errors import UserError

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


def seed_of_each(seed: int | Sequence[int], count: int) -> list[int]:
    """Seeds of `count` samples: sample i has seed + i where one is given. UserError for another number of seeds."""
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise UserError(f"{len(seeds)} seeds for {count} prompts; give one seed, or one per prompt")
    return seeds
