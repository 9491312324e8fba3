"""UCG: Unconditional Context Guidance (CCL paper).

c is the text and 0c the empty or negative text; m is the other modality and 0m the route on which a stream reads its
learnable context tokens only. With text scale w_c and context scale w_m:

    text     v(0c,m)  + w_c [v(c,m)  − v(0c,m)]
    joint    v(0c,0m) + w_c [v(c,m)  − v(0c,0m)]
    context  v(c,0m)  + w_m [v(c,m)  − v(c,0m)]
    dual     v(0c,0m) + w_c [v(c,0m) − v(0c,0m)] + w_m [v(c,m) − v(c,0m)]
    none     v(c,m)

Each form is a set of coefficients over the four states, so what has coefficient zero is never evaluated:
dual(w,w) = joint(w), dual(1,w_m) = context(w_m), dual(w_c,0) = text guidance of the single tower.

Layer skip (Ovi's release: form text, block 11): evaluations without the text leave some blocks out, of both streams, so
that guidance leads away from what a weaker model makes, too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from shared.nn.few_steps import warn_of_guidance
from shared.utils.errors import UserError


class Form(StrEnum):
    DUAL = "dual"
    JOINT = "joint"
    CONTEXT = "context"
    TEXT = "text"
    NONE = "none"


class State(NamedTuple):
    """What an evaluation is conditioned on: the text (c or 0c) and the other modality (m or 0m)."""

    text: bool
    other: bool


FULL, TEXT_ONLY, OTHER_ONLY, NOTHING = State(True, True), State(True, False), State(False, True), State(False, False)


def coefficients(form: Form, text_scale: float, context_scale: float, has_context: bool = True) -> dict[State, float]:
    """Weigh each state's prediction; weights sum to 1, and zeros are left out.

    Without another modality (t2v, t2a) m is 0m, and every form is text guidance of the single tower.
    """
    w_c, w_m = text_scale, context_scale
    weights = {
        Form.NONE: {FULL: 1.0},
        Form.TEXT: {FULL: w_c, OTHER_ONLY: 1 - w_c},
        Form.JOINT: {FULL: w_c, NOTHING: 1 - w_c},
        Form.CONTEXT: {FULL: w_m, TEXT_ONLY: 1 - w_m},
        Form.DUAL: {FULL: w_m, TEXT_ONLY: w_c - w_m, NOTHING: 1 - w_c},
    }[form]
    if not has_context:
        w_c = 1.0 if form in (Form.NONE, Form.CONTEXT) else w_c
        weights = {TEXT_ONLY: w_c, NOTHING: 1 - w_c}
    return {state: weight for state, weight in weights.items() if weight != 0}


@dataclass(frozen=True)
class Guidance:
    """Guidance of both streams: which states are compared, and (video, audio) weights w_c and w_m; 1 is no guidance."""

    form: Form | None = None  # None: dual, or text where the model is not guided by 0m (`settled`)
    text_scale: tuple[float, float] = (2.5, 2.5)
    context_scale: tuple[float, float] = (2.0, 2.0)
    interval: tuple[float, float] = (0.5, 1.0)  # sigmas (low, high] in which guidance is on; elsewhere v(c,m) is used
    rescale: float = 0.0  # 0..1, how far the guided prediction's deviation is brought back to that of v(c,m)
    skip_layers: tuple[int, ...] = ()  # blocks, from 0, that evaluations with 0c leave out

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise UserError(f"guidance rescale is {self.rescale}; it must lie in 0..1")
        if not self.interval[0] < self.interval[1]:
            raise UserError(f"guidance interval is {self.interval}; its low end must be below its high end")
        if self.skip_layers and self.form in (Form.NONE, Form.CONTEXT):
            raise UserError(f"guidance {self.form} has no evaluation without the text, whose layers could be skipped")

    def skipped(self, state: State) -> tuple[int, ...]:
        """Find the blocks that an evaluation in this state leaves out."""
        return () if state.text else self.skip_layers

    def check_layers(self, blocks: int, step_cache: bool) -> None:
        """Raise UserError for blocks that a model of so many has not, all of them, or what a step cache decides by."""
        if absent := [layer for layer in self.skip_layers if not 0 <= layer < blocks]:
            raise UserError(f"guidance skips layer {absent[0]}; this model has layers 0 to {blocks - 1}")
        if len(set(self.skip_layers)) == blocks:
            raise UserError(f"guidance skips all {blocks} layers; leave one at least")
        if step_cache and {0, blocks - 1} & set(self.skip_layers):
            raise UserError("a step cache goes by the first and the last layer, which guidance cannot skip then")

    def settled(self, has_unconditional: bool, few_steps: bool = False) -> Guidance:
        """Choose the form where none is given: none for a model of few steps, unless something else is asked for, with
        a warning. UserError for one that compares with 0m, where the model has none."""
        if few_steps and self == Guidance():
            return replace(self, form=Form.NONE)
        if few_steps and self.form is not Form.NONE:
            warn_of_guidance(self.form or Form.DUAL)
        if self.form is None:
            if not has_unconditional:
                _say_text_only()
            return replace(self, form=Form.DUAL if has_unconditional else Form.TEXT)
        if not has_unconditional and self.form not in (Form.TEXT, Form.NONE):
            raise UserError(f"guidance {self.form} compares with 0m, for which this model is not trained; take text")
        return self

    def weights(self, stream: str, sigma: float | Tensor, has_context: bool) -> dict[State, float | Tensor]:
        """Coefficients for the stream "video" or "audio" at noise level `sigma`; of levels [B] that lie on both sides
        of an end of the interval, those of each sample, [B]."""
        index, form = ("video", "audio").index(stream), self.form or Form.DUAL
        scales = self.text_scale[index], self.context_scale[index], has_context
        guided, plain = coefficients(form, *scales), coefficients(Form.NONE, *scales)
        levels = torch.as_tensor(sigma).flatten()
        inside = (levels > self.interval[0]) & (levels <= self.interval[1])
        if inside.all():
            return dict(guided)
        if not inside.any():
            return dict(plain)
        return {state: torch.where(inside, guided.get(state, 0.0), plain.get(state, 0.0)) for state in guided | plain}

    def combine(self, weights: Mapping[State, float | Tensor], predictions: Mapping[State, Tensor]) -> Tensor:
        """Σ weight · prediction, rescaled towards the conditional prediction's deviation where it was evaluated."""
        guided = torch.zeros(())
        for state, weight in weights.items():
            value = predictions[state]
            if isinstance(weight, Tensor):
                weight = weight.to(value).view(-1, *[1] * (value.ndim - 1))
            guided = guided + weight * value
        conditional = predictions.get(FULL, predictions.get(TEXT_ONLY))
        if not self.rescale or conditional is None:
            return guided
        dims = tuple(range(1, guided.ndim))
        matched = guided * (conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True))
        return self.rescale * matched + (1 - self.rescale) * guided


@lru_cache(maxsize=1)
def _say_text_only() -> None:
    """Once in a process, however many batches are sampled."""
    logging.getLogger(__name__).warning(
        "the model has no state 0m to be guided by: guidance is text, with the same text scale and no context scale"
    )
