"""When each latent lives: the only place from which the code may learn how two streams relate in time.

Every codec states the clock of its latents (docs/design.md, "Clock and TARP"). Nothing assumes a ratio of two rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

#: Two times closer than this (seconds) are the same time; keeps index lookups independent of a clock's offset.
SAME_TIME = 1e-9


@dataclass(frozen=True)
class LatentClock:
    """Start and end of each latent in seconds, without gaps, or ValueError. Hashable, so that it can key a cache.

    `rate` is nominal: whole latents a second, as the codec has them however long the clip is. The first latent of a
    causal codec, the only one of a still picture, is shorter, so no interval tells it.
    """

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    rate: float

    def __post_init__(self) -> None:
        counts = (len(self.starts), len(self.ends))
        if not 0 < counts[0] == counts[1]:
            raise ValueError(f"a clock needs as many starts as ends, at least one: {counts[0]} and {counts[1]}")
        if any(end - start <= SAME_TIME for start, end in zip(self.starts, self.ends, strict=True)):
            raise ValueError("every latent of a clock must last: an end is not after its start")
        if any(abs(b - a) > 1e-6 for a, b in zip(self.ends, self.starts[1:], strict=False)):
            raise ValueError("the latents of a clock must follow each other without a gap")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"a clock of {self.rate} latents a second; a positive number is needed")

    @classmethod
    def causal_video(cls, latents: int, fps: float, stride: int) -> LatentClock:
        """Clock of a causal video codec: latent 0 is frame 0, latent i >= 1 is frames stride·(i−1)+1 .. stride·i."""
        edges = [0.0, *((stride * i + 1) / fps for i in range(latents))]
        return cls(tuple(edges[:-1]), tuple(edges[1:]), fps / stride)

    @classmethod
    def at_rate(cls, count: int, rate: float) -> LatentClock:
        """Clock of a non-causal codec with `rate` latents per second: latent j is [j/rate, (j+1)/rate)."""
        edges = [j / rate for j in range(count + 1)]
        return cls(tuple(edges[:-1]), tuple(edges[1:]), rate)

    @classmethod
    def uniform(cls, count: int, duration: float, start: float = 0.0, rate: float | None = None) -> LatentClock:
        """`count` equal latents over `duration` seconds. `rate`: the codec's, where these stand for its latents."""
        edges = [start + i * duration / count for i in range(count + 1)]
        return cls(tuple(edges[:-1]), tuple(edges[1:]), count / duration if rate is None else rate)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def start(self) -> float:
        return self.starts[0]

    @property
    def duration(self) -> float:
        return self.ends[-1] - self.starts[0]

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor]:
        """Starts and ends as tensors [N], float64."""
        return torch.tensor(self.starts, dtype=torch.float64), torch.tensor(self.ends, dtype=torch.float64)

    @cached_property
    def centres(self) -> Tensor:
        """[N] float64, the middle of each latent in seconds."""
        starts, ends = self._edges
        return (starts + ends) / 2

    def shifted(self, seconds: float) -> LatentClock:
        """Move the same latents to `seconds` later."""
        starts, ends = (tuple(time + seconds for time in edge) for edge in (self.starts, self.ends))
        return replace(self, starts=starts, ends=ends)

    def index(self, times: Tensor) -> Tensor:
        """Index of the latent that contains each time (int64, the shape of `times`), clamped to the clock's ends."""
        latent = torch.searchsorted(self._edges[1], times.double() + SAME_TIME, right=True)
        return latent.clamp(0, len(self) - 1)

    def position(self, times: Tensor) -> Tensor:
        """Time in units of this clock's latents: the centre of latent i is at i; linear inside a latent and beyond.

        p(t) = i − ½ + (t − start_i)/(end_i − start_i) (docs/design.md, "Aligned positions"). float64.
        """
        index = self.index(times)
        starts, ends = (edge[index] for edge in self._edges)
        return index - 0.5 + (times.double() - starts) / (ends - starts)
