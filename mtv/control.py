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

from mtv.control_layers import (
    HolisticInjection,
    HolisticStream,
    IntervalInjection,
    IntervalStream,
    Source,
    TrackEncoder,
)
from shared.nn.dit import Control, modules
from shared.nn.memory_alignment import AlignedModelMixin

TRACKS = ("speech", "effects", "music")


@dataclass(frozen=True)
class TrackFeatures:
    """What the three tracks of a batch say, one feature per video frame.

    Attributes:
        speech: [B, K, T, window, layers, width], a row per speaker; speaker k has the k-th identity.
        effects, music: [B, T, window, layers, width] each. A silent track is exact zeros, in all three.
        speakers: [B, K], True where there is such a speaker; None: all are. One who is not there adds nothing, a
            silent one keeps the mouth shut.
        drop: by track, [B], True where the track is unknown (guidance, dropout in training): its learned null takes
            its place. Unknown speech does not tell how many speak.

    Raises:
        ValueError: an unknown track in `drop`, tracks that disagree in B or T, or a sample without a speaker.
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

    def __len__(self) -> int:
        """B, the samples."""
        return len(self.effects)

    @property
    def frames(self) -> int:
        """T, the video frames."""
        return self.effects.shape[1]

    def without(self, *tracks: str) -> TrackFeatures:
        """The same with these tracks dropped in every sample."""
        everywhere = torch.ones(len(self), dtype=torch.bool, device=self.effects.device)
        return replace(self, drop={**self.drop, **dict.fromkeys(tracks, everywhere)})

    def take(self, rows: Tensor) -> TrackFeatures:
        """The samples `rows`, a vector of indices."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> TrackFeatures:
        """All tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> TrackFeatures:
        return TrackFeatures(
            change(self.speech),
            change(self.effects),
            change(self.music),
            None if self.speakers is None else change(self.speakers),
            {name: change(drop) for name, drop in self.drop.items()},
        )


@dataclass(frozen=True)
class EncodedTracks:
    """The tracks of a batch as tokens: all that does not depend on the noise level, made once per clip.

    Attributes:
        tokens: by track; speech [B, K, F, n, d], the others [B, F, n, d].
        present: [B, K] bool, the speakers; None when all are there.
        style: [B, d], the holistic context; None where music goes by intervals.
    """

    tokens: dict[str, Tensor]
    present: Tensor | None
    style: Tensor | None

    def __len__(self) -> int:
        return len(self.tokens["speech"])

    @property
    def latents(self) -> int:
        """F, the latent frames these tokens belong to."""
        return self.tokens["speech"].shape[2]


class MSTControlNet(PeftAdapterMixin, AlignedModelMixin, ModelMixin, ConfigMixin):
    """Multi-Stream Temporal ControlNet for any backbone of `num_blocks` blocks with frame-major tokens.

    Args:
        backbone_dim, backbone_heads, num_blocks: width, attention heads and depth of the video stream.
        tracks: (window, layers, width) of the features of "speech", "effects" and "music".
        token_dim, tokens: d, and n tokens per track and latent frame.
        interaction_blocks, heads, ffn_dim: N interval interaction blocks, their attention heads and FFN width.
        injection_every: injects in blocks 0, e, 2e ...; each costs about 4·D² + 6·D·d weights.
        speakers: K, learned speaker identities.
        temporal_stride: r, video frames per latent of the codec's causal clock.
        hidden_dim: width of the track encoders' linear stacks.
        SE: off: no holistic stream; music passes through the interval blocks and the interval injection too (the
            paper's "w/o SE").
        SI: off: the encoders' features are concatenated and read by one shared cross-attention; no interval and no
            holistic stream (the paper's "w/o SI").

    The third ablation, TB, is a matter of training: `trainable_backbone_parameters`.

    Raises:
        ValueError: other tracks than the three, a head count that does not divide its width, a count below 1, or SE
            and SI both off (SI alone already is without the holistic stream).
    """

    HOLISTIC = ("track_encoders.music.", "holistic_stream.", "holistic_injection.")
    """What the names of the parameters on music's way begin with."""
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
            {name: TrackEncoder(tracks[name], hidden_dim, tokens, token_dim, temporal_stride) for name in TRACKS}
        )
        self.speaker_identity = nn.Embedding(speakers, token_dim)
        by_interval = TRACKS[:2] if SE else TRACKS
        readers: Sequence[str] = by_interval if SI else ("shared",)
        injected = len(range(0, num_blocks, injection_every))
        self.interval_stream = (
            IntervalStream(token_dim, heads, ffn_dim, interaction_blocks, by_interval) if SI else None
        )
        self.interval_injection = modules(
            IntervalInjection(backbone_dim, token_dim, backbone_heads, readers) for _ in range(injected)
        )
        self.holistic_stream = HolisticStream(tokens, token_dim) if SE and SI else None
        self.holistic_injection = (
            modules(HolisticInjection(backbone_dim, token_dim) for _ in range(injected)) if SE and SI else None
        )

    def latents(self, frames: int) -> int:
        """F, the latent frames of `frames` video frames on the causal clock."""
        return 1 + -(-(frames - 1) // self.config.temporal_stride)

    def parts(self) -> dict[str, list[str]]:
        """The parameters' names by part: the encoders, identities, streams and injections that the switches leave."""
        return {
            name: [f"{name}.{inner}" for inner, _ in module.named_parameters()]
            for name, module in self.named_children()
        }

    def holistic_parameters(self) -> list[nn.Parameter]:
        """Those on music's way: its track encoder, the holistic stream and injection.

        Raises:
            ValueError: with SE or SI off music has no way of its own.
        """
        if self.holistic_stream is None:
            raise ValueError("with SE or SI off music goes the way of the others; there is no holistic stream")
        return [parameter for name, parameter in self.named_parameters() if name.startswith(self.HOLISTIC)]

    def standardise(self, tracks: Mapping[str, Sequence[Tensor]]) -> None:
        """Take the statistics of the training's features, for encoders that are yet to be trained.

        Args:
            tracks: by track, of each clip (or speaker) in which it sounds [T, window, layers, width]; none: as it was.
        """
        for track, clips in tracks.items():
            if clips:
                self._encoder(track).standardise(clips)

    def forward(self, features: TrackFeatures, sigma: Tensor) -> Control:
        """`control(encode(features), sigma)`, for training: a new clip each step."""
        return self.control(self.encode(features), sigma)

    def encode(self, features: TrackFeatures) -> EncodedTracks:
        """All that does not depend on the noise level, once per clip.

        Raises:
            ValueError: more speakers than identities, or features of another size than configured.
        """
        speech, present = self._encode_speech(features)
        tokens = {"speech": speech}
        for name in TRACKS[1:]:
            encoder = self._encoder(name)
            tokens[name] = encoder.dropped(encoder(getattr(features, name)), self._drop(features, name))
        style = None
        if self.holistic_stream is not None:
            style = self.holistic_stream(tokens.pop("music"))
        whole = (features.speakers is None and "speech" not in features.drop) or bool(present.all())
        return EncodedTracks(tokens, None if whole else present, style)

    def _encoder(self, track: str) -> TrackEncoder:
        return cast(TrackEncoder, self.track_encoders[track])

    def _drop(self, features: TrackFeatures, track: str) -> Tensor:
        """[B] bool. Never absent, so that the null is part of every graph and ranks do not differ in what they run."""
        drop = features.drop.get(track)
        return drop if drop is not None else features.effects.new_zeros(len(features), dtype=torch.bool)

    def _encode_speech(self, features: TrackFeatures) -> tuple[Tensor, Tensor]:
        """Tokens [B, K, F, n, d] with identities, and who is there [B, K]."""
        rows, count = features.speech.shape[:2]
        if count > self.config.speakers:
            raise ValueError(f"{count} speakers are more than the {self.config.speakers} identities learned")
        encoder, drop = self._encoder("speech"), self._drop(features, "speech")
        tokens = encoder(features.speech.flatten(0, 1)).unflatten(0, (rows, count))
        identities = self.speaker_identity(torch.arange(count, device=tokens.device))
        tokens = tokens + identities[:, None, None].type_as(tokens)
        # unknown speech stands in the first place, as nobody in particular, and leaves the others empty
        unknown = encoder.dropped(tokens[:, 0], drop)
        tokens = torch.cat([unknown[:, None], tokens[:, 1:]], dim=1)
        there = features.speakers if features.speakers is not None else torch.ones_like(drop)[:, None].expand(-1, count)
        first = torch.arange(count, device=drop.device) == 0
        return tokens, torch.where(drop[:, None], first, there)

    def control(self, encoded: EncodedTracks, sigma: Tensor) -> Control:
        """The hook `control(i, x) -> x` of one step, for hidden states x [B, F·S, D] of the backbone's block i.

        The interval stream runs here, once per step; a block costs its cross-attentions only.

        Args:
            encoded: of `encode`.
            sigma: [B] or [B, F], the video's noise level as its backbone knows it, 0 clean .. 1 noise; for a backbone
                of discrete timesteps t/1000.

        Raises:
            ValueError: here, sigma of another shape; in a block, hidden states that are not B samples of F frames.
        """
        rows, frames = len(encoded), encoded.latents
        if tuple(sigma.shape) not in ((rows,), (rows, frames)):
            raise ValueError(f"sigma must be [{rows}] or [{rows}, {frames}], not {list(sigma.shape)}")
        sources = self._sources(encoded, sigma)

        def inject(index: int, x: Tensor) -> Tensor:
            place, left = divmod(index, self.config.injection_every)
            if left:
                return x
            if x.shape[0] != rows or x.shape[1] % frames:
                raise ValueError(f"tracks of {rows} samples, {frames} latent frames cannot control {list(x.shape)}")
            x = self.interval_injection[place](x, sources)
            if self.holistic_injection is None:
                return x
            return self.holistic_injection[place](x, encoded.style)

        return inject

    def _sources(self, encoded: EncodedTracks, sigma: Tensor) -> dict[str, list[Source]]:
        """What each reader of an injection reads at this noise level."""
        speakers = encoded.tokens["speech"].shape[1]
        flat = {**encoded.tokens, "speech": rearrange(encoded.tokens["speech"], "b k f n d -> b f (k n) d")}
        keys = None if encoded.present is None else self._keys(encoded.present, flat)
        if self.interval_stream is None:
            return {"shared": [Source(torch.cat(list(flat.values()), dim=2), keys=keys)]}
        flat = self.interval_stream(flat, sigma, keys)
        sources = {name: [Source(tokens)] for name, tokens in flat.items()}
        weights = [None] * speakers if encoded.present is None else encoded.present.unbind(1)
        apart = flat["speech"].chunk(speakers, dim=2)
        sources["speech"] = [Source(tokens, weight) for tokens, weight in zip(apart, weights, strict=True)]
        return sources

    def _keys(self, present: Tensor, tokens: Mapping[str, Tensor]) -> Tensor:
        """[B, M] over the tracks' tokens side by side, True but for those of absent speakers."""
        speech = present.repeat_interleave(self.config.tokens, dim=1)
        others = sum(x.shape[2] for name, x in tokens.items() if name != "speech")
        return torch.cat([speech, speech.new_ones(len(speech), others)], dim=1)


def trainable_backbone_parameters(stream: nn.Module, TB: bool = True) -> dict[str, nn.Parameter]:
    """What MTV trains of its backbone, by name: the attention layers of the video stream; nothing with `TB` off.

    `stream` is a `shared.nn.dit.DiTStream`, the blocks of one, or diffusers' `CogVideoXTransformer3DModel`: all name
    their attentions attn1 and attn2.

    Raises:
        ValueError: a stream without such layers.
    """
    if not TB:
        return {}
    found = {name: p for name, p in stream.named_parameters() if {"attn1", "attn2"} & set(name.split("."))}
    if not found:
        raise ValueError(f"{type(stream).__name__} has no attention layers named attn1 or attn2")
    return found
