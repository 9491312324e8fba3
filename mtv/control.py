"""MST-ControlNet: speech, effects and music drive one video stream (MTV, arXiv 2506.08003).

Speech and effects act where they are heard: their tokens meet inside each interval (one latent frame) and are read by
that frame alone. Music acts on the whole: one vector per clip scales and shifts every token. The network attaches to
the per-block hook of `shared.nn.dit`; an untrained one leaves the backbone's output as it was, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mtv import control_layers as layers
from shared.nn.dit import modules
from shared.nn.flops import count_flops
from shared.nn.memory_alignment import AlignedModelMixin

TRACKS = ("speech", "effects", "music")
ALL = "all"  # of them


@dataclass(frozen=True)
class TrackFeatures:
    """What the three tracks of a batch say, one feature per video frame. A silent track is exact zeros.

    speech [B, K, T, window, layers, width] has a row per speaker, effects and music [B, T, window, layers, width].
    `speakers` [B, K]: True where there is such a speaker, None where all are; one who is not there adds nothing, a
    silent one keeps the mouth shut. `drop`: by track [B], True where it is unknown (guidance, dropout in training) and
    its learned null takes its place; unknown speech does not tell how many speak. ValueError for what does not fit.
    """

    speech: Tensor
    effects: Tensor
    music: Tensor
    speakers: Tensor | None = None
    drop: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.drop) - set(TRACKS):
            raise ValueError(f"cannot drop {sorted(unknown)}; the tracks are {', '.join(TRACKS)}")
        sizes = {"speech": (self.speech.shape[0], self.speech.shape[2])}
        sizes |= {name: tuple(getattr(self, name).shape[:2]) for name in TRACKS[1:]}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the tracks must agree in samples and video frames (B, T): {sizes}")
        if self.speakers is not None and self.speakers.shape != self.speech.shape[:2]:
            raise ValueError(f"speakers must be {list(self.speech.shape[:2])}, not {list(self.speakers.shape)}")
        if self.speakers is not None and not self.speakers.any(1).all():
            raise ValueError("every sample needs a speaker; nobody speaking is a speaker's silence: zero features")

    @classmethod
    def of(cls, clips: Sequence[Mapping[str, Tensor]], drop: Mapping[str, Tensor] | None = None) -> TrackFeatures:
        """Put equally long clips together, each by track [(K,) T, window, layers, width]; absent speakers are zeros."""
        speech = pad_sequence([clip["speech"] for clip in clips], batch_first=True)
        there = torch.arange(speech.shape[1]) < torch.tensor([[len(clip["speech"])] for clip in clips])
        effects, music = (torch.stack([clip[name] for clip in clips]) for name in TRACKS[1:])
        return cls(speech, effects, music, None if there.all() else there, drop or {})

    def without(self, track: str) -> TrackFeatures:
        """Drop this track, or `ALL` of them, in every sample."""
        everywhere = self.effects.new_ones(len(self.effects), dtype=torch.bool)
        return replace(self, drop={**self.drop, **dict.fromkeys(TRACKS if track == ALL else (track,), everywhere)})

    def take(self, rows: Tensor) -> TrackFeatures:
        """Take the samples `rows`, a vector of indices."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> TrackFeatures:
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> TrackFeatures:
        speakers = None if self.speakers is None else change(self.speakers)
        drop = {name: change(dropped) for name, dropped in self.drop.items()}
        return TrackFeatures(change(self.speech), change(self.effects), change(self.music), speakers, drop)


@dataclass(frozen=True)
class EncodedTracks:
    """The tracks of a batch as tokens: all that does not depend on the noise level, made once per clip.

    `tokens` by track: speech [B, K, F, n, d], the others [B, F, n, d]. `present` [B, K] bool: the speakers; None: all.
    `style` [B, d]: the holistic context; None where music goes by intervals.
    """

    tokens: dict[str, Tensor]
    present: Tensor | None
    style: Tensor | None


class MSTControlNet(PeftAdapterMixin, AlignedModelMixin, ModelMixin, ConfigMixin):
    """Multi-Stream Temporal ControlNet for any backbone of `num_blocks` blocks with frame-major tokens.

    Args:
        backbone_dim, backbone_heads, num_blocks: width, attention heads and depth of the video stream.
        tracks: (window, layers, width) of the features of "speech", "effects" and "music".
        token_dim, tokens: d, and n tokens per track and latent frame. hidden_dim: width of the encoders' linear stacks.
        interaction_blocks, heads, ffn_dim: N interval interaction blocks, their attention heads and FFN width.
        injection_every: injects in blocks 0, e, 2e ...; each costs about 4·D² + 6·D·d weights.
        speakers, temporal_stride: K learned identities; r, video frames per latent of the codec's causal clock.
        SE: off: no holistic stream; music goes the way of speech and effects too (the paper's "w/o SE").
        SI: off: neither stream; one shared cross-attention reads all tokens side by side (the paper's "w/o SI").

    The third ablation, TB, is a matter of training: `trainable_backbone_parameters`. ValueError for sizes that do not
    fit, or SE and SI both off.
    """

    HOLISTIC = ("track_encoders.music.", "holistic_stream.", "holistic_injection.")
    """What the names of the parameters on music's way begin with."""
    #: It has a null of each track alone, and takes any number of speakers (`mtv.mtvcraft` does not).
    drops_together, least_speakers = False, 1
    _no_split_modules = ["InteractionBlock", "IntervalInjection"]  # noqa: RUF012
    _keep_in_fp32_modules = ["time_embedder"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        backbone_dim: int,
        backbone_heads: int,
        num_blocks: int,
        tracks: Mapping[str, Sequence[int]],
        token_dim: int = 768,
        tokens: int = 32,
        interaction_blocks: int = 4,
        heads: int = 48,
        ffn_dim: int = 3072,
        injection_every: int = 1,
        speakers: int = 2,
        temporal_stride: int = 4,
        hidden_dim: int = 512,
        SE: bool = True,
        SI: bool = True,
    ) -> None:
        super().__init__()
        if set(tracks) != set(TRACKS):
            raise ValueError(f"tracks must be {', '.join(TRACKS)}, not {', '.join(tracks)}")
        if backbone_dim % backbone_heads or token_dim % heads:
            raise ValueError(
                f"heads must divide their width: {backbone_heads} of {backbone_dim}, {heads} of {token_dim}"
            )
        if min(num_blocks, tokens, injection_every, speakers, temporal_stride) < 1:
            raise ValueError("num_blocks, tokens, injection_every, speakers and temporal_stride must be at least 1")
        if not (SE or SI):
            raise ValueError("SI off is without the holistic stream already; switch off SE or SI, not both")
        self.track_encoders = nn.ModuleDict(
            {name: layers.TrackEncoder(tracks[name], hidden_dim, tokens, token_dim, temporal_stride) for name in TRACKS}
        )
        self.speaker_identity = nn.Embedding(speakers, token_dim)
        by_interval = TRACKS[:2] if SE else TRACKS
        readers, injected = by_interval if SI else ("shared",), range(0, num_blocks, injection_every)
        sizes, holistic = (token_dim, heads, ffn_dim, interaction_blocks, by_interval), SE and SI
        self.interval_stream = layers.IntervalStream(*sizes) if SI else None
        injections = (layers.IntervalInjection(backbone_dim, token_dim, backbone_heads, readers) for _ in injected)
        self.interval_injection = modules(injections)
        self.holistic_stream = layers.HolisticStream(tokens, token_dim) if holistic else None
        styles = (layers.HolisticInjection(backbone_dim, token_dim) for _ in injected)
        self.holistic_injection = modules(styles) if holistic else None

    def holistic_parameters(self) -> list[nn.Parameter]:
        """Those on music's way: its track encoder, the holistic stream and injection. ValueError with SE or SI off."""
        if self.holistic_stream is None:
            raise ValueError("with SE or SI off music goes the way of the others; there is no holistic stream")
        return [parameter for name, parameter in self.named_parameters() if name.startswith(self.HOLISTIC)]

    def standardise(self, tracks: Mapping[str, Sequence[Tensor]]) -> None:
        """Take the statistics of features [T, window, layers, width] by track, of each clip in which it sounds."""
        for track, clips in tracks.items():
            if clips:
                cast(layers.TrackEncoder, self.track_encoders[track]).standardise(clips)

    def forward(self, features: TrackFeatures, sigma: Tensor) -> Injection:
        """`control(encode(features), sigma)`, for training: a new clip each step."""
        return self.control(self.encode(features), sigma)

    def encode(self, features: TrackFeatures) -> EncodedTracks:
        """All that does not depend on the noise level, once per clip. ValueError for features that do not fit."""
        rows, count = features.speech.shape[:2]
        if count > self.config.speakers:
            raise ValueError(f"{count} speakers are more than the {self.config.speakers} identities learned")
        encoders = cast(Mapping[str, layers.TrackEncoder], self.track_encoders)
        # never absent, so that the null is part of every graph and ranks do not differ in what they run
        nowhere = features.effects.new_zeros(rows, dtype=torch.bool)
        drop = {name: features.drop.get(name, nowhere) for name in TRACKS}
        speech = encoders["speech"](features.speech.flatten(0, 1)).unflatten(0, (rows, count))
        identities = self.speaker_identity(torch.arange(count, device=speech.device))
        speech = speech + identities[:, None, None].type_as(speech)
        # unknown speech stands in the first place, as nobody in particular, and leaves the others empty
        unknown = encoders["speech"].dropped(speech[:, 0], drop["speech"])
        tokens = {"speech": torch.cat([unknown[:, None], speech[:, 1:]], dim=1)}
        for name in TRACKS[1:]:
            tokens[name] = encoders[name].dropped(encoders[name](getattr(features, name)), drop[name])
        style = None if self.holistic_stream is None else self.holistic_stream(tokens.pop("music"))
        present = features.speakers
        if "speech" in features.drop:
            first = torch.arange(count, device=nowhere.device) == 0
            there = torch.ones_like(first).expand(rows, -1) if present is None else present
            present = torch.where(drop["speech"][:, None], first, there)
        return EncodedTracks(tokens, None if present is None or present.all() else present, style)

    def control(self, encoded: EncodedTracks, sigma: Tensor) -> Injection:
        """Make the hook `control(i, x) -> x` of one step, for hidden states x [B, F·S, D] of the backbone's block i.

        sigma [B] or [B, F] is the video's noise level, 0 clean .. 1 noise; of discrete timesteps t/1000. The interval
        stream runs here, once per step; a block costs its cross-attentions. ValueError for another shape of sigma or x.
        """
        rows, _, frames = encoded.tokens["speech"].shape[:3]
        if tuple(sigma.shape) not in ((rows,), (rows, frames)):
            raise ValueError(f"sigma must be [{rows}] or [{rows}, {frames}], not {list(sigma.shape)}")
        return Injection(self, self._sources(encoded, sigma), encoded.style)

    def _sources(self, encoded: EncodedTracks, sigma: Tensor) -> dict[str, list[layers.TrackTokens]]:
        """Find what each reader of an injection reads at this noise level."""
        speech, present, keys = encoded.tokens["speech"], encoded.present, None
        flat = {**encoded.tokens, "speech": rearrange(speech, "b k f n d -> b f (k n) d")}
        if present is not None:  # the tracks' tokens side by side, but for those of absent speakers
            others = sum(tokens.shape[2] for name, tokens in flat.items() if name != "speech")
            keys = nn.functional.pad(present.repeat_interleave(self.config.tokens, dim=1), (0, others), value=True)
        if self.interval_stream is None:
            return {"shared": [layers.TrackTokens(torch.cat(list(flat.values()), dim=2), keys=keys)]}
        flat = self.interval_stream(flat, sigma, keys)
        sources = {name: [layers.TrackTokens(tokens)] for name, tokens in flat.items()}
        weights = [None] * speech.shape[1] if present is None else present.unbind(1)
        apart = flat["speech"].chunk(speech.shape[1], dim=2)
        sources["speech"] = [layers.TrackTokens(tokens, weight) for tokens, weight in zip(apart, weights, strict=True)]
        return sources

    def forward_flops(self, frames: int, space: int, speakers: int = 1) -> int:
        """Operations of one forward pass for a clip of `frames` video latent frames of `space` tokens each."""
        shown = 1 + (frames - 1) * self.config.temporal_stride
        with torch.device("meta"):
            network = MSTControlNet.from_config(self.config)
            speech = torch.empty(1, speakers, shown, *self.config.tracks["speech"])
            effects, music = (torch.empty(1, shown, *self.config.tracks[name]) for name in TRACKS[1:])
            sigma, x = torch.empty(1, frames), torch.empty(1, frames * space, self.config.backbone_dim)

        def run() -> None:
            inject = network(TrackFeatures(speech, effects, music), sigma)
            for block in range(self.config.num_blocks):
                inject(block, x)

        return count_flops(run)


def trainable_backbone_parameters(stream: nn.Module) -> dict[str, nn.Parameter]:
    """Find what MTV trains of its backbone, by name: the video's attn1 and attn2. ValueError if there is none."""
    parameters = {name: p for name, p in stream.named_parameters() if {"attn1", "attn2"} & set(name.split("."))}
    if not parameters:
        raise ValueError(f"{type(stream).__name__} has no attention layers named attn1 or attn2")
    return parameters


@dataclass(frozen=True)
class Injection:
    """The hook `control(i, x) -> x` that `MSTControlNet.control` makes: the tracks act on block i's hidden states."""

    network: MSTControlNet
    sources: dict[str, list[layers.TrackTokens]]
    style: Tensor | None

    def __call__(self, index: int, x: Tensor) -> Tensor:
        """Hidden states x [B, F·S, D]. ValueError for another shape."""
        place, left = divmod(index, self.network.config.injection_every)
        if left:
            return x
        rows, frames = next(iter(self.sources.values()))[0].tokens.shape[:2]
        if x.shape[0] != rows or x.shape[1] % frames:
            raise ValueError(f"tracks of {rows} samples, {frames} latent frames cannot control {list(x.shape)}")
        x = self.network.interval_injection[place](x, self.sources)
        styles = self.network.holistic_injection
        return x if styles is None else styles[place](x, self.style)

    def of_latents(self, latents: slice) -> Injection:
        """Make the hook for hidden states of some latents: each reads its own interval, the style is for all."""
        sources = {
            name: [replace(source, tokens=source.tokens[:, latents]) for source in read]
            for name, read in self.sources.items()
        }
        return replace(self, sources=sources)
