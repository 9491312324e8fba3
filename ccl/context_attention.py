"""CCA: attention over [learnable context tokens | partition of the other stream] (CCL paper, "CCA").

x <- x + W_o · softmax( q(LN x) · [k(P) ; R k(LN y)]ᵀ / √d ) · [v(P) ; v(LN y)]
with P the L learnable context tokens (LCT) of the block and R the rotation by the time between query and key. One
softmax over both parts, no gate; W_o starts at zero, so an untrained CCA leaves the streams as they were. The
partition is gathered, not masked: cost and memory follow F·s, never F·A.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn
from torch.nn.functional import pad

from ccl.tarp import Alignment
from shared.nn.attention import attend, products_are_faster
from shared.nn.norms import RMSNorm
from shared.nn.rope import Rotary, rotate

#: Keys and values of a stream for one block, [B, M, h, d] each, normalised and not rotated.
KeyValue = tuple[Tensor, Tensor]


class ContextAttention(nn.Module):
    """What both directions of CCA share: a stream of width `query_dim` reads one of width `context_dim`.

    `heads · head_dim` is the inner width (`cca_dim`). With no context tokens the partition is all there is to read.
    """

    context_tokens: Tensor
    read: Callable[..., Tensor]  # (x, key_value, **where): the update of x by context tokens and the other stream

    def __init__(
        self, query_dim: int, context_dim: int, heads: int, head_dim: int, context_tokens: int, eps: float = 1e-6
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads, self.head_dim, self.num_context_tokens = heads, head_dim, context_tokens
        self.reads_context_alone = context_tokens > 0  # at 0m
        self.norm_x = FP32LayerNorm(query_dim, eps, elementwise_affine=True)
        self.norm_y = FP32LayerNorm(context_dim, eps, elementwise_affine=True)
        self.to_q = nn.Linear(query_dim, inner)
        self.to_k = nn.Linear(context_dim, inner)
        self.to_v = nn.Linear(context_dim, inner)
        self.to_out = nn.Linear(inner, query_dim)
        self.norm_q = RMSNorm(inner, eps)
        self.norm_k = RMSNorm(inner, eps)
        context = torch.randn(context_tokens, context_dim) * 0.02
        if context_tokens:
            self.context_tokens = nn.Parameter(context)
        else:  # an empty parameter is nothing to learn, or to save
            self.register_buffer("context_tokens", context, persistent=False)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def _key_value(self, tokens: Tensor) -> KeyValue:
        k = self.norm_k(self.to_k(tokens)).unflatten(-1, (self.heads, -1))
        return k, self.to_v(tokens).unflatten(-1, (self.heads, -1))

    def key_value(self, y: Tensor) -> KeyValue:
        """Keys and values of the other stream's hidden states y [B, M, context_dim]; cached where y is clean."""
        return self._key_value(self.norm_y(y))

    def queries(self, x: Tensor) -> Tensor:
        """[B, N, h, d] from x [B, N, query_dim]."""
        return self.norm_q(self.to_q(self.norm_x(x))).unflatten(-1, (self.heads, -1))

    def forward(self, x: Tensor, key_value: KeyValue | None = None, **where: Any) -> Tensor:
        """Make the update of x [B, N, query_dim]: `read`, or without keys and values that by the context tokens only.

        Both ways, since ZeRO-3 gathers the context tokens for as long as this method runs.
        """
        if key_value is not None:
            return self.read(x, key_value, **where)
        k, v = (part.expand(len(x), -1, -1, -1) for part in self._key_value(self.context_tokens))
        return self.to_out(attend(self.queries(x), k, v).flatten(-2))

    def unconditional(self, x: Tensor) -> Tensor:
        """Make the update of x [B, N, query_dim] by the context tokens only (0m); without any, or where the model says
        so (`unconditional: zero`), it is a scalar 0."""
        return self(x) if self.reads_context_alone else x.new_zeros(())

    def _attend_groups(self, plain: Tensor, turned: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let groups of queries [B, F, G, h, d] read context tokens unturned, and keys [B, F, S, h, d] turned.

        So the context tokens' logits depend on content alone. A fused kernel knows one query only: it is given both,
        side by side, each with zeros where the keys are the other's. On a CPU the products themselves are faster.
        """
        context = self._key_value(self.context_tokens)
        if not products_are_faster(plain):
            return self._attend_doubled(plain, turned, (k, v), context)
        context_k, context_v = context
        logits = torch.cat(
            [torch.einsum("bfghd,lhd->bfhgl", plain, context_k), torch.einsum("bfghd,bfshd->bfhgs", turned, k)], dim=-1
        )
        weights = (logits.float() / plain.shape[-1] ** 0.5).softmax(-1).type_as(v)
        of_context, other = weights.split([len(context_k), k.shape[2]], dim=-1)
        return torch.einsum("bfhgl,lhd->bfghd", of_context, context_v) + torch.einsum("bfhgs,bfshd->bfghd", other, v)

    @staticmethod
    def _attend_doubled(plain: Tensor, turned: Tensor, key_value: KeyValue, context: KeyValue) -> Tensor:
        """`_attend_groups` on the active backend: (q_turned, q_plain) · (k, 0) or (0, k_context), values (v, 0)."""
        batch, width = plain.shape[:2], plain.shape[-1]
        (k, v), (context_k, context_v) = (part.flatten(0, 1) for part in key_value), context
        context_k, context_v = (part.expand(len(k), -1, -1, -1) for part in (context_k, context_v))
        keys = torch.cat([pad(context_k, (width, 0)), pad(k, (0, width))], dim=1)
        values = pad(torch.cat([context_v, v], dim=1), (0, width))
        queries = torch.cat([turned, plain], dim=-1).flatten(0, 1)
        return attend(queries, keys, values, scale=width**-0.5)[..., :width].unflatten(0, batch)


class VideoContextAttention(ContextAttention):
    """The video reads the audio: a frame's tokens read context tokens and the frame's window of audio tokens."""

    def read(self, x: Tensor, key_value: KeyValue, *, alignment: Alignment, rotary: Rotary) -> Tensor:
        """Make the update of video x [B, F·S, D] by context tokens and each frame's audio window [B, A, h, d].

        `rotary` turns the gathered keys by p_j − i, [F, s]; the queries of a frame stand at 0. The context tokens stand
        before the window in one softmax.
        """
        frames = len(alignment.window)
        q = self.queries(x).unflatten(1, (frames, -1)).flatten(0, 1)
        k, v = (part[:, alignment.window] for part in key_value)
        k = rotate(k, rotary)
        k, v = (
            torch.cat([context.expand(len(q), -1, -1, -1), window.flatten(0, 1)], dim=1)
            for context, window in zip(self._key_value(self.context_tokens), (k, v), strict=True)
        )
        return self.to_out(attend(q, k, v).flatten(-2).view(*x.shape[:2], -1))


class AudioContextAttention(ContextAttention):
    """The audio reads the video: an audio token reads context tokens and the video tokens of one frame."""

    def read(
        self, x: Tensor, key_value: KeyValue, *, alignment: Alignment, rotary: Rotary, frames: slice | None = None
    ) -> Tensor:
        """Make the update of audio x [B, A, D] by context tokens and one frame's S video tokens, [B, F·S, h, d].

        `rotary` turns the queries by p_j − i, [A]; the keys of the frame stand at 0. `frames`: those that the groups of
        the alignment are of; None: all.
        """
        q = self.queries(x)
        turned, plain = (part[:, alignment.groups] for part in (rotate(q, rotary), q))
        k, v = (part.unflatten(1, (len(alignment.window), -1)) for part in key_value)
        if frames is not None:
            k, v = k[:, frames], v[:, frames]
        out = self._attend_groups(plain, turned, k, v)
        return self.to_out(out.flatten(3).flatten(1, 2)[:, alignment.slot])
