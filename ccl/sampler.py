"""One denoising step of both streams: which states guidance needs, evaluated on the cheapest route that gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccl.guidance import Guidance, State
from ccl.parts import GivenPart
from ccl.routing import Reads, Route
from ccl.transformer import DualStreamTransformer, StreamContext, StreamInput
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.cache_context import begin_sample, evaluation
from shared.nn.clock import LatentClock
from shared.nn.timed_text import Text, text_over_time
from shared.utils.finite import check_finite

STREAMS = ("video", "audio")
#: One of each stream.
Tensors = dict[str, Tensor]
Levels = Mapping[str, float | Tensor]


class Clean(NamedTuple):
    """What of a stream that is made is given: clean latents, [B, C, F, H, W] or [B, A, C], where `mask` [F] or [A], or
    that of each sample, [B, F] or [B, A]."""

    latents: Tensor
    mask: Tensor

    def restored(self, latents: Tensor) -> Tensor:
        """`latents` of the stream, with the clean ones in their place."""
        mask = self.mask.to(latents.device)
        if latents.ndim == 5:  # [F, 1, 1], or [B, 1, F, 1, 1]
            mask = mask[..., None, None] if mask.ndim == 1 else mask[:, None, :, None, None]
        else:
            mask = mask[..., None]
        return torch.where(mask, self.latents.to(latents), latents)


@dataclass(frozen=True)
class Conditions:
    """The texts of a batch, of each stream [B, L, D] or over time, and the negative text of both [B, L, D]."""

    texts: dict[str, Text]
    negative: Tensor

    @classmethod
    def build(
        cls, encoder: TextEncoder, prompts: Sequence[str | TimedPrompts], audio_prompts: Sequence[str | TimedPrompts],
        negative: str, clocks: tuple[LatentClock, LatentClock], device: torch.device, dtype: torch.dtype,
    ) -> Conditions:  # fmt: skip
        """Encode what the latents of either clock read. UserError for an embedding that is not finite."""

        def embed(texts: list[str]) -> Tensor:
            embedded = encoder.encode(texts).to(device, dtype)
            check_finite({"text encoder": embedded}, "in the embedding of a prompt")
            return embedded

        of_each = zip(STREAMS, (prompts, audio_prompts), clocks, strict=True)
        texts = {name: text_over_time([*map(TimedPrompts.of, one)], clock, embed) for name, one, clock in of_each}
        return cls(texts, embed([negative] * len(prompts)))


class JointSampler:
    """Guided velocities of the noisy streams of one route.

    The clean stream `given`, {"audio": [B, A, C]} or {"video": [B, C, F, H, W]}, is run once with the text and once
    without, and its keys and values are cached (in each step if the model lets it read the noisy stream). `clean`: of
    the noisy streams what is given of them. `part`: a given track, which is there in every state. Texts over time cost
    no evaluation (`shared.nn.timed_text`). Raises UserError for a form of guidance that the model is not trained for.
    """

    def __init__(
        self, model: DualStreamTransformer, route: Route, conditions: Conditions,
        clocks: tuple[LatentClock, LatentClock], guidance: Guidance, given: Tensors,
        clean: Mapping[str, Clean] | None = None, part: GivenPart | None = None,
    ) -> None:  # fmt: skip
        self.model, self.route, self.conditions = model, route, conditions
        few = bool(model.config.distilled)
        self.guidance = guidance.settled(model.has_unconditional or not route.has_context, few)
        if self.guidance.skip_layers:
            self.guidance.check_layers(len(model.blocks), model.is_cache_enabled)
        self.clocks = dict(zip(STREAMS, clocks, strict=True))
        self.given, self.clean, self.part = given, clean or {}, part
        self.made = [name for name in STREAMS if route.is_noisy(name)]
        self._contexts: dict[bool, StreamContext] = {}  # by whether the text is there
        begin_sample(model)

    def restore_clean(self, latents: Tensors) -> None:
        """Put the clean latents back where a solver step has moved them."""
        for name, clean in self.clean.items():
            latents[name] = clean.restored(latents[name])

    def velocity(self, latents: Tensors, sigmas: Levels, until: Levels | None = None) -> Tensors:
        """Predict the guided velocity of each noisy stream at its sigma, one for all or [B]; of a model with `average`
        its average down to `until`, if that is given. States of weight 0 are not evaluated."""
        has_context = self.route.has_context
        weights = {name: self.guidance.weights(name, sigmas[name], has_context) for name in self.made}
        predictions: dict[State, Tensors] = {}
        for state in sorted({state for one in weights.values() for state in one}):
            wanted = [name for name in self.made if state in weights[name]]
            predictions[state] = self._evaluate(state, wanted, latents, sigmas, until)
        return {
            name: self.guidance.combine(weights[name], {s: predictions[s][name] for s in weights[name]})
            for name in self.made
        }

    def _evaluate(
        self, state: State, wanted: list[str], latents: Tensors, sigmas: Levels, until: Levels | None
    ) -> Tensors:
        """One forward pass in a state. What the given stream is read by is cached."""
        texts = self.conditions.texts if state.text else dict.fromkeys(STREAMS, self.conditions.negative)
        route = self.route if state.other else self.route.unconditional
        inputs: dict[str, StreamInput | StreamContext | None] = dict.fromkeys(STREAMS)
        lower: Mapping[str, float | Tensor | None] = dict.fromkeys(STREAMS) if until is None else until
        skipped = self.guidance.skipped(state)
        less: dict[str, Any] = {"skip_layers": skipped} if skipped else {}
        for name in STREAMS:
            if name in self.given:
                clean = self._input(name, self.given[name], 0.0, texts[name])
                if state.other and self.model.variant.routing == "dynamic":
                    if state.text not in self._contexts:
                        self._contexts[state.text] = self.model.context(name, clean, **less)
                    inputs[name] = self._contexts[state.text]
                elif state.other:
                    inputs[name] = clean
            elif name in wanted or (state.other and name in self.made):
                inputs[name] = self._input(name, latents[name], sigmas[name], texts[name], lower[name])
            else:
                route = replace(route, **{name: Reads.SKIPPED})  # type: ignore[arg-type]
        with evaluation(self.model, repr(state)):
            out = self.model(route, inputs["video"], inputs["audio"], **less)
        return {name: value.float() for name, value in zip(STREAMS, out, strict=True) if name in wanted}

    def _input(
        self, name: str, latents: Tensor, sigma: float | Tensor, text: Text, until: float | Tensor | None = None
    ) -> StreamInput:
        part = None if name == "video" or self.part is None else self.part.to(latents.device, text.dtype)
        lower = None if until is None else self._levels(name, latents, until)
        return StreamInput(
            latents.to(text.dtype), self._levels(name, latents, sigma), text, self.clocks[name], part, lower
        )

    def _levels(self, name: str, latents: Tensor, sigma: float | Tensor) -> Tensor:
        """Noise level of each latent in time, [B, F] or [B, A], or of each sample [B, 1]; 0 where it is clean."""
        clean = self.clean.get(name)
        count = len(self.clocks[name]) if name == "video" or clean is not None else 1
        levels = torch.empty(len(latents), count, device=latents.device, dtype=torch.float32)
        levels[:] = sigma[:, None] if isinstance(sigma, Tensor) else sigma
        return levels if clean is None else levels.masked_fill(clean.mask.to(latents.device), 0)
