"""The control network of MTV's public weights (baaivision/MTVCraft), beside ours and behind the same hook.

It differs from `mtv.control` in its arithmetic, so that its weights need a network of their own (docs/mtv.md, "The
public weights"). Parameters have the public names, without the prefix. It works with one backbone alone, that of the
same weights: interaction blocks are modulated by the backbone's time embedding, and the injections take queries and
keys through the norms of the block's own attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from mtv.control import TRACKS, EncodedTracks, TrackFeatures
from shared.nn.attention import attend
from shared.nn.dit import modules
from shared.nn.memory_alignment import AlignedModelMixin
from shared.utils.errors import UserError

EPS, MOST_SPEAKERS = 1e-5, 2
#: Ends of the public names of a speaker's, or of the effects', part of an injection.
SUFFIXES = {"speech": "", "speech2": "_second", "effects": "_effect"}


class TrackProjection(nn.Module):
    """Features of one track -> n tokens per latent: three linear layers with ReLU, then twice the same convolution over
    time (kernel and stride 2, across all tokens of a frame), which the first frame passes by, and a LayerNorm."""

    def __init__(self, values: int, hidden: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj1, self.proj2 = nn.Linear(values, hidden), nn.Linear(hidden, hidden)
        self.proj3 = nn.Linear(hidden, tokens * dim)
        self.norm = FP32LayerNorm(dim, EPS)
        self.conv1 = nn.Conv1d(tokens * dim, tokens * dim, 2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, window, layers, width] -> [B, F, n, dim], F = 1 + ceil((T−1)/4): what is left of the last latent is
        filled by repeating its last frame."""
        features = features.flatten(2)
        filled = pad(features.transpose(1, 2), (0, (1 - features.shape[1]) % 4), mode="replicate").transpose(1, 2)
        hidden = self.proj2(self.proj1(filled.to(self.norm.weight.dtype)).relu()).relu()
        x = self.proj3(hidden).transpose(1, 2)
        for _ in range(2 if x.shape[2] > 1 else 0):
            x = torch.cat([x[..., :1], self.conv1(x[..., 1:])], dim=2)
        return self.norm(x.transpose(1, 2).unflatten(-1, (self.tokens, -1)))


class IntervalAttention(nn.Module):
    """Self-attention among the tokens of an interval [B, M, d], with the public names; no norm of queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value, self.dense = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in self.query_key_value(tokens).chunk(3, dim=-1))
        return self.dense(attend(q, k, v).flatten(-2))


class IntervalFeedForward(nn.Module):
    """Two linear layers around a GELU (tanh), with the public names."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.dense_h_to_4h, self.dense_4h_to_h = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dense_4h_to_h(gelu(self.dense_h_to_4h(tokens), approximate="tanh"))


class DualBlock(nn.Module):
    """One interaction block: attention over speech and effects of an interval, AdaLN per track, one feed-forward part.

    Every speaker has the norm and the modulation of speech. A gate is the factor itself, not what is added to 1.
    """

    def __init__(self, dim: int, heads: int, time_dim: int) -> None:
        super().__init__()
        self.vocal_layernorm, self.accm_layernorm = FP32LayerNorm(dim, EPS), FP32LayerNorm(dim, EPS)
        self.post_attention_layernorm = FP32LayerNorm(dim, EPS)
        self.adaLN_modulations = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, 12 * dim))
        self.attention = IntervalAttention(dim, heads)
        self.mlp = IntervalFeedForward(dim, 4 * dim)

    def forward(self, tracks: Sequence[Tensor], time: Tensor) -> list[Tensor]:
        """Tokens [B·F, n, d] of the speakers, then of the effects; the backbone's time embedding [B, time_dim]."""
        changes = self.adaLN_modulations(time).repeat_interleave(len(tracks[0]) // len(time), dim=0)[:, None]
        speech, effects = (part.chunk(6, dim=-1) for part in changes.chunk(2, dim=-1))
        of_track = [*[(self.vocal_layernorm, speech)] * (len(tracks) - 1), (self.accm_layernorm, effects)]
        normed = [norm(x) * (1 + c[1]) + c[0] for x, (norm, c) in zip(tracks, of_track, strict=True)]
        attended = self._together(self.attention, normed)
        tracks = [x + c[2] * new for x, new, (_, c) in zip(tracks, attended, of_track, strict=True)]
        normed = [
            self.post_attention_layernorm(x) * (1 + c[4]) + c[3] for x, (_, c) in zip(tracks, of_track, strict=True)
        ]
        fed = self._together(self.mlp, normed)
        return [x + c[5] * new for x, new, (_, c) in zip(tracks, fed, of_track, strict=True)]

    @staticmethod
    def _together(layer: nn.Module, tracks: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return layer(torch.cat(list(tracks), dim=1)).split([x.shape[1] for x in tracks], dim=1)


class DualBlocks(nn.Module):
    """The interaction blocks, with the public name of their list."""

    def __init__(self, count: int, dim: int, heads: int, time_dim: int) -> None:
        super().__init__()
        self.dual_blocks = modules(DualBlock(dim, heads, time_dim) for _ in range(count))

    def forward(self, tracks: Sequence[Tensor], time: Tensor) -> list[Tensor]:
        for block in self.dual_blocks:
            tracks = block(tracks, time)
        return list(tracks)


class AudioAttention(nn.Module):
    """Frame tokens read an interval's tokens, through the norms of the block's own attention."""

    def __init__(self, query_dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(query_dim, query_dim), nn.Linear(context_dim, 2 * query_dim)
        self.dense = nn.Linear(query_dim, query_dim)

    def forward(self, x: Tensor, tokens: Tensor, own: Any, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Read tokens [B·F, n, d] by normed states x [B·F, S, D]; `own` has norm_q and norm_k of a head's values.

        `rotation`, (cos, sin) of the S tokens of the first frame, turns queries of every frame; keys are not turned.
        """
        q, (k, v) = self.query(x), self.key_value(tokens).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        q, k = own.norm_q(q), own.norm_k(k)
        if rotation is not None:
            q = apply_rotary_emb(q, rotation, sequence_dim=1)
        return self.dense(attend(q, k, v).flatten(-2))


class InjectionLayer(nn.Module):
    """What acts in one block of the backbone: a norm and an attention for each reader, and a style by the music.

    h <- h + Σ CA(norm(h), tokens) over speakers and effects, then h <- h (1 + scale) + shift.
    """

    def __init__(self, query_dim: int, context_dim: int, heads: int, readers: Sequence[str]) -> None:
        super().__init__()
        for name in readers:
            end = SUFFIXES[name]
            self.add_module(f"audio_input_layernorm{end}", FP32LayerNorm(query_dim, EPS))
            self.add_module(f"audio_attn{end}", AudioAttention(query_dim, context_dim, heads))
        self.audio_music_adaLn = nn.Linear(context_dim, 2 * query_dim)
        nn.init.zeros_(self.audio_music_adaLn.weight)
        nn.init.zeros_(self.audio_music_adaLn.bias)

    def forward(
        self, x: Tensor, sources: Mapping[str, Tensor], style: Tensor, own: Any, rotation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Hidden states x [B, F·S, D] frame-major; `sources` by reader [B·F, n, d]; `style` [B, d]."""
        changed, frames = x, next(iter(sources.values())).shape[0] // len(x)
        for name, tokens in sources.items():
            end = SUFFIXES[name]
            norm, attention = getattr(self, f"audio_input_layernorm{end}"), getattr(self, f"audio_attn{end}")
            queries = norm(x).unflatten(1, (frames, -1)).flatten(0, 1)
            changed = changed + attention(queries, tokens, own, rotation).view_as(x)
        scale, shift = self.audio_music_adaLn(style)[:, None].chunk(2, dim=-1)
        return changed * (1 + scale) + shift


class MTVCraftControl(AlignedModelMixin, ModelMixin, ConfigMixin):
    """The public MST-ControlNet, for the CogVideoX of the same weights; a null of all tracks together is zero features.

    Args:
        backbone_dim, backbone_heads, num_blocks, time_dim: width, attention heads, depth and width of the time
            embedding of the backbone.
        features: values of a video frame's features, window x layers x width. hidden_dim: width of the linear layers.
        token_dim, tokens: d, and n tokens per track and latent. interaction_blocks, heads: and their attention heads.
        speakers: 1, or 2 in the weights for two people, which have an attention and a vector of their own for each.

    ValueError for sizes that do not fit.
    """

    _no_split_modules = ["DualBlock", "InjectionLayer"]  # noqa: RUF012
    _skip_layerwise_casting_patterns = ["norm"]  # noqa: RUF012
    #: It knows all tracks, or none of them: what guidance may compare with (`mtv.guidance`).
    drops_together = True
    #: Frames of the codec's causal clock that one latent has.
    temporal_stride = 4

    @register_to_config
    def __init__(
        self,
        backbone_dim: int = 3072,
        backbone_heads: int = 48,
        num_blocks: int = 42,
        time_dim: int = 512,
        features: int = 5 * 12 * 768,
        hidden_dim: int = 512,
        token_dim: int = 768,
        tokens: int = 32,
        interaction_blocks: int = 4,
        heads: int = 48,
        speakers: int = 1,
    ) -> None:
        super().__init__()
        if backbone_dim % backbone_heads or token_dim % heads:
            told = f"{backbone_heads} of {backbone_dim}, {heads} of {token_dim}"
            raise ValueError(f"heads must divide their width: {told}")
        if speakers not in (1, MOST_SPEAKERS):
            raise ValueError(f"speakers is {speakers}; the public weights are for 1 or {MOST_SPEAKERS}")
        sizes = (features, hidden_dim, tokens, token_dim)
        self.audio_proj, self.audio_proj_effect, self.audio_proj_music = (TrackProjection(*sizes) for _ in range(3))
        self.audio_combine = DualBlocks(interaction_blocks, token_dim, heads, time_dim)
        readers = ("speech", *["speech2"] * (speakers - 1), "effects")
        self.layers = modules(
            InjectionLayer(backbone_dim, token_dim, backbone_heads, readers) for _ in range(num_blocks)
        )
        if speakers == MOST_SPEAKERS:
            self.audio_vocal_embedding = nn.Parameter(torch.zeros(token_dim))
            self.audio_vocal_embedding_1 = nn.Parameter(torch.zeros(token_dim))

    def check_backbone(self, transformer: Any) -> None:
        """Raise UserError unless it is a CogVideoX of this network's sizes, in the image-to-video layout."""
        config, what = getattr(transformer, "config", {}), type(transformer).__name__
        named = {
            "num_attention_heads": self.config.backbone_heads,
            "num_layers": self.config.num_blocks,
            "time_embed_dim": self.config.time_dim,
            "attention_head_dim": self.config.backbone_dim // self.config.backbone_heads,
        }
        for name, wanted in named.items():
            if (here := config.get(name)) != wanted:
                raise UserError(f"control: {name} of {what} is {here}, and the public MTV control needs {wanted}")
        if config["in_channels"] != 2 * config["out_channels"]:
            sides = f"{config['in_channels']} channels in and {config['out_channels']} out"
            raise UserError(f"control: {what} has {sides}; the public MTV control needs the image-to-video layout")

    @property
    def least_speakers(self) -> int:
        """As many as the weights are for: fewer are completed by people who are silent."""
        return int(self.config.speakers)

    def encode(self, features: TrackFeatures) -> EncodedTracks:
        """All that does not depend on the noise level, once per clip. ValueError for features that do not fit."""
        (rows, count), wanted = features.speech.shape[:2], self.config.speakers
        if count != wanted or features.speakers is not None:
            raise ValueError(f"{count} speakers, and these weights are for {wanted} in every sample")
        if (values := features.speech[0, 0, 0].numel()) != self.config.features:
            raise ValueError(f"features of {values} values; these weights read {self.config.features}")
        zero = {name: silent(getattr(features, name), features.drop.get(name)) for name in TRACKS}
        speech = self.audio_proj(zero["speech"].flatten(0, 1)).unflatten(0, (rows, count))
        if count == MOST_SPEAKERS:
            vectors = torch.stack([self.audio_vocal_embedding, self.audio_vocal_embedding_1])
            speech = speech + vectors[:, None, None].type_as(speech)
        music = self.audio_proj_music(zero["music"]).flatten(1, 2).mean(1)
        return EncodedTracks({"speech": speech, "effects": self.audio_proj_effect(zero["effects"])}, None, music)

    def control(self, encoded: EncodedTracks, sigma: Tensor) -> UnboundInjection:
        """Make what a denoiser binds to its backbone (`mtv.cogvideox.image_to_video`), which has the noise level."""
        return UnboundInjection(self, encoded)


def silent(features: Tensor, drop: Tensor | None) -> Tensor:
    """Features [B, ...] with zeros where `drop` [B] is True."""
    return features if drop is None else features.masked_fill(drop.view(-1, *[1] * (features.ndim - 1)), 0)


@dataclass(frozen=True)
class UnboundInjection:
    """A hook that lacks its backbone: what `MTVCraftControl.control` gives."""

    network: MTVCraftControl
    encoded: EncodedTracks

    def bound(self, transformer: Any, time: Tensor, rotation: tuple[Tensor, Tensor] | None) -> MTVCraftInjection:
        """Make the hook of one evaluation: `time` [B, time_dim] is the backbone's time embedding, `rotation` (cos, sin)
        that of its tokens [F·S, head_dim]. The interaction blocks run here."""
        speech, effects = self.encoded.tokens["speech"], self.encoded.tokens["effects"]
        tracks = [part.flatten(0, 1) for part in (*speech.unbind(1), effects)]
        *voices, noises = self.network.audio_combine(tracks, time)
        sources = dict(zip(("speech", "speech2"), voices, strict=False)) | {"effects": noises}
        return MTVCraftInjection(self, transformer, sources, rotation)


@dataclass(frozen=True)
class MTVCraftInjection:
    """The hook `control(i, x) -> x` for hidden states x [B, F·S, D] of the backbone's block i."""

    unbound: UnboundInjection
    transformer: Any
    sources: dict[str, Tensor]
    rotation: tuple[Tensor, Tensor] | None

    def __call__(self, index: int, x: Tensor) -> Tensor:
        """ValueError for another shape of x."""
        encoded, network = self.unbound.encoded, self.unbound.network
        rows, frames = encoded.tokens["effects"].shape[:2]
        if x.shape[0] != rows or x.shape[1] % frames:
            raise ValueError(f"tracks of {rows} samples, {frames} latent frames cannot control {list(x.shape)}")
        space, first = x.shape[1] // frames, None
        if self.rotation is not None:
            first = self.rotation[0][:space], self.rotation[1][:space]
        own, style = self.transformer.transformer_blocks[index].attn1, encoded.style
        return network.layers[index](x, self.sources, style, own, first)
