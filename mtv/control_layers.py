"""Building blocks of the MST-ControlNet: track encoder, interaction block, injections (MTV, arXiv 2506.08003).

An *interval* is what one latent frame of the video lasts. Tokens of intervals are [B, F, M, d], M in each of F. Every
attention here stays inside one interval: F is folded into the batch, nothing is masked by time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.controlnets.controlnet import zero_module
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.normalization import FP32LayerNorm
from einops import rearrange
from torch import Tensor, nn

from shared.nn.attention import attend
from shared.nn.dit import modules
from shared.nn.norms import RMSNorm

TIME_CHANNELS, EPS, LEAST_STD = 256, 1e-6, 0.02


def attend_interval(q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
    """Attention within each interval: q [B·F, N, h, d], k and v [B·F, M, h, d] -> [B·F, N, h·d].

    `keys` [B, M] is True where a token is there at all (False: an absent speaker's).
    """
    if keys is not None:
        keys = keys.repeat_interleave(len(q) // len(keys), dim=0)
    return attend(q, k, v, keys=keys).flatten(-2)


class TrackEncoder(nn.Module):
    """Features of one track -> n tokens per latent frame (MTV: "a stack of linear layers", then pooling in time).

    `size` is (window, layers, width) of a video frame's features, `stride` r of the codec's causal clock: latent 0 is
    frame 0, latent i >= 1 its r frames. The pooling is a convolution over time of kernel and stride r on each token
    alone (r·dim² weights), held as one linear layer. `null` [n, dim] is the learned "track unknown"; silence is zero
    features. Features are seen standardised (`standardise`).
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, size: Sequence[int], hidden: int, tokens: int, dim: int, stride: int) -> None:
        super().__init__()
        self.size, self.tokens, self.stride = tuple(size), tokens, stride
        first, second, gelu = nn.Linear(math.prod(size), hidden), nn.Linear(hidden, hidden), nn.GELU(approximate="tanh")
        self.stack = nn.Sequential(first, gelu, second, gelu, nn.Linear(hidden, tokens * dim))
        self.pool = nn.Linear(stride * dim, dim)
        self.norm = FP32LayerNorm(dim, EPS)
        self.null = nn.Parameter(torch.randn(tokens, dim))
        self.register_buffer("feature_mean", torch.zeros(math.prod(size)))
        self.register_buffer("feature_std", torch.ones(math.prod(size)))

    def standardise(self, clips: Sequence[Tensor]) -> None:
        """Take mean and deviation over frames of clips [T, ...], which keeps quiet music alive (docs/mtv.md)."""
        total, squares, count = torch.zeros(()), torch.zeros(()), 0
        for clip in clips:  # one by one: all of them in float64 may be gigabytes
            rows = clip.flatten(1).double()
            total, squares, count = total + rows.sum(0), squares + rows.square().sum(0), count + len(rows)
        mean = total / count
        self.feature_mean.copy_(mean)
        self.feature_std.copy_((squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=LEAST_STD))

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, window, layers, width] -> [B, F, n, dim], F = 1 + ceil((T−1)/r). ValueError for another size."""
        if features.ndim != 5 or features.shape[2:] != self.size:
            raise ValueError(f"features must be [B, T, {', '.join(map(str, self.size))}], not {list(features.shape)}")
        values = ((features.flatten(2) - self.feature_mean) / self.feature_std).to(self.null.dtype)
        frames = self.stack(values).unflatten(-1, (self.tokens, -1))
        # frame 0 fills its latent alone, and so does what is left of the last one
        first = frames[:, :1].expand(-1, self.stride - 1, -1, -1)
        last = frames[:, -1:].expand(-1, (1 - frames.shape[1]) % self.stride, -1, -1)
        grouped = rearrange(torch.cat([first, frames, last], dim=1), "b (f r) n d -> b f n (r d)", r=self.stride)
        return self.norm(self.pool(grouped))

    def dropped(self, tokens: Tensor, drop: Tensor) -> Tensor:
        """Tokens [B, F, n, d] with the null where `drop` [B] is True."""
        return torch.where(drop[:, None, None, None], self.null.type_as(tokens), tokens)


class SelfAttention(nn.Module):
    """Self-attention among the tokens of each interval: [B, F, M, d] -> the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.norm_q, self.norm_k = RMSNorm(dim, EPS), RMSNorm(dim, EPS)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, keys: Tensor | None) -> Tensor:
        q, k, v = self.to_qkv(tokens.flatten(0, 1)).chunk(3, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (self.norm_q(q), self.norm_k(k), v))
        return self.to_out(attend_interval(q, k, v, keys)).view_as(tokens)


class InteractionBlock(nn.Module):
    """One interval interaction block: attention over all tracks of an interval, AdaLN, gate and FFN per track.

    Shift and scale start at 0, the gates at 1: untrained it is a pre-norm transformer block that knows no noise level.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int, tracks: Sequence[str]) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads)
        self.norm = FP32LayerNorm(dim, EPS, elementwise_affine=False)
        self.modulation = nn.ModuleDict({track: zero_module(nn.Linear(dim, 6 * dim)) for track in tracks})
        gelu = "gelu-approximate"
        self.ffn = nn.ModuleDict({track: FeedForward(dim, inner_dim=ffn_dim, activation_fn=gelu) for track in tracks})

    def forward(self, tokens: Mapping[str, Tensor], time: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        """Tokens of each track [B, F, M_t, d], time embedding [B, T, d] with T = 1 or F, keys [B, sum of M_t]."""
        changes = {name: self.modulation[name](time)[:, :, None].chunk(6, dim=-1) for name in tokens}
        normed = [self.norm(x) * (1 + changes[name][1]) + changes[name][0] for name, x in tokens.items()]
        attended = self.attention(torch.cat(normed, dim=2), keys).split([x.shape[2] for x in normed], dim=2)
        out = {}
        for (name, x), update in zip(tokens.items(), attended, strict=True):
            _, _, gate, shift, scale, ffn_gate = changes[name]
            x = x + (1 + gate) * update
            out[name] = x + (1 + ffn_gate) * self.ffn[name](self.norm(x) * (1 + scale) + shift)
        return out


class IntervalStream(nn.Module):
    """The interval interaction blocks: the tracks of an interval learn of each other and of the noise level."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, blocks: int, tracks: Sequence[str]) -> None:
        super().__init__()
        self.time_proj = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedder = TimestepEmbedding(TIME_CHANNELS, dim)
        self.blocks = modules(InteractionBlock(dim, heads, ffn_dim, tracks) for _ in range(blocks))
        self.norm_out = nn.ModuleDict({track: FP32LayerNorm(dim, EPS) for track in tracks})

    def forward(self, tokens: Mapping[str, Tensor], sigma: Tensor, keys: Tensor | None) -> dict[str, Tensor]:
        """Tokens of each track [B, F, M_t, d] at noise level sigma [B] or [B, F], 0 clean .. 1 noise."""
        sigma = sigma if sigma.ndim == 2 else sigma[:, None]
        waves = self.time_proj(sigma.flatten() * 1000.0).to(self.time_embedder.linear_1.weight.dtype)
        time = nn.functional.silu(self.time_embedder(waves)).unflatten(0, tuple(sigma.shape))
        result = dict(tokens)
        for block in self.blocks:
            result = block(result, time.type_as(next(iter(result.values()))), keys)
        return {name: self.norm_out[name](x) for name, x in result.items()}


@dataclass(frozen=True)
class TrackTokens:
    """Tokens [B, F, M, d] that one cross-attention reads in each interval.

    `weight` [B], 0 or 1, is on the result, for a speaker who is not in every sample; `keys` [B, M] tells where a token
    is there. None: all ones, all there.
    """

    tokens: Tensor
    weight: Tensor | None = None
    keys: Tensor | None = None


class CrossAttention(nn.Module):
    """Frame tokens read an interval's tokens, at the backbone's width D; the output projection starts at zero.

    It has no bias: the results of several speakers are summed before it, and an absent one must add nothing.
    """

    def __init__(self, query_dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(query_dim, query_dim)
        self.to_k, self.to_v = nn.Linear(context_dim, query_dim), nn.Linear(context_dim, query_dim)
        self.to_out = zero_module(nn.Linear(query_dim, query_dim, bias=False))
        self.norm_q, self.norm_k = RMSNorm(query_dim, EPS), RMSNorm(query_dim, EPS)

    def forward(self, x: Tensor, sources: Sequence[TrackTokens]) -> Tensor:
        """Sum CA(x, source): x [B·F, S, D] normalised -> the same; queries and output are projected once for all."""
        q, total = self.norm_q(self.to_q(x)).unflatten(-1, (self.heads, -1)), torch.zeros_like(x)
        for source in sources:
            tokens = source.tokens.flatten(0, 1)
            k, v = (y.unflatten(-1, (self.heads, -1)) for y in (self.norm_k(self.to_k(tokens)), self.to_v(tokens)))
            read = attend_interval(q, k, v, source.keys)
            if source.weight is not None:
                read = read * source.weight.repeat_interleave(source.tokens.shape[1])[:, None, None].type_as(read)
            total = total + read
        return self.to_out(total)


class IntervalInjection(nn.Module):
    """h_i <- h_i + Σ_k CA(h_i, speech_ik) + CA(h_i, effects_i) in one block (MTV Eq. 2): frame i reads interval i."""

    def __init__(self, query_dim: int, context_dim: int, heads: int, readers: Sequence[str]) -> None:
        super().__init__()
        self.norm = FP32LayerNorm(query_dim, EPS)
        self.attentions = nn.ModuleDict({name: CrossAttention(query_dim, context_dim, heads) for name in readers})

    def forward(self, x: Tensor, sources: Mapping[str, Sequence[TrackTokens]]) -> Tensor:
        """Hidden states x [B, F·S, D], frame-major; `sources` by reader."""
        frames = next(iter(sources.values()))[0].tokens.shape[1]
        queries = self.norm(x).unflatten(1, (frames, -1)).flatten(0, 1)
        for name, read in sources.items():
            x = x + self.attentions[name](queries, read).view_as(x)
        return x


def normed_gelu(dim: int) -> nn.Module:
    """LayerNorm over the width, then GELU: a bare one is soon zero for all (docs/mtv.md, "What keeps music alive")."""
    return nn.Sequential(FP32LayerNorm(dim, EPS, elementwise_affine=False), nn.GELU(approximate="tanh"))


class HolisticStream(nn.Module):
    """Music tokens [B, F, n, d] -> a normed vector [B, d]: three linear layers, one 1-D convolution, mean over time."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        first, second = nn.Linear(tokens * dim, dim), nn.Linear(dim, dim)
        self.inward = nn.Sequential(first, normed_gelu(dim), second, normed_gelu(dim))
        self.conv = nn.Conv1d(dim, dim, 3, padding=1, padding_mode="replicate")
        self.outward = nn.Sequential(normed_gelu(dim), nn.Linear(dim, dim))
        self.norm_out = FP32LayerNorm(dim, EPS)

    def forward(self, music: Tensor) -> Tensor:
        through_time = self.conv(self.inward(music.flatten(2)).transpose(1, 2)).transpose(1, 2)
        return self.norm_out(self.outward(through_time).mean(1))


class HolisticInjection(nn.Module):
    """h <- h·(γ+1) + β in one block (MTV Eq. 3); γ and β, one vector per clip, start at zero."""

    def __init__(self, query_dim: int, context_dim: int) -> None:
        super().__init__()
        self.to_style = zero_module(nn.Linear(context_dim, 2 * query_dim))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gamma, beta = self.to_style(style)[:, None].chunk(2, dim=-1)
        return x * (gamma + 1) + beta
