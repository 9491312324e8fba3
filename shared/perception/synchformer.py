"""Synchformer (Iashin et al., arXiv 2401.16423): by how much the sound of a video is late, as one of 21 offsets.

Names and shapes of its weights are those of the public `synchformer_state_dict.pth` (16 frames a segment, offsets of
-2 to 2 s): `vfeat_extractor.blocks.0.timeattn.qkv.weight`, ..., `transformer.off_head.bias`; 237,460,245 parameters.
Segments of 0.64 s go through a video transformer whose attention is divided into time and space (Motionformer's code)
and an audio spectrogram transformer; a small transformer reads both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

OFFSETS, MOST_OFFSET = 21, 2.0  # classes, evenly spread over -2 to 2 s
PATCH, SHIFT = 16, 10  # pixels of a patch of a frame, and of a spectrogram, whose patches overlap


@dataclass(frozen=True)
class Sizes:
    """Sizes of the published network; tests have smaller ones."""

    width: int = 768
    heads: int = 12
    depth: int = 12
    joint_depth: int = 3
    joint_heads: int = 8
    side: int = 224  # pixels of a frame
    frames: int = 16  # of a segment; two make a token
    mels: int = 128
    steps: int = 66  # of a segment's spectrogram
    segments: int = 14

    @property
    def sound_grid(self) -> tuple[int, int]:
        """Patches of a spectrogram over mels and time."""
        return (self.mels - PATCH) // SHIFT + 1, (self.steps - PATCH) // SHIFT + 1


def attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Attention [..., Q, D], [..., K, D] -> [..., Q, D]."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(-2, -3) for part in (queries, keys, values))
    return functional.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)


class DividedAttention(nn.Module):
    """Attention among the tokens of one frame or of one place. The first token reads all tokens, and all read it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, values: Tensor, frames: int, over_time: bool) -> Tensor:
        """Tokens [B, 1 + frames * P, D]."""
        parts = self.qkv(values).chunk(3, -1)
        first = attention(parts[0][:, :1], parts[1], parts[2], self.heads)
        grids = [part[:, 1:].unflatten(1, (frames, -1)) for part in parts]  # [B, F, P, D]
        q, k, v = (grid.transpose(1, 2) for grid in grids) if over_time else grids
        k, v = (
            torch.cat([part[:, None, :1].expand(-1, grid.shape[1], -1, -1), grid], 2)
            for part, grid in ((parts[1], k), (parts[2], v))
        )
        each = attention(q, k, v, self.heads)
        each = each.transpose(1, 2) if over_time else each
        return self.proj(torch.cat([first, each.flatten(1, 2)], 1))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, values: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(values)))


class DividedBlock(nn.Module):
    """Attention over time, then over space, then the MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, 1e-6) for _ in range(3))
        self.attn, self.timeattn = DividedAttention(width, heads), DividedAttention(width, heads)
        self.mlp = Mlp(width)

    def forward(self, values: Tensor, frames: int) -> Tensor:
        values = values + self.timeattn(self.norm3(values), frames, True)
        values = values + self.attn(self.norm1(values), frames, False)
        return values + self.mlp(self.norm2(values))


class Pool(nn.TransformerEncoderLayer):
    """One layer whose additional token becomes the sum of a sequence: [B, N, D] -> [B, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, 4 * width, 0.0, nn.GELU(), 1e-6, batch_first=True, norm_first=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, values: Tensor) -> Tensor:  # type: ignore[override]  # it takes no mask
        return super().forward(torch.cat([self.cls_token.expand(len(values), -1, -1), values], 1))[:, 0]


class _Projection(nn.Module):
    """Keeps a convolution under the published name."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.proj = convolution


class VideoSegments(nn.Module):
    """Segments [B, 3, frames, side, side] in [-1, 1] -> [B, frames / 2, D]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, places, self.times = sizes.width, (sizes.side // PATCH) ** 2, sizes.frames // 2
        flat, deep = (PATCH, PATCH), (2, PATCH, PATCH)
        self.patch_embed = _Projection(nn.Conv2d(3, width, flat, flat))  # published, and never used
        self.patch_embed_3d = _Projection(nn.Conv3d(3, width, deep, deep))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, places + 1, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, self.times, width))
        self.blocks = nn.ModuleList([DividedBlock(width, sizes.heads) for _ in range(sizes.depth)])
        self.norm = nn.LayerNorm(width, 1e-6)
        self.spatial_attn_agg = Pool(width, sizes.heads)

    def forward(self, videos: Tensor) -> Tensor:
        tokens = self.patch_embed_3d.proj(videos).flatten(3).permute(0, 2, 3, 1)  # [B, T, P, D]
        tokens = (tokens + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]).flatten(1, 2)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        values = torch.cat([first, tokens], 1)
        for block in self.blocks:
            values = block(values, self.times)
        grid = self.norm(values[:, 1:]).unflatten(1, (self.times, -1))
        return self.spatial_attn_agg(grid.flatten(0, 1)).unflatten(0, (-1, self.times))


class _Dense(nn.Module):
    """Keeps a linear layer under the published name."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class _Heads(nn.Module):
    """Keeps the inputs of an attention under the published names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class _SoundAttention(nn.Module):
    """Keeps an attention under the published names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention, self.output = _Heads(width), _Dense(width, width)


class SoundBlock(nn.Module):
    """Layer of a vision transformer, under the names that transformers had for it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)
        self.attention = _SoundAttention(width)
        self.intermediate, self.output = _Dense(width, 4 * width), _Dense(4 * width, width)

    def forward(self, values: Tensor) -> Tensor:
        normed, parts = self.layernorm_before(values), self.attention.attention
        read = attention(parts.query(normed), parts.key(normed), parts.value(normed), self.heads)
        values = values + self.attention.output.dense(read)
        inner = functional.gelu(self.intermediate.dense(self.layernorm_after(values)))
        return values + self.output.dense(inner)


class _Patches(nn.Module):
    """Keeps the patches' convolution under the published name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(1, width, PATCH, SHIFT)


class _SoundEmbeddings(nn.Module):
    """Two additional tokens, then patches, all with their positions: [B, mels, steps] -> [B, 2 + patches, D]."""

    def __init__(self, width: int, patches: int) -> None:
        super().__init__()
        self.cls_token, self.distillation_token = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.position_embeddings = nn.Parameter(torch.zeros(1, patches + 2, width))
        self.patch_embeddings = _Patches(width)

    def forward(self, levels: Tensor) -> Tensor:
        tokens = self.patch_embeddings.projection(levels[:, None]).flatten(2).transpose(1, 2)
        first = [token.expand(len(tokens), -1, -1) for token in (self.cls_token, self.distillation_token)]
        return torch.cat([*first, tokens], 1) + self.position_embeddings


class _SoundEncoder(nn.Module):
    """Keeps the layers under the published name."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(SoundBlock(sizes.width, sizes.heads) for _ in range(sizes.depth)))


class SoundTransformer(nn.Module):
    """Spectrograms [B, mels, steps] -> tokens [B, 2 + patches, D], those of one mel beside each other."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        bands, times = sizes.sound_grid
        self.embeddings, self.encoder = _SoundEmbeddings(sizes.width, bands * times), _SoundEncoder(sizes)
        self.layernorm = nn.LayerNorm(sizes.width, 1e-12)

    def forward(self, levels: Tensor) -> Tensor:
        return self.layernorm(self.encoder.layer(self.embeddings(levels)))


class SoundSegments(nn.Module):
    """Spectrograms of segments [B, mels, steps] -> [B, times, D]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.grid = sizes.sound_grid
        self.ast, self.freq_attn_agg = SoundTransformer(sizes), Pool(sizes.width, sizes.heads)

    def forward(self, levels: Tensor) -> Tensor:
        grid = self.ast(levels)[:, 2:].unflatten(1, self.grid).transpose(1, 2)  # [B, times, bands, D]
        return self.freq_attn_agg(grid.flatten(0, 1)).unflatten(0, (-1, self.grid[1]))


class _JointAttention(nn.Module):
    """Keeps an attention under the published names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))


class _Positions(nn.Module):
    """Keeps what is added to tokens under the published name."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.zeros(1, count, width))


class JointBlock(nn.Module):
    """Layer of the transformer that reads both streams."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), _JointAttention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, values: Tensor) -> Tensor:
        normed, parts = self.ln1(values), self.attn
        read = attention(parts.query(normed), parts.key(normed), parts.value(normed), self.heads)
        values = values + parts.proj(read)
        return values + self.mlp(self.ln2(values))


class JointTransformer(nn.Module):
    """Tokens of the video [B, N, D] and of the sound [B, M, D] -> logits of the offsets [B, OFFSETS]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        count = 2 + sizes.segments * (sizes.frames // 2 + sizes.sound_grid[1])
        self.vis_in_lnorm, self.aud_in_lnorm, self.ln_f = (nn.LayerNorm(width) for _ in range(3))
        self.OFF_tok, self.MOD_tok = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.pos_emb_cfg = _Positions(count, width)
        self.blocks = nn.Sequential(*(JointBlock(width, sizes.joint_heads) for _ in range(sizes.joint_depth)))
        self.off_head = nn.Linear(width, OFFSETS)

    def forward(self, video: Tensor, sound: Tensor) -> Tensor:
        first, between = (token.expand(len(video), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        values = torch.cat([first, self.vis_in_lnorm(video), between, self.aud_in_lnorm(sound)], 1)
        values = self.ln_f(self.blocks(values + self.pos_emb_cfg.pos_emb))
        return self.off_head(values[:, 0])


class Synchformer(nn.Module):
    """Segments of a video [S, 3, frames, side, side] in [-1, 1] and spectrograms of their sound [S, mels, steps] ->
    tokens; `compare` gives the logits of the offsets for as many segments as it was trained with."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        self.vfeat_extractor, self.afeat_extractor = VideoSegments(sizes), SoundSegments(sizes)
        self.vproj, self.aproj = (nn.Linear(sizes.width, sizes.width) for _ in range(2))
        self.transformer = JointTransformer(sizes)

    def compare(self, video: Tensor, sound: Tensor) -> Tensor:
        """Logits of the offsets [B, OFFSETS] of tokens [B, S, t, D] of S segments."""
        return self.transformer(self.vproj(video.flatten(1, 2)), self.aproj(sound.flatten(1, 2)))
