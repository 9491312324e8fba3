"""Texts over time: each latent of a stream reads one text, in the stream's own text attention (docs/design.md, "Text").

Latent i reads the text that holds at its centre. The latents of a text follow one another, so attention is split into
spans of latents, not masked: one evaluation of the model, however many texts. In a cross-fade the latents attend to
both texts, and the outputs of the attentions are summed with weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from shared.nn.clock import LatentClock

#: In place of a block's attention: `attention(q, k, v)`, [B, N, h, d] from q [B, N, h, d] and k, v [B, M, h, d].
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Brings queries to the keys and values of the texts that they read: `route(attention, q, k, v)`, [B, N, h, d].
TextRoute = Callable[[Attention, Tensor, Tensor, Tensor], Tensor]


class Prompt(Protocol):
    """Texts, and how much each counts at each second (`shared.encoders.timed_prompts.TimedPrompts`)."""

    @property
    def texts(self) -> tuple[str, ...]: ...

    def weights(self, seconds: Tensor) -> Tensor: ...  # [K, N] at seconds [N]


def one_text(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Route where each sample has one text all the time."""
    return attention(q, k, v)


@dataclass(frozen=True)
class Span:
    """Latents start .. stop − 1, in which no sample changes its text, or all that it mixes.

    `rows`: which text each sample reads, [B]; several in a cross-fade, each with its `weights`, [B, stop − start].
    """

    start: int
    stop: int
    rows: tuple[Tensor, ...]
    weights: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class TimedText:
    """Texts of a batch in which some sample has several; `text_over_time` makes it.

    texts: [R, L, D], each text of the batch once. weights: [B, R, F] on the CPU, how much each counts at each latent
    of each sample; they sum to 1 over R. spans: the latents, cut wherever a sample's text changes.
    """

    texts: Tensor
    weights: Tensor
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, texts: Tensor, weights: Tensor) -> TimedText:
        """Cut the latents by the weights."""
        return cls(texts, weights, tuple(_spans(weights, texts.device)))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the texts."""
        return self.texts.dtype

    @property
    def shape(self) -> torch.Size:
        """[R, L, D], of the texts."""
        return self.texts.shape

    def to(self, *where: Any) -> TimedText:
        """Texts and spans on a device, the texts in a precision, as `Tensor.to`."""
        texts = self.texts.to(*where)
        return TimedText.of(texts, self.weights) if texts.device != self.texts.device else replace(self, texts=texts)

    def __getitem__(self, samples: Tensor) -> Text:
        """Texts of some `samples`, by number; plain [B, L, D] if each of them has one."""
        return _routed(self.texts, self.weights[samples])

    def embedded(self, texts: Tensor, latents: int) -> TimedText:
        """Replace the texts by what a stream of so many `latents` makes of them, [R, L, E]. ValueError for others."""
        if latents != (count := self.spans[-1].stop):
            raise ValueError(f"texts over the time of {count} latents do not fit {latents}")
        return replace(self, texts=texts)

    def of_latents(self, latents: slice) -> TimedText:
        """Keep the time of some latents; the texts stay."""
        return TimedText.of(self.texts, self.weights[..., latents])

    @torch.compiler.disable  # every layout of spans would be compiled as a form of the block of its own
    def route(self, attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with the queries [B, N, h, d] of each span to the keys and values [R, L, h, d] of its texts."""
        space, out = q.shape[1] // self.spans[-1].stop, []
        for span in self.spans:
            part = q[:, span.start * space : span.stop * space]
            read = [attention(part, k[rows], v[rows]) for rows in span.rows]
            if span.weights:
                weights = (weight.repeat_interleave(space, dim=1)[..., None, None] for weight in span.weights)
                mixed = sum((x * w for x, w in zip(read, weights, strict=True)), start=torch.zeros(()))
                read = [mixed.type_as(read[0])]
            out.append(read[0])
        return torch.cat(out, dim=1)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Lay the texts out as several plain ones, [B, L, D], each with its weight at each latent, [B, F]: for a
        model that cannot route. A sample with fewer texts than another has weight 0 in the rest."""
        counting = [one.amax(1).nonzero()[:, 0].tolist() for one in self.weights]
        layers = []
        for k in range(max(map(len, counting))):
            rows = torch.tensor([own[min(k, len(own) - 1)] for own in counting])
            there = torch.tensor([k < len(own) for own in counting])[:, None]
            weights = self.weights[torch.arange(len(rows)), rows] * there
            layers.append((self.texts[rows.to(self.texts.device)], weights.to(self.texts.device, torch.float32)))
        return layers


#: What a stream reads: a text per sample, [B, L, D], or texts over time.
Text = Tensor | TimedText


def text_over_time(prompts: Sequence[Prompt], clock: LatentClock, embed: Callable[[list[str]], Tensor]) -> Text:
    """Embed what the latents of `clock` read: plain texts [B, L, D] if every sample reads one in all of them.

    `embed(texts)`: [R, L, D]. Texts that no latent reads are not embedded; others once, however often they come back.
    """
    samples: list[dict[str, Tensor]] = []
    for prompt in prompts:
        counting: dict[str, Tensor] = {}
        for text, weight in zip(prompt.texts, prompt.weights(clock.centres), strict=True):
            if weight.any():
                counting[text] = counting[text] + weight if text in counting else weight
        samples.append(counting)
    if all(len(counting) == 1 for counting in samples):
        return embed([text for counting in samples for text in counting])
    texts = list(dict.fromkeys(text for counting in samples for text in counting))
    nothing = torch.zeros(len(clock), dtype=torch.float64)
    weights = torch.stack([torch.stack([counting.get(text, nothing) for text in texts]) for counting in samples])
    return TimedText.of(embed(texts), weights)


def _routed(texts: Tensor, weights: Tensor) -> Text:
    """Texts without those that do not count; plain ones if each sample has one."""
    used = weights.amax((0, 2)).nonzero()[:, 0]
    weights = weights[:, used]
    counting = weights.amax(2) > 0
    if (counting.sum(1) == 1).all():
        return texts[used[counting.int().argmax(1)].to(texts.device)]
    return TimedText.of(texts[used.to(texts.device)], weights)


def _spans(weights: Tensor, device: torch.device) -> list[Span]:
    """Spans of weights [B, R, F]: between two of them some sample changes what it reads."""
    counting = weights > 0
    changes = (counting[..., 1:] != counting[..., :-1]).any(0).any(0).nonzero()[:, 0] + 1
    edges, spans = [0, *changes.tolist(), weights.shape[2]], list[Span]()
    for start, stop in pairwise(edges):
        own = [one.nonzero()[:, 0].tolist() for one in counting[..., start]]
        rows = [torch.tensor([read[min(k, len(read) - 1)] for read in own]) for k in range(max(map(len, own)))]
        mixed = list[Tensor]()
        for k, row in enumerate(rows if len(rows) > 1 else ()):
            there = torch.tensor([k < len(read) for read in own])[:, None]
            weight = weights[torch.arange(len(row)), row, start:stop] * there
            mixed.append(weight.to(device, torch.float32))
        spans.append(Span(start, stop, tuple(row.to(device) for row in rows), tuple(mixed)))
    return spans
