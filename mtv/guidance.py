"""Guidance of audio-driven video: the text and each track have a scale of their own (docs/mtv.md, "Sampling").

c is the text and 0c the empty or negative text; T are the tracks and T∖k the same without track k, which is dropped to
its learned null. The null says "unknown" and is not silence: away from it, a silent track keeps mouths shut. With the
text's scale w_c and a scale w_k for speech, effects and music:

    v(c,T) + (w_c − 1) [v(c,T) − v(0c,T)] + Σ_k (w_k − 1) [v(c,T) − v(c,T∖k)]

Every difference starts from the same v(c,T) and lacks one condition alone. So no track comes before another, a scale
moves the result along its own condition only, and each scale that is not 1 costs one evaluation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from shared.utils.errors import UserError


class State(NamedTuple):
    """What an evaluation is conditioned on: the text (c or 0c), and all tracks but the one `dropped` ("": all)."""

    text: bool = True
    dropped: str = ""


FULL, NO_TEXT = State(), State(text=False)


@dataclass(frozen=True)
class TrackGuidance:
    """Scales of guidance, w_c and w_k; 1 is no guidance, and above it a condition counts more.

    By default speech does: who of two speaks is seen in few pixels, and the prompt may not say it. `interval`: sigmas
    (low, high] in which guidance is on. UserError for a scale that is not finite, or an empty interval.
    """

    text: float = 2.0
    speech: float = 1.5
    effects: float = 1.0
    music: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("text", "speech", "effects", "music"):
            if not math.isfinite(scale := getattr(self, name)):
                raise UserError(f"the {name} scale of guidance is {scale}; a finite number is needed")
        if not self.interval[0] < self.interval[1]:
            raise UserError(f"guidance interval is {self.interval}; its low end must be below its high end")

    def weights(self, sigma: float) -> dict[State, float]:
        """Weigh each state's prediction at noise level `sigma`; the sum is 1, and zeros are left out."""
        if not self.interval[0] < sigma <= self.interval[1]:
            return {FULL: 1.0}
        extra = {NO_TEXT: self.text - 1}
        extra |= {State(dropped=track): getattr(self, track) - 1 for track in ("speech", "effects", "music")}
        weights = {FULL: 1 + sum(extra.values())} | {state: -more for state, more in extra.items()}
        return {state: weight for state, weight in weights.items() if weight != 0}


def combine(weights: Mapping[State, float], predictions: Mapping[State, Tensor]) -> Tensor:
    """Σ weight · prediction. One state alone has weight 1, and its prediction is returned as it is."""
    if len(weights) == 1:
        return predictions[next(iter(weights))]
    return sum((weight * predictions[state] for state, weight in weights.items()), start=torch.zeros(()))
