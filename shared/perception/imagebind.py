"""ImageBind (Girdhar et al., arXiv 2305.05665): videos, sounds and texts in one space of 1024 values.

Names and shapes of its weights are those of the public `imagebind_huge.pth`, without those of depth, thermal pictures
and motion: `modality_trunks.vision.blocks.0.attn.in_proj_weight`, ..., `modality_heads.audio.2.weight`; 1,073,097,730
values. The public weights and code are CC BY-NC-SA 4.0, for no commercial use; no line of the code is here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.perception.synchformer import Mlp

EPS = 1e-6
FRAMES = 2  # of a video that is embedded; a picture counts as two alike
PATCH, SHIFT = 16, 10  # of a spectrogram, whose patches overlap
MOST_SCALE = 100.0


@dataclass(frozen=True)
class Tower:
    """Sizes of the transformer of one modality."""

    width: int
    blocks: int
    heads: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of the published network, `huge`; tests have smaller ones."""

    vision: Tower = Tower(1280, 32, 16)
    audio: Tower = Tower(768, 12, 12)
    text: Tower = Tower(1024, 24, 16)
    dimension: int = 1024  # of an embedding
    side: int = 224  # pixels of a frame
    patch: int = 14  # pixels of a frame's patch
    mels: int = 128
    steps: int = 204  # of a spectrogram
    words: int = 49408  # tokens that there are; the last one ends a text
    tokens: int = 77  # of a text, at most

    @property
    def sound_patches(self) -> int:
        """Patches of a spectrogram."""
        return ((self.mels - PATCH) // SHIFT + 1) * ((self.steps - PATCH) // SHIFT + 1)


class Block(nn.Module):
    """Attention, then the MLP, each after a norm. With `bias_kv` a learnt key and value stand behind all others."""

    def __init__(self, tower: Tower, bias_kv: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(tower.width, tower.heads, add_bias_kv=bias_kv, batch_first=True)
        self.norm_1, self.norm_2 = nn.LayerNorm(tower.width, EPS), nn.LayerNorm(tower.width, EPS)
        self.mlp = Mlp(tower.width)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens [B, N, D]; `mask` [N, N] is added to the attention's logits."""
        normed = self.norm_1(values)
        values = values + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return values + self.mlp(self.norm_2(values))


class Trunk(nn.Module):
    """Transformer of one modality."""

    def __init__(self, tower: Tower, bias_kv: bool = False, first_norm: bool = False) -> None:
        super().__init__()
        self.pre_transformer_layer = nn.Sequential(*[nn.LayerNorm(tower.width, EPS)] * first_norm)
        self.blocks = nn.ModuleList([Block(tower, bias_kv) for _ in range(tower.blocks)])

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        values = self.pre_transformer_layer(values)
        for block in self.blocks:
            values = block(values, mask)
        return values


class _Stem(nn.Module):
    """Makes tokens [B, patches, D] of patches, and keeps the convolution under the published name."""

    def __init__(self, proj: nn.Module, norm_layer: nn.Module) -> None:
        super().__init__()
        self.proj, self.norm_layer = proj, norm_layer

    def forward(self, values: Tensor) -> Tensor:
        return self.norm_layer(self.proj(values).flatten(2).transpose(1, 2))


class _Positions(nn.Module):
    """Keeps what is added to tokens under the published name."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, count, width))


class PatchTokens(nn.Module):
    """One additional token, then patches, all with their positions: [B, C, ...] -> [B, 1 + patches, D]."""

    def __init__(self, stem: _Stem, patches: int, width: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.rgbt_stem, self.pos_embedding_helper = stem, _Positions(1 + patches, width)

    def forward(self, values: Tensor) -> Tensor:
        tokens = self.rgbt_stem(values)
        first = self.cls_token.expand(len(tokens), -1, -1)
        return torch.cat([first, tokens], 1) + self.pos_embedding_helper.pos_embed

    @classmethod
    def of_videos(cls, sizes: Sizes) -> PatchTokens:
        """Make those of [B, 3, FRAMES, side, side]."""
        width, shape = sizes.vision.width, (FRAMES, sizes.patch, sizes.patch)
        convolution = nn.Conv3d(3, width, shape, shape, bias=False)
        stem = _Stem(nn.Sequential(nn.Identity(), convolution), nn.Identity())  # published as the second of two
        return cls(stem, (sizes.side // sizes.patch) ** 2, width)

    @classmethod
    def of_sounds(cls, sizes: Sizes) -> PatchTokens:
        """Make those of [B, 1, mels, steps]."""
        width = sizes.audio.width
        stem = _Stem(nn.Conv2d(1, width, PATCH, SHIFT, bias=False), nn.LayerNorm(width))
        return cls(stem, sizes.sound_patches, width)


class TextTokens(nn.Module):
    """Numbers of tokens [B, L] -> [B, L, D], with their positions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(sizes.words, sizes.text.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.tokens, sizes.text.width))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.token_embedding(numbers) + self.pos_embed[:, : numbers.shape[1]]


class _First(nn.Module):
    """First token: [B, N, D] -> [B, D]."""

    def forward(self, values: Tensor) -> Tensor:
        return values[:, 0]


class EndHead(nn.Module):
    """Embedding [B, D] of the token of each text [B, N, D] that stands at its end, `ends` [B]."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width, EPS), nn.Linear(width, dimension, bias=False))

    def forward(self, values: Tensor, ends: Tensor) -> Tensor:
        return self.proj(values[torch.arange(len(values), device=values.device), ends])


class _Unit(nn.Module):
    """Makes rows of length 1."""

    def forward(self, values: Tensor) -> Tensor:
        return functional.normalize(values, dim=-1)


class _Scale(nn.Module):
    """Multiplies by a scale, which changes no cosine."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, values: Tensor) -> Tensor:
        return self.log_logit_scale.exp().clamp(max=MOST_SCALE) * values


class ImageBind(nn.Module):
    """Embeds videos, sounds and texts, each of a length of its own: 1, 20 and the text's learnt scale."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        text, dimension = sizes.text.width, sizes.dimension

        def head(width: int) -> nn.Sequential:
            return nn.Sequential(nn.LayerNorm(width, EPS), _First(), nn.Linear(width, dimension, bias=False))

        self.modality_preprocessors = nn.ModuleDict(
            {"vision": PatchTokens.of_videos(sizes), "audio": PatchTokens.of_sounds(sizes), "text": TextTokens(sizes)}
        )
        self.modality_trunks = nn.ModuleDict(
            {
                "vision": Trunk(sizes.vision, first_norm=True),
                "audio": Trunk(sizes.audio, bias_kv=True),
                "text": Trunk(sizes.text),
            }
        )
        self.modality_heads = nn.ModuleDict(
            {"vision": head(sizes.vision.width), "audio": head(sizes.audio.width), "text": EndHead(text, dimension)}
        )
        scaled = {"audio": nn.Sequential(_Unit(), _Scale(20)), "text": nn.Sequential(_Unit(), _Scale(1 / 0.07))}
        self.modality_postprocessors = nn.ModuleDict({"vision": _Unit(), **scaled})

    def videos(self, videos: Tensor) -> Tensor:
        """Embed videos [B, 3, FRAMES, side, side], normalised as CLIP's pictures -> [B, D]."""
        return self._embed("vision", videos)

    def sounds(self, levels: Tensor) -> Tensor:
        """Embed spectrograms [B, 1, mels, steps] -> [B, D]."""
        return self._embed("audio", levels)

    def texts(self, numbers: Tensor) -> Tensor:
        """Embed texts [B, L], L of `tokens` at most, -> [B, D]. A text ends at its largest number; what follows is not
        read."""
        mask = nn.Transformer.generate_square_subsequent_mask(numbers.shape[1], numbers.device)
        tokens = self.modality_preprocessors["text"](numbers)
        values = self.modality_trunks["text"](tokens, mask.to(tokens.dtype))
        return self.modality_postprocessors["text"](self.modality_heads["text"](values, numbers.argmax(-1)))

    def _embed(self, modality: str, values: Tensor) -> Tensor:
        values = self.modality_trunks[modality](self.modality_preprocessors[modality](values))
        return self.modality_postprocessors[modality](self.modality_heads[modality](values))
