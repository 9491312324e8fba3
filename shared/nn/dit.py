"""One diffusion-transformer stream (video or audio tower), weight-compatible with diffusers' `WanTransformer3DModel`.

A block runs in two halves, `attend` (`attend_self`, then `attend_text`) and `feed_forward`, so that a joint model can
put cross-modal attention between them, or in the text attention's place, and a control network its injection.
Modulation is held once per latent frame ([B, T, 6, D]; T = 1 or F), never per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTimeTextImageEmbedding
from einops import rearrange
from torch import Tensor, nn

from shared.nn.attention import attend, kernel_learns_slowly, products
from shared.nn.clock import LatentClock
from shared.nn.conditions import ConditionEmbedding
from shared.nn.context_parallel import ContextGroup, ContextShard
from shared.nn.norms import RMSNorm, add_modulated, modulated_norm
from shared.nn.rope import Rotary, grid_rotary, rotate, time_rotary
from shared.nn.text_refiner import TextRefiner
from shared.nn.timed_text import Attention, Text, TimedText

#: Adds to the hidden states [B, N, D] of block `i`, between the attentions and the FFN: `control(i, x) -> x`.
Control = Callable[[int, Tensor], Tensor]


class DivisibleControl(Protocol):
    """A `Control` that context parallel can cut."""

    def of_latents(self, latents: slice) -> Control: ...  # for hidden states of some of the latents


@dataclass(frozen=True)
class StreamConfig:
    """Sizes of one stream; the names are diffusers' where it has one.

    Attributes:
        in_channels, text_dim: values of a latent, and of a token of text.
        num_attention_heads, attention_head_dim: heads and their width; the stream's width is their product.
        num_layers, ffn_dim: blocks, and the inner width of their feed-forward parts.
        freq_dim: width of the sinusoid that embeds sigma.
        patch_size: latents per token, in time, height and width.
        eps: of the norms.
        grid: `video` rotates time, height and width at integer places; `time` the temporal band only, at the clock's
            centres (an audio stream needs no video to know its positions).
        time_unit: seconds per unit of the temporal band, for `grid: time`.
        skip: adds to the prediction the noisy latents, times a factor per channel and noise level, zero at first: a
            narrow stream need not carry every value of its tokens through all blocks. Wan has none.
        gate: adds them once more, times a factor per value that each token decides, zero at first: where a token knows
            what is there, little of its noisy latents is believed, elsewhere more. Wan has none.
        text_layers, text_heads: blocks of a `TextRefiner` and their heads; Wan has none.
        frame_rate: true tells the stream the rate of its latents, without which a slow picture and a fast one are the
            same latents; of no effect until it is trained. For `grid: video`. Wan has one rate and no weights for it.
        average: true lets the stream predict the average velocity from a noise level to a lower one, so that few steps
            make a sample; of no effect until it is trained (`distill`). Wan has no weights for it.
    """

    in_channels: int
    num_attention_heads: int
    attention_head_dim: int
    num_layers: int
    ffn_dim: int
    text_dim: int
    freq_dim: int = 256
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    grid: str = "video"
    time_unit: float = 1.0
    skip: bool = False
    gate: bool = False
    text_layers: int = 0
    text_heads: int = 4
    frame_rate: bool = False
    average: bool = False

    def __post_init__(self) -> None:
        if self.grid not in ("video", "time"):
            raise ValueError(f"grid must be 'video' or 'time', not {self.grid!r}")
        if self.text_layers and self.text_dim % self.text_heads:
            raise ValueError(f"text_heads {self.text_heads} must divide text_dim {self.text_dim}")
        if not isinstance(self.frame_rate, bool):
            raise ValueError(
                f"frame_rate is {self.frame_rate!r}; true or false is needed, a clip's clock has the number"
            )
        if not isinstance(self.average, bool):
            raise ValueError(f"average is {self.average!r}; true or false is needed")
        if self.frame_rate and self.grid != "video":
            raise ValueError(f"frame_rate is for a stream of grid 'video', not {self.grid!r}")
        object.__setattr__(self, "patch_size", tuple(self.patch_size))

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def patch_values(self) -> int:
        return self.in_channels * math.prod(self.patch_size)


@dataclass(frozen=True)
class StreamState:
    """What a stream carries from block to block."""

    x: Tensor  # [B, N, D] hidden states, frame-major
    modulation: Tensor  # [B, T, 6, D] projected time embedding, T = 1 or a divisor of N (the latent frames)
    time: Tensor  # [B, T, D] time embedding, for the output layer
    text: Text  # [B, L, D] embedded text, or texts over time
    rotary: Rotary  # of self-attention
    grid: tuple[int, int, int]  # (frames, height, width) in tokens
    latents: Tensor  # [B, C, F, H, W], what the stream was given
    shard: ContextShard | None = None  # the latents that are here, of those of a group; None: all

    def with_x(self, x: Tensor) -> StreamState:
        return replace(self, x=x)

    def divided(self, group: ContextGroup, name: str) -> StreamState:
        """Keep what this process of the group holds of the stream `name`. UserError as `ContextGroup.shard`."""
        frames, *sides = self.grid
        return self.of_shard(group.shard(name, frames, math.prod(sides)))

    def of_shard(self, shard: ContextShard) -> StreamState:
        """Keep what is of a shard."""
        here = shard.latents
        modulation, time = (x if x.shape[1] == 1 else x[:, here] for x in (self.modulation, self.time))
        text = self.text.of_latents(here) if isinstance(self.text, TimedText) else self.text
        return StreamState(
            self.x[:, shard.tokens], modulation, time, text, self.rotary[:, shard.tokens],
            (here.stop - here.start, *self.grid[1:]), self.latents[:, :, here], shard,
        )  # fmt: skip


class StreamAttnProcessor(WanAttnProcessor):
    """Wan's attention with rotation at any real position; the backend is diffusers' to choose."""

    def __call__(
        self, attn: WanAttention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, rotary_emb: Rotary | None = None, attention: Attention | None = None,
        shard: ContextShard | None = None,
    ) -> Tensor:  # fmt: skip
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        k = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        v = attn.to_v(source).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            q, k = rotate(q, rotary_emb), rotate(k, rotary_emb)
        q, k = q.type_as(v), k.type_as(v)  # under autocast a norm gives float32, kernels want one type
        if shard is not None:
            q, k, v = shard.to_heads(q, k, v)
        plain = attention is None and attention_mask is None and self._attention_backend is None
        if plain and kernel_learns_slowly(q, k):
            attention = products
        elif attention is None:
            attention = partial(dispatch_attention_fn, attn_mask=attention_mask, backend=self._attention_backend)
        out = attention(q, k, v)
        if shard is not None:
            out = shard.to_tokens(out)
        return attn.to_out[0](out.flatten(2, 3).type_as(q))


class DiTBlock(nn.Module):
    """AdaLN self-attention -> text cross-attention -> (hook) -> AdaLN FFN, with Wan's parameter names."""

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        width, eps, head_dim = config.width, config.eps, config.attention_head_dim
        sizes = (width, config.num_attention_heads, head_dim, eps)
        self.norm1 = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.attn1 = WanAttention(*sizes, processor=StreamAttnProcessor())
        self.attn2 = WanAttention(*sizes, cross_attention_dim_head=head_dim, processor=StreamAttnProcessor())
        for attention in (self.attn1, self.attn2):
            attention.norm_q, attention.norm_k = RMSNorm(width, eps), RMSNorm(width, eps)
        self.norm2 = FP32LayerNorm(width, eps, elementwise_affine=True)
        self.ffn = FeedForward(width, inner_dim=config.ffn_dim, activation_fn="gelu-approximate")
        self.norm3 = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def _modulation(self, state: StreamState) -> tuple[Tensor, ...]:
        return (self.scale_shift_table + state.modulation.float()).unbind(dim=2)

    def attend(self, state: StreamState) -> StreamState:
        """Self-attention and text cross-attention."""
        return self.attend_text(self.attend_self(state))

    def attend_self(self, state: StreamState) -> StreamState:
        """Modulated self-attention."""
        shift, scale, gate, *_ = self._modulation(state)
        x = state.x
        normed = modulated_norm(self.norm1, x, 1 + scale, shift).type_as(x)
        attended = self.attn1(normed, None, None, state.rotary, shard=state.shard)
        return state.with_x(add_modulated(x, attended, gate))

    def attend_text(self, state: StreamState, attention: Callable[..., Tensor] | None = None) -> StreamState:
        """Text cross-attention; `attention` may act between its projections, on the text's keys and values. With texts
        over time it is called with `route` (`shared.nn.timed_text`), by which queries reach the texts that they read.
        """
        x, text = state.x, state.text
        if isinstance(text, TimedText):
            attention = partial(text.route, attend) if attention is None else partial(attention, route=text.route)
            text = text.texts
        normed = self.norm2(x.float()).type_as(x)
        return state.with_x(x + self.attn2(normed, text, None, None, attention=attention))

    def feed_forward(self, state: StreamState) -> StreamState:
        """Modulated feed-forward half."""
        *_, shift, scale, gate = self._modulation(state)
        x = state.x
        normed = modulated_norm(self.norm3, x, 1 + scale, shift).type_as(x)
        return state.with_x(add_modulated(x, self.ffn(normed), gate))


Block = TypeVar("Block", bound=nn.Module)


def modules(blocks: Iterable[Block]) -> Sequence[Block]:
    """Make an `nn.ModuleList` that type checkers know the members of."""
    return cast("Sequence[Block]", nn.ModuleList(blocks))


class PatchEmbedding(nn.Conv3d):
    """Wan's: patches [B, C, F, H, W] -> tokens [B, f·h·w, D], frame-major.

    The Conv3d of a patch is one matrix product; a conv kernel here is several times slower on a CPU.
    """

    def forward(self, latents: Tensor) -> Tensor:
        pt, ph, pw = self.kernel_size
        patches = rearrange(latents, "b c (f p) (h q) (w r) -> b (f h w) (c p q r)", p=pt, q=ph, r=pw)
        return nn.functional.linear(patches, self.weight.flatten(1), self.bias)


class DiTStream(nn.Module):
    """A whole stream: `embed`, the `blocks`, `head`; `forward` runs it alone.

    Latents are [B, C, F, H, W]; an audio stream sees its tokens [B, A, C] as F = A frames of 1x1 (`grid="time"`).
    """

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = PatchEmbedding(config.in_channels, width, config.patch_size, config.patch_size)
        refined = config.text_layers
        self.text_refiner = TextRefiner(config.text_dim, refined, config.text_heads) if refined else None
        sizes, more = (width, config.freq_dim, 6 * width, config.text_dim), (config.frame_rate, config.average)
        self.condition_embedder = ConditionEmbedding(*sizes, *more) if any(more) else WanTimeTextImageEmbedding(*sizes)
        self.blocks = modules(DiTBlock(config) for _ in range(config.num_layers))
        self.norm_out = FP32LayerNorm(width, config.eps, elementwise_affine=False)
        self.proj_out = nn.Linear(width, config.patch_values)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.skip = nn.Linear(width, config.in_channels) if config.skip else None
        self.gate = nn.Linear(width, config.patch_values) if config.gate else None
        for layer in filter(
            None, (self.proj_out, self.skip, self.gate)
        ):  # an untrained stream predicts nothing, as Wan's does
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def lend_blocks(self) -> Sequence[DiTBlock]:
        """Hand the blocks to a joint model, whose parameters they become; `forward` still runs them."""
        blocks = tuple(self.blocks)
        del self.blocks
        self.blocks = blocks  # no module list: nothing is registered twice
        return blocks

    def embed(
        self, latents: Tensor, sigma: Tensor, text: Text, clock: LatentClock | None = None, until: Tensor | None = None
    ) -> StreamState:
        """Tokens, modulation and positions of noisy latents [B, C, F, H, W] with text [B, L, text_dim], or over time.

        `sigma`: [B], or [B, F] for a noise level per latent frame; 0 clean .. 1 noise. `grid="time"` and `frame_rate`
        need the clock. `until`, of the same shape: where the velocity is the average of what lies between it and
        `sigma`; None: `sigma`. ValueError for one that is given to a stream without `average`.
        """
        (pt, ph, pw), head_dim = self.config.patch_size, self.config.attention_head_dim
        x = self.patch_embedding(latents)
        grid = (latents.shape[2] // pt, latents.shape[3] // ph, latents.shape[4] // pw)
        if self.config.grid == "video":
            rotary = grid_rotary(*grid, head_dim)
        elif clock is None or len(clock) != grid[0]:
            raise ValueError(f"a time stream needs the clock of its {grid[0]} latents, got {clock and len(clock)}")
        else:
            rotary = time_rotary(clock.centres / self.config.time_unit - 0.5, head_dim)[None]
        levels, more = self._times(sigma), self._rate(clock)
        if self.config.average:
            more["until"] = (levels if until is None else self._times(until)).flatten()
        elif until is not None:
            raise ValueError("a stream without average has velocities at its own noise level alone")
        texts = text.texts if isinstance(text, TimedText) else text
        texts = texts if self.text_refiner is None else self.text_refiner(texts)
        time, modulation, texts, _ = self.condition_embedder(
            levels.flatten(), texts, timestep_seq_len=levels.shape[1], **more
        )
        text = text.embedded(texts, grid[0]) if isinstance(text, TimedText) else texts
        return StreamState(x, modulation.unflatten(-1, (6, -1)), time, text, rotary.to(x.device), grid, latents)

    def _times(self, sigma: Tensor) -> Tensor:
        """Give the times that the embedding of conditions reads, [B, T]."""
        return (sigma if sigma.ndim == 2 else sigma[:, None])[:, :: self.config.patch_size[0]] * 1000.0

    def _rate(self, clock: LatentClock | None) -> dict[str, Any]:
        """Give the embedding of conditions what it wants of the clock."""
        if not self.config.frame_rate:
            return {}
        if clock is None:
            raise ValueError("a stream with frame_rate needs the clock of its latents")
        return {"rate": clock.rate}

    def head(self, state: StreamState) -> Tensor:
        """Hidden states back to [B, C, F, H, W]."""
        shift, scale = (self.scale_shift_table + state.time.unsqueeze(2).float()).unbind(dim=2)
        x = modulated_norm(self.norm_out, state.x, 1 + scale, shift).type_as(state.x)
        sizes = dict(zip("fhwpqr", (*state.grid, *self.config.patch_size), strict=True))
        patches = "b (f h w) (p q r c) -> b c (f p) (h q) (w r)"
        out = rearrange(self.proj_out(x), patches, **sizes)
        if self.gate is not None:
            out = out + state.latents * rearrange(self.gate(x), patches, **sizes)
        if self.skip is None:
            return out
        # over the root of the width, so that a step of the optimizer moves the factor no more than other weights do
        factor = (self.skip(state.time) / self.config.width**0.5).transpose(1, 2).repeat_interleave(sizes["p"], dim=2)
        return out + state.latents * factor[..., None, None]

    def forward(
        self, latents: Tensor, sigma: Tensor, text: Tensor, clock: LatentClock | None = None,
        control: Control | None = None,
    ) -> Tensor:  # fmt: skip
        """Run the stream alone: latents [B, C, F, H, W] in, prediction of the same shape out."""
        return self.run(self.embed(latents, sigma, text, clock), control)

    def run(self, state: StreamState, control: Control | None = None) -> Tensor:
        """Blocks and head of what `embed` gave."""
        for index, block in enumerate(self.blocks):
            state = block.attend(state)
            if control is not None:
                state = state.with_x(control(index, state.x))
            state = block.feed_forward(state)
        return self.head(state)
