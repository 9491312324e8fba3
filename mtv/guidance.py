"""Guidance of audio-driven video: the text and each track have a scale of their own (docs/mtv.md, "Sampling").

c is the text and 0c the empty or negative text; T are the tracks and T∖k the same without track k, which is dropped to
its learned null. The null says "unknown" and is not silence: away from it, a silent track keeps mouths shut. With the
text's scale w_c and a scale w_k for speech, effects and music:

    v(c,T) + (w_c − 1) [v(c,T) − v(0c,T)] + Σ_k (w_k − 1) [v(c,T) − v(c,T∖k)]

This form, `separate`, is ours. Every difference starts from the same v(c,T) and lacks one condition alone. So no track
comes before another, a scale moves the result along its own condition only, and each scale that is not 1 costs one
evaluation.

The form of MTV's official code, `joint`, drops the text and all tracks together, T∖all, with one scale w, there 3.5:

    v(0c,T∖all) + w [v(c,T) − v(0c,T∖all)]

It costs one evaluation more than none, and text and sound count more or less together: good for weights of the official
recipe, or where a clip has to follow its text and its tracks more closely and none of them more than another. The state
is trained where both are dropped: `text_dropout` times `tracks.dropout_all` of the samples, which should not be few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mtv.control import ALL, TRACKS
from shared.nn.few_steps import warn_of_guidance
from shared.utils.errors import UserError


class TrackState(NamedTuple):
    """What an evaluation is conditioned on: the text (c or 0c) and all tracks but `dropped`: one, "" or `ALL`."""

    text: bool = True
    dropped: str = ""


FULL, NO_TEXT, NOTHING = TrackState(), TrackState(text=False), TrackState(text=False, dropped=ALL)


@dataclass(frozen=True)
class TrackGuidance:
    """Scales of guidance, w_c and w_k; 1 is no guidance, above it a condition counts more. `joint` has `scale` alone.

    By default speech does: who of two speaks is seen in few pixels, and the prompt may not say it. `interval`: sigmas
    (low, high] in which guidance is on. UserError for a scale that is not finite, or an empty interval.
    """

    text: float = 2.0
    speech: float = 1.5
    effects: float = 1.0
    music: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    form: Literal["separate", "joint"] = "separate"
    scale: float = 3.5

    def __post_init__(self) -> None:
        if self.form not in ("separate", "joint"):
            raise UserError(f"guidance {self.form}: separate (a scale for each condition) or joint (one) is needed")
        for name in ("text", "speech", "effects", "music", "scale"):
            if not math.isfinite(scale := getattr(self, name)):
                raise UserError(f"the {name} scale of guidance is {scale}; a finite number is needed")
        if not self.interval[0] < self.interval[1]:
            raise UserError(f"guidance interval is {self.interval}; its low end must be below its high end")

    def check(self, drops_together: bool) -> None:
        """Raise UserError for a track that is weighed alone, where the model knows all tracks together or none."""
        alone = [track for track in TRACKS if getattr(self, track) != 1]
        if drops_together and self.form == "separate" and alone:
            told = "this model was trained with all tracks or with none, so that none can be weighed alone"
            raise UserError(f"the {alone[0]} scale of guidance: {told}; take joint guidance (--guidance joint)")

    def settled(self, few_steps: bool) -> TrackGuidance:
        """Choose no guidance for a model of few steps, unless something else is asked for, with a warning."""
        if few_steps and self == TrackGuidance():
            return UNGUIDED
        if few_steps and self != UNGUIDED:
            warn_of_guidance(f"{self.form} of tracks")
        return self

    def weights(self, sigma: float) -> dict[TrackState, float]:
        """Weigh each state's prediction at noise level `sigma`; the sum is 1, and zeros are left out."""
        if not self.interval[0] < sigma <= self.interval[1]:
            return {FULL: 1.0}
        extra = {NOTHING: self.scale - 1}
        if self.form == "separate":
            extra = {NO_TEXT: self.text - 1}
            extra |= {TrackState(dropped=track): getattr(self, track) - 1 for track in TRACKS}
        weights = {FULL: 1 + sum(extra.values())} | {state: -more for state, more in extra.items()}
        return {state: weight for state, weight in weights.items() if weight != 0}


UNGUIDED = TrackGuidance(text=1.0, speech=1.0)


def combine(weights: Mapping[TrackState, float], predictions: Mapping[TrackState, Tensor]) -> Tensor:
    """Σ weight · prediction. One state alone has weight 1, and its prediction is returned as it is."""
    if len(weights) == 1:
        return predictions[next(iter(weights))]
    return sum((weight * predictions[state] for state, weight in weights.items()), start=torch.zeros(()))
