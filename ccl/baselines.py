"""What CCL is compared with, by configuration: gates, Ovi's and UniVerse-1's attention, CCL without one of its parts.

A `Variant` says what takes the place of CCA and of its parts. All of them stand on the same two towers:

| `fusion` | update of a stream x that reads a stream y |
|---|---|
| `cca` | CCA, `ccl.fusion` |
| `gate_hard` | g·CA(x, y), no context tokens; g = 1 where the route reads the other stream, else 0 |
| `gate_learned`, `gate_open` | the same with g = tanh(α), α = 0 or 0.5 at first |
| `full_own` | W_o A(R q, R y), projections of its own behind the text attention, all tokens of y at Ovi's places |
| `full` | W_o (A(q, text) + A(R q, R y)) in the text attention's place, all tokens of y (Ovi) |
| `appended` | W_o A(q, [text, y]), one softmax, in the text attention's place, all tokens of y (UniVerse-1) |

To add one: a class that derives from `ccl.fusion.Fusion`, and its name in `FUSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from ccl.context_attention import AudioContextAttention, ContextAttention, KeyValue, VideoContextAttention
from ccl.fusion import Fusion, Grid, RotaryArguments, Sizes
from ccl.tarp import Alignment
from shared.nn.attention import attend
from shared.nn.context_parallel import ContextShard
from shared.nn.dit import StreamConfig
from shared.nn.norms import RMSNorm
from shared.nn.rope import Rotary, grid_rotary, rotate, time_rotary
from shared.nn.timed_text import TextRoute, one_text


class HardGateFusion(Fusion):
    """x + CA(x, y), no context tokens. W_o does not start at zero: behind a learned gate at zero neither would ever
    learn, and a hard gate with CCA's start would be CCA with `context_tokens: 0` to the bit."""

    @classmethod
    def build(cls, stream: str, reader: StreamConfig, other: StreamConfig, sizes: Sizes) -> Any:
        gate = super().build(stream, reader, other, (*sizes[:2], 0))
        gate.to_out.reset_parameters()
        return gate


class _Gated(ContextAttention):
    """tanh(α) times the update of the direction that a class names beside this one; α starts at 0."""

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.alpha = nn.Parameter(torch.zeros(1))

    def read(self, x: Tensor, key_value: KeyValue, **where: Any) -> Tensor:
        return torch.tanh(self.alpha) * super().read(x, key_value, **where)


class GatedVideoAttention(_Gated, VideoContextAttention):
    """The video reads the audio behind a learned gate."""


class GatedAudioAttention(_Gated, AudioContextAttention):
    """The audio reads the video behind a learned gate."""


class LearnedGateFusion(HardGateFusion):
    """x + tanh(α)·CA(x, y)."""

    directions = {"video": GatedVideoAttention, "audio": GatedAudioAttention}  # noqa: RUF012
    alpha = 0.0

    @classmethod
    def build(cls, stream: str, reader: StreamConfig, other: StreamConfig, sizes: Sizes) -> Any:
        gate = super().build(stream, reader, other, sizes)
        nn.init.constant_(gate.alpha, cls.alpha)
        return gate


class OpenGateFusion(LearnedGateFusion):
    """The same, and the gate is half open at first."""

    alpha = 0.5


class DenseContextAttention(ContextAttention):
    """CCA without a partition: every token sees the context tokens and all tokens of the other stream."""

    def read(self, x: Tensor, key_value: KeyValue, *, query_rotary: Rotary, key_rotary: Rotary) -> Tensor:
        """Make the update of x [B, N, D] by all keys [B, M, h, d]; rotations [N, 1, d/2] and [M, 1, d/2]."""
        plain, (k, v) = self.queries(x), key_value
        all_in_one = (part[:, None] for part in (plain, rotate(plain, query_rotary), rotate(k, key_rotary), v))
        return self.to_out(self._attend_groups(*all_in_one)[:, 0].flatten(2))


class DenseFusion(Fusion):
    """CCA without a partition, in both directions."""

    directions = {"video": DenseContextAttention, "audio": DenseContextAttention}  # noqa: RUF012

    def rotary_arguments(self, alignment: Alignment, grid: Grid, scale: float) -> RotaryArguments:
        """Every video token turned by i and every audio token by p_j: a logit of the two sees p_j − i alone."""
        frames = torch.arange(grid[0]).repeat_interleave(grid[1] * grid[2])
        places = frames, alignment.offset + alignment.frame
        return _both_ways(*(time_rotary(scale * place, self.video.head_dim) for place in places))

    def of_shards(
        self, arguments: RotaryArguments, video: ContextShard | None, audio: ContextShard | None
    ) -> RotaryArguments:
        return _queries_of_shards(arguments, video, audio)


class FullOwnFusion(DenseFusion):
    """Ovi's keys and places in an attention with projections of its own, which learns and is guided as CCA is: what a
    stream reads stands behind its text attention, W_o starts at zero, and at 0m nothing is added."""

    @classmethod
    def build(cls, stream: str, reader: StreamConfig, other: StreamConfig, sizes: Sizes) -> Any:
        return super().build(stream, reader, other, (*sizes[:2], 0))

    def rotary_arguments(self, alignment: Alignment, grid: Grid, scale: float) -> RotaryArguments:
        """Ovi's places: `FullTextFusion`'s, for CCA's heads."""
        return _ovis_places(alignment, grid, self.video.head_dim)


class TextPlaceAttention(nn.Module):
    """Keys and values of the other stream for the text attention of `reader`, whose queries and output it shares.
    Values start at zero [D]: the other stream's noise would spoil pretrained towers before anything is learned."""

    def __init__(self, reader: StreamConfig, context_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = reader.num_attention_heads, reader.attention_head_dim
        self.norm_y = FP32LayerNorm(context_dim, reader.eps, elementwise_affine=True)
        self.to_k = nn.Linear(context_dim, reader.width)
        self.to_v = nn.Linear(context_dim, reader.width)
        self.norm_k = RMSNorm(reader.width, reader.eps)
        nn.init.zeros_(self.to_v.weight)
        nn.init.zeros_(self.to_v.bias)

    def key_value(self, y: Tensor) -> KeyValue:
        """Keys and values [B, M, h, d] of y [B, M, context_dim]."""
        y = self.norm_y(y)
        k = self.norm_k(self.to_k(y)).unflatten(-1, (self.heads, -1))
        return k, self.to_v(y).unflatten(-1, (self.heads, -1))


class FullTextAttention(TextPlaceAttention):
    """Ovi's: a second attention, to all tokens of the other stream; both results share one output projection."""

    def unconditional(self, q: Tensor, text_k: Tensor, text_v: Tensor, route: TextRoute = one_text) -> Tensor:
        return route(attend, q, text_k, text_v)

    def forward(
        self, q: Tensor, text_k: Tensor, text_v: Tensor, key_value: KeyValue, query_rotary: Rotary, key_rotary: Rotary,
        route: TextRoute = one_text,
    ) -> Tensor:  # fmt: skip
        """[B, N, h, d]; the queries are turned for the other stream and not for the text."""
        k, v = key_value
        return route(attend, q, text_k, text_v) + attend(rotate(q, query_rotary), rotate(k, key_rotary), v)


class AppendedTextAttention(TextPlaceAttention):
    """UniVerse-1's: text and all tokens of the other stream are keys of one softmax, not rotated. Unconditional is zero
    tokens there; they are alike, and a stream alone cannot know their number, so one stands for them [D]."""

    def unconditional(self, q: Tensor, text_k: Tensor, text_v: Tensor, route: TextRoute = one_text) -> Tensor:
        """Text and one zero token of the other stream, [B, N, h, d]."""
        return self(q, text_k, text_v, self.key_value(q.new_zeros(len(q), 1, self.to_k.in_features)), route)

    def forward(
        self, q: Tensor, text_k: Tensor, text_v: Tensor, key_value: KeyValue, route: TextRoute = one_text
    ) -> Tensor:
        """[B, N, h, d]."""
        k, v = key_value

        def beside(q: Tensor, text_k: Tensor, text_v: Tensor) -> Tensor:
            return attend(q, torch.cat([text_k, k], dim=1), torch.cat([text_v, v], dim=1))

        return route(beside, q, text_k, text_v)


class FullTextFusion(Fusion):
    """Ovi's attention in both directions."""

    inside_text_attention = True
    directions = {"video": FullTextAttention, "audio": FullTextAttention}  # noqa: RUF012

    @classmethod
    def build(cls, stream: str, reader: StreamConfig, other: StreamConfig, sizes: Sizes) -> Any:
        return cls.directions[stream](reader, other.width)  # the text attention's heads, not CCA's

    def rotary_arguments(
        self, alignment: Alignment, grid: Grid, scale: float, audio_places: Tensor | None = None
    ) -> RotaryArguments:
        """Ovi's: video tokens on three axes at integer places, audio tokens on the temporal one at `audio_places` [A];
        None: token j of A at j·F/A. Its release has j times 0.19676, whatever F and A (the model's `fusion_time_unit`).
        All are turned for the heads of the reader."""
        (video, _), (_, audio) = (
            _ovis_places(alignment, grid, reader.head_dim, audio_places) for reader in (self.video, self.audio)
        )
        return video, audio

    def of_shards(
        self, arguments: RotaryArguments, video: ContextShard | None, audio: ContextShard | None
    ) -> RotaryArguments:
        return _queries_of_shards(arguments, video, audio)


class AppendedTextFusion(FullTextFusion):
    """UniVerse-1's attention in both directions."""

    directions = {"video": AppendedTextAttention, "audio": AppendedTextAttention}  # noqa: RUF012

    def rotary_arguments(
        self, alignment: Alignment, grid: Grid, scale: float, audio_places: Tensor | None = None
    ) -> RotaryArguments:
        return {}, {}  # keys are not rotated


def _queries_of_shards(
    arguments: RotaryArguments, video: ContextShard | None, audio: ContextShard | None
) -> RotaryArguments:
    """Cut the rotations of the queries, where there are any, to the tokens that are here."""
    of_video, of_audio = (
        one if shard is None or not one else {**one, "query_rotary": one["query_rotary"][shard.tokens]}
        for one, shard in zip(arguments, (video, audio), strict=True)
    )
    return of_video, of_audio


def _both_ways(video: Rotary, audio: Rotary) -> RotaryArguments:
    """Arguments of a video and of an audio that see all of one another, by the rotations of their tokens."""
    return {"query_rotary": video, "key_rotary": audio}, {"query_rotary": audio, "key_rotary": video}


def _ovis_places(
    alignment: Alignment, grid: Grid, head_dim: int, audio_places: Tensor | None = None
) -> RotaryArguments:
    """Video tokens at integers on three axes, audio tokens on the temporal one at `audio_places` [A] or at j·F/A."""
    tokens = audio_places
    if tokens is None:
        tokens = torch.arange(len(alignment.frame)) * (grid[0] / len(alignment.frame))
    return _both_ways(grid_rotary(*grid, head_dim)[0], time_rotary(tokens, head_dim))


def by_index(alignment: Alignment, unit: float = 1.0) -> Alignment:
    """Put a partition at naive positions: audio token j at j·`unit` and video frame i at i, whatever the clocks."""
    window = alignment.window * unit - torch.arange(len(alignment.window))[:, None]
    token = torch.arange(len(alignment.frame)) * unit - alignment.frame
    return replace(alignment, window_offset=window.double(), offset=token.double())


def in_window(alignment: Alignment) -> Alignment:
    """Put each audio token at its number, from 0: in a frame's window, and among those that read its frame."""
    width = alignment.groups.shape[1]
    rank = torch.arange(alignment.window.shape[1]).expand_as(alignment.window)
    return replace(alignment, window_offset=rank.double(), offset=(alignment.slot % width).double())


def unrotated(alignment: Alignment) -> Alignment:
    """Put everything that may be read at the same place."""
    still = {name: torch.zeros_like(getattr(alignment, name)) for name in ("window_offset", "offset")}
    return replace(alignment, **still)


#: Values of the model's `fusion`.
FUSIONS: dict[str, type[Fusion]] = {
    "cca": Fusion, "gate_hard": HardGateFusion, "gate_learned": LearnedGateFusion, "gate_open": OpenGateFusion,
    "full_own": FullOwnFusion, "full": FullTextFusion, "appended": AppendedTextFusion,
}  # fmt: skip
#: Values of the model's `positions`.
POSITIONS = ("aligned", "index", "scaled", "window", "none")


@dataclass(frozen=True)
class Variant:
    """How the streams of a `DualStreamTransformer` are joined; its defaults are CCL. Raises ValueError for a value that
    there is not, or positions and partition varied together with the fusion."""

    fusion: str = "cca"  # one of `FUSIONS`, see the module
    positions: str = "aligned"  # or one of `POSITIONS`, see `placed`
    partition: bool = True  # false: every token sees all tokens of the other stream, at p_j − i
    routing: str = "dynamic"  # DCR; or `joint`: both streams always read each other, a clean one in a2v and v2a too

    def __post_init__(self) -> None:
        choices = tuple(FUSIONS), POSITIONS, (True, False), ("dynamic", "joint")
        for (name, value), values in zip(vars(self).items(), choices, strict=True):
            if value not in values:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, values))}")
        if self.fusion != "cca" and (self.positions, self.partition) != ("aligned", True):
            raise ValueError(f"positions and partition are varied with fusion cca, not {self.fusion}; leave them out")
        if self.positions in ("window", "none") and not self.partition:
            raise ValueError(f"positions {self.positions} are those of a partition; give partition: true")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Variant:
        """Pick the variant out of a model's settings. Raises ValueError as the class."""
        return cls(**{part.name: settings[part.name] for part in fields(cls) if part.name in settings})

    @property
    def kind(self) -> type[Fusion]:
        """The class that joins the streams of a block."""
        return FUSIONS[self.fusion] if self.partition else DenseFusion

    def placed(self, alignment: Alignment, scale: float) -> tuple[Alignment, float]:
        """Positions of the variant, and the angle per unit of theirs; `scale` is that per video latent.

        `aligned`: by the clocks. `scaled`: audio token j at j·F/A, frame i at i. `index`: at j and i. `window`: at its
        number among those that are read together. The last two are numbers of tokens, of an angle of 1 each. `none`:
        nothing is rotated."""
        if self.positions == "index":
            return by_index(alignment), 1.0
        if self.positions == "scaled":
            return by_index(alignment, len(alignment.window) / len(alignment.frame)), scale
        if self.positions == "window":
            return in_window(alignment), 1.0
        return (unrotated(alignment) if self.positions == "none" else alignment), scale
