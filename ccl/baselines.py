"""What CCL is compared with, by configuration: gates, Ovi's and UniVerse-1's attention, CCL without one of its parts.

A `Variant` says what takes the place of CCA and of its parts. All of them stand on the same two towers:

| `joiner` | update of a stream x that reads a stream y |
|---|---|
| `cca` | CCA, `ccl.context_attention` |
| `gate_hard` | g·CA(x, y), no context tokens; g = 1 where the route reads the other stream, else 0 |
| `gate_learned` | the same with g = tanh(α), α = 0 at first |
| `full` | W_o (A(q, text) + A(R q, R y)) in the text attention's place, all tokens of y (Ovi) |
| `appended` | W_o A(q, [text, y]), one softmax, in the text attention's place, all tokens of y (UniVerse-1) |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from ccl.context_attention import ContextAttention, KeyValue
from ccl.tarp import Alignment
from shared.nn.attention import attend
from shared.nn.dit import StreamConfig
from shared.nn.rope import Rotary, grid_rotary, rotate, time_rotary

CHOICES = {
    "joiner": ("cca", "gate_hard", "gate_learned", "full", "appended"),
    "positions": ("aligned", "index"),
    "partition": (True, False),
    "routing": ("dynamic", "joint"),
}
#: Last arguments of `from_audio` or `from_video`, the same in all blocks.
Places = tuple[Any, ...]


class Joiner(Protocol):
    """One direction of one block: what a stream makes of the other.

    The first arguments of an update are the hidden states x [B, N, D] or, in the text attention's place, its queries
    and the text's keys and values; its last ones are `Places`. It returns what is added to x, or there what goes into
    the text attention's output projection, [B, N, h, d].
    """

    def read(self, y: Tensor) -> KeyValue:
        """Keys and values of the other stream's hidden states y [B, M, D]."""

    @property
    def alone(self) -> Callable[..., Tensor]:
        """The update where the route does not read the other stream, `alone(*own)`."""

    @property
    def from_audio(self) -> Callable[..., Tensor]:
        """The video's update, `from_audio(*own, kv, *places)`."""

    @property
    def from_video(self) -> Callable[..., Tensor]:
        """The audio's update, `from_video(*own, kv, *places)`."""


@dataclass(frozen=True)
class Variant:
    """How the streams of a `DualStreamTransformer` are joined; its defaults are CCL.

    Attributes:
        joiner: see the module.
        positions: `aligned`, or `index`: audio token j stands at j, video frame i at i (no aligned RoPE). The angle is
            j − i then: `cca_time_scale` has no meaning for it.
        partition: false lets every token see all tokens of the other stream, at p_j − i.
        routing: `dynamic` (DCR), or `joint`: both streams always read each other, the clean one in a2v and v2a too.

    Raises:
        ValueError: a value that there is not, or positions and partition varied together with the joiner.
    """

    joiner: str = "cca"
    positions: str = "aligned"
    partition: bool = True
    routing: str = "dynamic"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}")
        if self.joiner != "cca" and (self.positions, self.partition) != ("aligned", True):
            raise ValueError(f"positions and partition are varied with joiner cca, not {self.joiner}; leave them out")

    @property
    def in_text_place(self) -> bool:
        """Whether the joiner acts inside the text attention, not after it."""
        return self.joiner in ("full", "appended")

    @property
    def has_alone(self) -> bool:
        """Whether guidance may compare with 0m. The papers of `full` and `appended` guide by text only, and without DCR
        no stream is ever alone."""
        return not self.in_text_place and self.routing == "dynamic"

    @property
    def sees_all(self) -> bool:
        """Whether a token sees all tokens of the other stream."""
        return self.in_text_place or not self.partition

    def build(
        self, reader: StreamConfig, other: StreamConfig, heads: int, head_dim: int, context_tokens: int
    ) -> nn.Module:
        """The joiner of one block by which `reader` reads `other`; the sizes are those of CCA."""
        if self.joiner == "full":
            return FullTextAttention(reader, other.width)
        if self.joiner == "appended":
            return AppendedTextAttention(reader, other.width)
        if self.joiner != "cca":
            return Gate(reader.width, other.width, heads, head_dim, learned=self.joiner == "gate_learned")
        kind = ContextAttention if self.partition else DenseContextAttention
        return kind(reader.width, other.width, heads, head_dim, context_tokens)

    def places(
        self, alignment: Alignment, grid: tuple[int, int, int], head_dims: tuple[int, int, int], scale: float
    ) -> tuple[Places, Places]:
        """What `from_audio` and `from_video` need of a joiner that sees all tokens: rotations of queries and of keys.

        `grid` is the video's (F, height, width); `head_dims` are those of video, audio and CCA.
        """
        if self.joiner == "appended":
            return (), ()
        if self.joiner == "full":
            (video, audio), (seen, heard) = (
                full_rotaries(grid, len(alignment.frame), head_dim) for head_dim in head_dims[:2]
            )
            return (video, audio), (heard, seen)
        video, audio = dense_rotaries(alignment, grid[1] * grid[2], head_dims[2], scale)
        return (video, audio), (audio, video)


def by_index(alignment: Alignment) -> Alignment:
    """The same partition at naive positions: audio token j stands at j and video frame i at i, whatever the clocks."""
    frames, tokens = torch.arange(len(alignment.window)), torch.arange(len(alignment.frame))
    window, token = alignment.window - frames[:, None], tokens - alignment.frame
    return replace(alignment, window_offset=window.double(), offset=token.double())


def dense_rotaries(alignment: Alignment, space: int, head_dim: int, scale: float) -> tuple[Rotary, Rotary]:
    """Rotation of every video token by i and of every audio token by p_j, [F·S, 1, d/2] and [A, 1, d/2].

    A logit of the two sees p_j − i alone, as in CCA.
    """
    frames = torch.arange(len(alignment.window)).repeat_interleave(space)
    return time_rotary(scale * frames, head_dim), time_rotary(scale * (alignment.offset + alignment.frame), head_dim)


def full_rotaries(grid: tuple[int, int, int], tokens: int, head_dim: int) -> tuple[Rotary, Rotary]:
    """Ovi's: video tokens on three axes at integer places, audio token j of A on the temporal one at j·F/A.

    Its released model has the factor 0.197 for F = 31 and A = 157. `head_dim` is the reader's.
    """
    return grid_rotary(*grid, head_dim)[0], time_rotary(torch.arange(tokens) * (grid[0] / tokens), head_dim)


class DenseContextAttention(ContextAttention):
    """CCA without a partition: every token sees the context tokens and all tokens of the other stream."""

    def _dense(self, x: Tensor, kv: KeyValue, query_rotary: Rotary, key_rotary: Rotary) -> Tensor:
        """The update of x [B, N, D] by all keys [B, M, h, d]; rotations [N, 1, d/2] and [M, 1, d/2].

        Context tokens meet the unturned queries, as in CCA.
        """
        plain, (k, v) = self.queries(x), kv
        turned, k = rotate(plain, query_rotary), rotate(k, key_rotary)
        context_k, context_v = self._key_value(self.context_tokens)
        logits = torch.cat(
            [torch.einsum("bnhd,lhd->bhnl", plain, context_k), torch.einsum("bnhd,bmhd->bhnm", turned, k)], dim=-1
        )
        weights = (logits.float() / plain.shape[-1] ** 0.5).softmax(-1).type_as(v)
        context, other = weights.split([len(context_k), k.shape[1]], dim=-1)
        out = torch.einsum("bhnl,lhd->bnhd", context, context_v) + torch.einsum("bhnm,bmhd->bnhd", other, v)
        return self.to_out(out.flatten(2))

    from_audio = _dense  # type: ignore[assignment]
    from_video = _dense  # type: ignore[assignment]


class Gate(ContextAttention):
    """x + g·CA(x, y): attention without context tokens behind a gate, which is 0 where the route reads nothing.

    The output projection starts as any other, not at zero: before a learned gate at zero neither would ever learn, and
    a hard gate with CCA's start would be CCA with `context_tokens: 0` to the bit.
    """

    def __init__(self, query_dim: int, context_dim: int, heads: int, head_dim: int, learned: bool) -> None:
        super().__init__(query_dim, context_dim, heads, head_dim, context_tokens=0)
        self.alpha = nn.Parameter(torch.zeros(1)) if learned else None
        self.to_out.reset_parameters()

    def from_audio(self, x: Tensor, kv: KeyValue, alignment: Alignment, rotary: Rotary) -> Tensor:
        return self._gated(super().from_audio(x, kv, alignment, rotary))

    def from_video(self, x: Tensor, kv: KeyValue, alignment: Alignment, rotary: Rotary) -> Tensor:
        return self._gated(super().from_video(x, kv, alignment, rotary))

    def _gated(self, update: Tensor) -> Tensor:
        return update if self.alpha is None else torch.tanh(self.alpha) * update


class TextPlaceAttention(nn.Module):
    """Keys and values of the other stream for the text attention of `reader`, whose queries and output it shares.

    Values start at zero [D]: the other stream's noise would spoil pretrained towers before anything is learned.
    """

    def __init__(self, reader: StreamConfig, context_dim: int) -> None:
        super().__init__()
        self.heads = reader.num_attention_heads
        self.norm_y = FP32LayerNorm(context_dim, reader.eps, elementwise_affine=True)
        self.to_k = nn.Linear(context_dim, reader.width)
        self.to_v = nn.Linear(context_dim, reader.width)
        self.norm_k = nn.RMSNorm(reader.width, eps=reader.eps)
        nn.init.zeros_(self.to_v.weight)
        nn.init.zeros_(self.to_v.bias)

    def read(self, y: Tensor) -> KeyValue:
        """Keys and values [B, M, h, d] of y [B, M, context_dim]."""
        y = self.norm_y(y)
        k = self.norm_k(self.to_k(y)).unflatten(-1, (self.heads, -1))
        return k, self.to_v(y).unflatten(-1, (self.heads, -1))


class FullTextAttention(TextPlaceAttention):
    """Ovi's: a second attention, to all tokens of the other stream; both results share one output projection."""

    def alone(self, q: Tensor, text_k: Tensor, text_v: Tensor) -> Tensor:
        """The text attention alone."""
        return attend(q, text_k, text_v)

    def from_audio(
        self, q: Tensor, text_k: Tensor, text_v: Tensor, kv: KeyValue, query_rotary: Rotary, key_rotary: Rotary
    ) -> Tensor:
        """[B, N, h, d]; the queries are turned for the other stream and not for the text."""
        k, v = kv
        return attend(q, text_k, text_v) + attend(rotate(q, query_rotary), rotate(k, key_rotary), v)

    from_video = from_audio


class AppendedTextAttention(TextPlaceAttention):
    """UniVerse-1's: text and all tokens of the other stream are keys of one softmax, not rotated.

    Unconditional is "zeros" there: tokens of the other stream that are zero. They are all alike, and a stream alone
    cannot know how many there would be, so one zero token stands for them [D].
    """

    def alone(self, q: Tensor, text_k: Tensor, text_v: Tensor) -> Tensor:
        """Text and one zero token of the other stream, [B, N, h, d]."""
        return self.from_audio(q, text_k, text_v, self.read(q.new_zeros(len(q), 1, self.to_k.in_features)))

    def from_audio(self, q: Tensor, text_k: Tensor, text_v: Tensor, kv: KeyValue) -> Tensor:
        """[B, N, h, d]."""
        k, v = kv
        return attend(q, torch.cat([text_k, k], dim=1), torch.cat([text_v, v], dim=1))

    from_video = from_audio
