"""One denoising step of both streams: which states guidance needs, evaluated on the cheapest route that gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ccl.guidance import Guidance, State
from ccl.routing import Reads, Route
from ccl.transformer import DualStreamTransformer, StreamContext, StreamInput
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts, aligned
from shared.nn.clock import LatentClock

STREAMS = ("video", "audio")


@dataclass(frozen=True)
class Segment:
    """Of each stream one text per sample [B, L, D], and how much it counts at each latent, [B, F] or [B, A]."""

    texts: dict[str, Tensor]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Conditions:
    """The texts of a batch: one segment unless prompts change over time, and the negative text of both streams."""

    segments: list[Segment]
    negative: Tensor

    @classmethod
    def build(
        cls,
        encoder: TextEncoder,
        prompts: Sequence[str | TimedPrompts],
        audio_prompts: Sequence[str | TimedPrompts],
        negative: str,
        clocks: tuple[LatentClock, LatentClock],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Conditions:
        """Encode every text once. A sample with fewer timed prompts than another has weight 0 in the rest.

        A segment ends where either of a sample's two prompts changes, so both streams are always in the same one.
        """
        pairs = [aligned(video, audio) for video, audio in zip(prompts, audio_prompts, strict=True)]
        timed = {name: [pair[i] for pair in pairs] for i, name in enumerate(STREAMS)}
        count = max(len(p.texts) for pair in pairs for p in pair)

        def text(prompt: list[TimedPrompts], k: int) -> Tensor:
            return encoder.encode([p.texts[min(k, len(p.texts) - 1)] for p in prompt]).to(device, dtype)

        def weight(prompt: list[TimedPrompts], k: int, clock: LatentClock) -> Tensor:
            rows = [p.weights(clock.centres) for p in prompt]
            padded = [row[k] if k < len(row) else torch.zeros(len(clock), dtype=row.dtype) for row in rows]
            return torch.stack(padded).to(device, torch.float32)

        segments = [
            Segment(
                {name: text(prompt, k) for name, prompt in timed.items()},
                {name: weight(timed[name], k, clock) for name, clock in zip(STREAMS, clocks, strict=True)},
            )
            for k in range(count)
        ]
        return cls(segments, encoder.encode([negative] * len(pairs)).to(device, dtype))


class JointSampler:
    """Guided velocities of the noisy streams of one route.

    Args:
        guidance: its form is settled by what the model has (`Guidance.settled`).
        given: latents of the clean stream, {"audio": [B, A, C]} or {"video": [B, C, F, H, W]}; it is run once per
            text, and its keys and values are cached (in each step if the model lets it read the noisy stream).
        first_frame: [B, C, 1, H, W], a clean first video latent.

    Raises:
        UserError: a form of guidance that the model is not trained for.
    """

    def __init__(
        self,
        model: DualStreamTransformer,
        route: Route,
        conditions: Conditions,
        clocks: tuple[LatentClock, LatentClock],
        guidance: Guidance,
        given: dict[str, Tensor],
        first_frame: Tensor | None = None,
    ) -> None:
        self.model, self.route, self.conditions = model, route, conditions
        self.guidance = guidance.settled(model.has_unconditional or not route.has_context)
        self.clocks = dict(zip(STREAMS, clocks, strict=True))
        self.given, self.first_frame = given, first_frame
        self.made = [name for name in STREAMS if getattr(route, f"{name}_noisy")]
        self._contexts: dict[int | None, StreamContext] = {}

    def restore_clean(self, latents: dict[str, Tensor]) -> None:
        """Put the clean first frame back where a solver step has moved it."""
        if self.first_frame is not None:
            frame = self.first_frame.to(latents["video"])
            latents["video"] = torch.cat([frame, latents["video"][:, :, 1:]], dim=2)

    def velocity(self, latents: dict[str, Tensor], sigmas: dict[str, float]) -> dict[str, Tensor]:
        """The guided velocity of each noisy stream at its sigma; states of weight 0 are not evaluated."""
        weights = {name: self.guidance.weights(name, sigmas[name], self.route.has_context) for name in self.made}
        predictions: dict[State, dict[str, Tensor]] = {}
        for state in sorted({state for one in weights.values() for state in one}):
            wanted = [name for name in self.made if state in weights[name]]
            predictions[state] = self._predict(state, wanted, latents, sigmas)
        return {
            name: self.guidance.combine(weights[name], {s: predictions[s][name] for s in weights[name]})
            for name in self.made
        }

    def _predict(
        self, state: State, wanted: list[str], latents: dict[str, Tensor], sigmas: dict[str, float]
    ) -> dict[str, Tensor]:
        """One state; a text that changes over time is the weighted sum of the predictions for its segments."""
        if not state.text:
            negative = dict.fromkeys(STREAMS, self.conditions.negative)
            return self._evaluate(None, state.other, wanted, latents, sigmas, negative)
        total: dict[str, Tensor] = {}
        for k, segment in enumerate(self.conditions.segments):
            part = self._evaluate(k, state.other, wanted, latents, sigmas, segment.texts)
            if len(self.conditions.segments) == 1:
                return part
            for name, value in part.items():
                weight = segment.weights[name]
                weight = weight[:, None, :, None, None] if name == "video" else weight[..., None]
                total[name] = total.get(name, 0) + value * weight
        return total

    def _evaluate(
        self,
        key: int | None,
        other: bool,
        wanted: list[str],
        latents: dict[str, Tensor],
        sigmas: dict[str, float],
        texts: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """One forward pass. `key` names the text: the given stream's keys and values are cached under it."""
        route = self.route if other else self.route.unconditional
        inputs: dict[str, StreamInput | StreamContext | None] = dict.fromkeys(STREAMS)
        for name in STREAMS:
            if name in self.given:
                if other and self.model.can_cache_clean_stream:
                    inputs[name] = self._context(name, key, texts[name])
                elif other:
                    inputs[name] = self._input(name, self.given[name], 0.0, texts[name])
            elif name in wanted or (other and name in self.made):
                inputs[name] = self._input(name, latents[name], sigmas[name], texts[name])
            else:
                route = replace(route, **{name: Reads.SKIPPED})  # type: ignore[arg-type]
        out = self.model(route, inputs["video"], inputs["audio"])
        return {name: value.float() for name, value in zip(STREAMS, out, strict=True) if name in wanted}

    def _input(self, name: str, latents: Tensor, sigma: float, text: Tensor) -> StreamInput:
        frames = len(self.clocks[name]) if name == "video" else 1
        sigmas = torch.full((len(latents), frames), sigma, device=latents.device, dtype=torch.float32)
        if name == "video" and self.first_frame is not None:
            sigmas[:, 0] = 0
        return StreamInput(latents.to(text.dtype), sigmas, text, self.clocks[name])

    def _context(self, name: str, key: int | None, text: Tensor) -> StreamContext:
        if key not in self._contexts:
            given = self._input(name, self.given[name], 0.0, text)
            self._contexts[key] = self.model.context(name, given)
        return self._contexts[key]
