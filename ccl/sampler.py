"""One denoising step of both streams: which states guidance needs, evaluated on the cheapest route that gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ccl.guidance import Guidance, State
from ccl.parts import GivenPart
from ccl.routing import Reads, Route
from ccl.transformer import DualStreamTransformer, StreamContext, StreamInput
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts, aligned
from shared.nn.clock import LatentClock
from shared.utils.finite import check_finite

STREAMS = ("video", "audio")
#: One of each stream.
Tensors = dict[str, Tensor]


class Clean(NamedTuple):
    """What of a stream that is made is given: clean latents, [B, C, F, H, W] or [B, A, C], where `mask` [F] or [A]."""

    latents: Tensor
    mask: Tensor

    def restored(self, latents: Tensor) -> Tensor:
        """`latents` of the stream, with the clean ones in their place."""
        mask = self.mask.to(latents.device)
        mask = mask[:, None, None] if latents.ndim == 5 else mask[:, None]
        return torch.where(mask, self.latents.to(latents), latents)


@dataclass(frozen=True)
class Segment:
    """Of each stream one text per sample [B, L, D], and how much it counts at each latent, [B, F] or [B, A]."""

    texts: Tensors
    weights: Tensors


@dataclass(frozen=True)
class Conditions:
    """The texts of a batch: one segment unless prompts change over time, and the negative text of both streams."""

    segments: list[Segment]
    negative: Tensor

    @classmethod
    def build(
        cls, encoder: TextEncoder, prompts: Sequence[str | TimedPrompts], audio_prompts: Sequence[str | TimedPrompts],
        negative: str, clocks: tuple[LatentClock, LatentClock], device: torch.device, dtype: torch.dtype,
    ) -> Conditions:  # fmt: skip
        """Encode every text once. A sample with fewer timed prompts than another has weight 0 in the rest. A segment
        ends where either of a sample's two prompts changes, so both streams are always in the same one."""
        pairs = [aligned(video, audio) for video, audio in zip(prompts, audio_prompts, strict=True)]
        segments = [Segment({}, {}) for _ in range(max(len(p.texts) for p, _ in pairs))]
        for name, clock, timed in zip(STREAMS, clocks, zip(*pairs, strict=True), strict=True):
            rows = [p.weights(clock.centres) for p in timed]
            for k, segment in enumerate(segments):
                texts = [p.texts[min(k, len(p.texts) - 1)] for p in timed]
                padded = [row[k] if k < len(row) else torch.zeros_like(row[0]) for row in rows]
                segment.texts[name] = encoder.encode(texts).to(device, dtype)
                segment.weights[name] = torch.stack(padded).to(device, torch.float32)
        without = encoder.encode([negative] * len(pairs)).to(device, dtype)
        for text in (without, *(text for segment in segments for text in segment.texts.values())):
            check_finite({"text encoder": text}, "in the embedding of a prompt")
        return cls(segments, without)


class JointSampler:
    """Guided velocities of the noisy streams of one route.

    The clean stream `given`, {"audio": [B, A, C]} or {"video": [B, C, F, H, W]}, is run once per text, and its keys and
    values are cached (in each step if the model lets it read the noisy stream). `clean`: of the noisy streams what is
    given of them. `part`: a given track, which is there in every state. Raises UserError for a form of guidance that
    the model is not trained for.
    """

    def __init__(
        self, model: DualStreamTransformer, route: Route, conditions: Conditions,
        clocks: tuple[LatentClock, LatentClock], guidance: Guidance, given: Tensors,
        clean: Mapping[str, Clean] | None = None, part: GivenPart | None = None,
    ) -> None:  # fmt: skip
        self.model, self.route, self.conditions = model, route, conditions
        self.guidance = guidance.settled(model.has_unconditional or not route.has_context)
        self.clocks = dict(zip(STREAMS, clocks, strict=True))
        self.given, self.clean, self.part = given, clean or {}, part
        self.made = [name for name in STREAMS if getattr(route, f"{name}_noisy")]
        self._contexts: dict[int | None, StreamContext] = {}

    def restore_clean(self, latents: Tensors) -> None:
        """Put the clean latents back where a solver step has moved them."""
        for name, clean in self.clean.items():
            latents[name] = clean.restored(latents[name])

    def velocity(self, latents: Tensors, sigmas: dict[str, float]) -> Tensors:
        """Predict the guided velocity of each noisy stream at its sigma; states of weight 0 are not evaluated."""
        weights = {name: self.guidance.weights(name, sigmas[name], self.route.has_context) for name in self.made}
        predictions: dict[State, Tensors] = {}
        for state in sorted({state for one in weights.values() for state in one}):
            wanted = [name for name in self.made if state in weights[name]]
            predictions[state] = self._predict(state, wanted, latents, sigmas)
        return {
            name: self.guidance.combine(weights[name], {s: predictions[s][name] for s in weights[name]})
            for name in self.made
        }

    def _predict(self, state: State, wanted: list[str], latents: Tensors, sigmas: dict[str, float]) -> Tensors:
        """One state; a text that changes over time is the weighted sum of the predictions for its segments."""
        segments = self.conditions.segments
        if not state.text or len(segments) == 1:
            return self._evaluate(0 if state.text else None, state.other, wanted, latents, sigmas)
        total: Tensors = {}
        for k, segment in enumerate(segments):
            for name, value in self._evaluate(k, state.other, wanted, latents, sigmas).items():
                weight = segment.weights[name]
                weight = weight[:, None, :, None, None] if name == "video" else weight[..., None]
                total[name] = total.get(name, 0) + value * weight
        return total

    def _evaluate(
        self, key: int | None, other: bool, wanted: list[str], latents: Tensors, sigmas: dict[str, float]
    ) -> Tensors:
        """One forward pass with the texts of segment `key`, None: the negative. The given stream is cached under it."""
        negative = dict.fromkeys(STREAMS, self.conditions.negative)
        texts = negative if key is None else self.conditions.segments[key].texts
        route = self.route if other else self.route.unconditional
        inputs: dict[str, StreamInput | StreamContext | None] = dict.fromkeys(STREAMS)
        for name in STREAMS:
            if name in self.given:
                clean = self._input(name, self.given[name], 0.0, texts[name])
                if other and self.model.variant.routing == "dynamic":
                    if key not in self._contexts:
                        self._contexts[key] = self.model.context(name, clean)
                    inputs[name] = self._contexts[key]
                elif other:
                    inputs[name] = clean
            elif name in wanted or (other and name in self.made):
                inputs[name] = self._input(name, latents[name], sigmas[name], texts[name])
            else:
                route = replace(route, **{name: Reads.SKIPPED})  # type: ignore[arg-type]
        out = self.model(route, inputs["video"], inputs["audio"])
        return {name: value.float() for name, value in zip(STREAMS, out, strict=True) if name in wanted}

    def _input(self, name: str, latents: Tensor, sigma: float, text: Tensor) -> StreamInput:
        clean = self.clean.get(name)
        levels = len(self.clocks[name]) if name == "video" or clean is not None else 1
        sigmas = torch.full((len(latents), levels), sigma, device=latents.device, dtype=torch.float32)
        if clean is not None:
            sigmas[:, clean.mask.to(latents.device)] = 0
        part = None if name == "video" or self.part is None else self.part.to(latents.device, text.dtype)
        return StreamInput(latents.to(text.dtype), sigmas, text, self.clocks[name], part)
