"""What a step cache is asked for, and what it is told by whoever evaluates a model several times per step."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from shared.utils.errors import UserError


@dataclass(frozen=True)
class StreamCacheConfig:
    """Thresholds of each stream: mean |change| of what the first block adds, over the mean of what it adds. 0 leaves
    nothing out of that stream. ValueError for a threshold that is negative or no number."""

    video: float = 0.1
    audio: float = 0.1

    def __post_init__(self) -> None:
        for name in ("video", "audio"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise ValueError(f"the {name} threshold of a step cache is {value}; a number from 0 is needed")


def cache_steps(model: Any, thresholds: tuple[float, float] | None) -> None:
    """Give a model a step cache, if there are thresholds. UserError for one that cannot have it."""
    if thresholds is not None:
        try:
            model.enable_cache(StreamCacheConfig(*thresholds))
        except ValueError as error:
            raise UserError(f"--step-cache: {error}") from None


def evaluation(model: Any, name: str) -> AbstractContextManager[Any]:
    """Name an evaluation of a step, so that a cache keeps it apart from the others (`cache_context` of diffusers).
    `model`: a model of diffusers, or what holds one as its `transformer`."""
    model = getattr(model, "transformer", model)
    return model.cache_context(name) if getattr(model, "is_cache_enabled", False) else nullcontext()


def begin_sample(model: Any) -> None:
    """Forget what a cache holds of another sample."""
    model = getattr(model, "transformer", model)
    if getattr(model, "is_cache_enabled", False):
        model._reset_stateful_cache()
