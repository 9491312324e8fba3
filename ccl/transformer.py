"""DualStreamTransformer: a video DiT and an audio DiT, joined in every block by CCA (CCL paper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from ccl.baselines import Joiner, Places, Variant, by_index
from ccl.context_attention import KeyValue
from ccl.routing import Reads, Route, Task
from ccl.tarp import align
from shared.nn.clock import LatentClock
from shared.nn.dit import Control, DiTBlock, DiTStream, StreamConfig, StreamState, modules
from shared.nn.memory_alignment import AlignedModelMixin
from shared.nn.rope import time_rotary

#: What a block's joiner makes of its stream: of x, or in the text attention's place of (q, k, v).
Update = Callable[..., Tensor]


@dataclass(frozen=True)
class StreamInput:
    """One stream's part of a forward pass.

    Attributes:
        latents: video [B, C, F, H, W] or audio [B, A, C], noisy or clean.
        sigma: [B], or for video [B, F]; 0 clean .. 1 noise.
        text: [B, L, text_dim].
        clock: when each latent lives.
    """

    latents: Tensor
    sigma: Tensor
    text: Tensor
    clock: LatentClock


@dataclass(frozen=True)
class StreamContext:
    """A clean stream already run: its keys and values for the other's CCA, per block, unrotated. Made once per text."""

    key_values: list[KeyValue]
    clock: LatentClock
    grid: tuple[int, int, int]


class DualStreamTransformer(PeftAdapterMixin, AlignedModelMixin, ModelMixin, ConfigMixin):
    """Two `shared.nn.dit` streams of equal depth; every block is self-attention -> text -> CCA -> hook -> FFN.

    Args:
        video, audio: arguments of `StreamConfig`; audio latents are tokens, its patch is 1 and its grid `time`.
        cca_heads, cca_head_dim: CCA's inner width (`cca_dim`) is their product.
        context_tokens: L, learnable context tokens per block and direction.
        centre, clock_mode: the partition's form (`ccl.tarp.align`).
        cca_time_scale: angle, in radians per video latent, of CCA's fastest rotary band. At 1 a query hardly tells the
            audio tokens of one latent apart; 2π·A/F turns it once per token (docs/design.md, "Clock and TARP").
        joiner, positions, partition, routing: for ablation; the defaults are CCL (`ccl.baselines.Variant`).

    Raises:
        ValueError: towers of different depth, patches that join latents in time, or a variant that there is not.
    """

    _supports_gradient_checkpointing = True
    _keep_in_fp32_modules = ["time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"]  # noqa: RUF012
    _no_split_modules = ["DiTBlock", "ContextAttention"]  # noqa: RUF012
    _repeated_blocks = ["DiTBlock", "ContextAttention"]  # noqa: RUF012
    # what stays as it is where weights are kept in fp8: the ends of a stream, and what tells it the noise level
    _skip_layerwise_casting_patterns = ["condition_embedder", "proj_out", "skip"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        video: Mapping[str, Any],
        audio: Mapping[str, Any],
        cca_heads: int,
        cca_head_dim: int,
        context_tokens: int = 16,
        centre: str = "exact",
        clock_mode: str = "causal",
        cca_time_scale: float = 1.0,
        joiner: str = "cca",
        positions: str = "aligned",
        partition: bool = True,
        routing: str = "dynamic",
    ) -> None:
        super().__init__()
        self.variant = Variant(joiner, positions, partition, routing)
        v, a = StreamConfig(**video), StreamConfig(**{"grid": "time", "patch_size": (1, 1, 1), **audio})
        if (v.patch_size[0], *a.patch_size) != (1, 1, 1, 1):
            raise ValueError(f"CCA needs a token per latent in time: patches {v.patch_size} and {a.patch_size}")
        if v.num_layers != a.num_layers:
            raise ValueError(f"both towers need the same depth: video {v.num_layers} blocks, audio {a.num_layers}")
        self.video_stream, self.audio_stream = DiTStream(v), DiTStream(a)
        sizes = (cca_heads, cca_head_dim, context_tokens)
        self.video_cca, self.audio_cca = (
            cast("Sequence[Joiner]", modules(self.variant.build(*towers, *sizes) for _ in range(v.num_layers)))
            for towers in ((v, a), (a, v))
        )
        self.gradient_checkpointing = False

    @property
    def has_alone(self) -> bool:
        """Whether 0m, a stream without the other, is a state that guidance may compare with."""
        return self.variant.has_alone

    @property
    def keeps_clean(self) -> bool:
        """Whether a clean stream does not depend on the step, so that its `context` can be kept."""
        return self.variant.routing == "dynamic"

    def forward(
        self,
        route: Route,
        video: StreamInput | StreamContext | None,
        audio: StreamInput | StreamContext | None,
        video_control: Control | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Predict the velocity of each noisy stream of `route`.

        A clean stream may be given as the `StreamContext` of an earlier run; skipped streams are ignored.
        Returns:
            (video [B, C, F, H, W], audio [B, A, C]); None for a stream that is not noisy.
        Raises:
            UserError: without DCR (`routing: joint`), a route on which a stream is alone.
        """
        route = route.joined if self.variant.routing == "joint" else route
        pair = _Pair(self, route, video, audio)
        for index in range(len(self.video_cca)):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                pair.set(*self._gradient_checkpointing_func(pair.block, index, video_control, *pair.states))
            else:
                pair.set(*pair.block(index, video_control, *pair.states))
        v, a = pair.states
        return (
            self.video_stream.head(v) if v is not None and route.video_noisy else None,
            self.audio_stream.head(a).flatten(2).transpose(1, 2) if a is not None and route.audio_noisy else None,
        )

    def denoise_video(
        self, latents: Tensor, sigma: Tensor, text: Tensor, clock: LatentClock, control: Control | None = None
    ) -> Tensor:
        """The video's velocity [B, C, F, H, W] on its context tokens alone (t2v, mtv), steered by `control`.

        Arguments are those of `StreamInput`.
        """
        video, _ = self(Task.T2V.route, StreamInput(latents, sigma, text, clock), None, control)
        assert video is not None, "the route makes video"
        return video

    @apply_forward_hook
    def context(self, stream: str, given: StreamInput, detach: bool = False) -> StreamContext:
        """Run a clean stream ("video" or "audio") on its context tokens once, for the other stream to read.

        The result depends on the text and the content only, not on the step. With `detach` the clean tower learns
        nothing from the other stream's loss; the layers that read it do.

        Raises:
            ValueError: without DCR (`routing: joint`) it does depend on the step.
        """
        if not self.keeps_clean:
            raise ValueError("with routing: joint a clean stream reads the noisy one; run it in every step")
        tower, own, readers = (
            (self.video_stream, self.video_cca, self.audio_cca)
            if stream == "video"
            else (self.audio_stream, self.audio_cca, self.video_cca)
        )
        learns = torch.is_grad_enabled() and not detach
        with torch.set_grad_enabled(learns):
            state = embed(tower, given)
        kept = []
        for block, cca, reader in zip(tower.blocks, own, readers, strict=True):
            with torch.set_grad_enabled(learns):
                state = self.attend(block, state)
            kept.append(reader.read(state.x))
            with torch.set_grad_enabled(learns):
                state = block.feed_forward(self.join(block, state, cca.alone))
        return StreamContext(kept, given.clock, state.grid)

    def attend(self, block: DiTBlock, state: StreamState) -> StreamState:
        """What comes before the streams are joined: self-attention and, unless they join in it, text attention."""
        return block.attend_self(state) if self.variant.in_text_place else block.attend(state)

    def join(self, block: DiTBlock, state: StreamState, update: Update) -> StreamState:
        """The stream with its update; baselines in the text attention's place make theirs within it."""
        if self.variant.in_text_place:
            return block.attend_text(state, update)
        return state.with_x(state.x + update(state.x))


def embed(tower: DiTStream, given: StreamInput) -> StreamState:
    """A stream's input as its tower wants it: audio tokens [B, A, C] become A frames of 1x1."""
    latents = given.latents
    if latents.ndim == 3:
        latents = latents.transpose(1, 2)[..., None, None]
    if len(given.clock) != latents.shape[2]:
        raise ValueError(f"a clock of {len(given.clock)} latents does not fit {latents.shape[2]} latents")
    return tower.embed(latents, given.sigma, given.text, given.clock)


class _Pair:
    """Both streams on their way through the blocks, in one forward pass."""

    def __init__(
        self,
        model: DualStreamTransformer,
        route: Route,
        video: StreamInput | StreamContext | None,
        audio: StreamInput | StreamContext | None,
    ) -> None:
        self.model, self.route = model, route
        self.kept_video = video if isinstance(video, StreamContext) else None
        self.kept_audio = audio if isinstance(audio, StreamContext) else None
        v = self._start(model.video_stream, video, route.video)
        a = self._start(model.audio_stream, audio, route.audio)
        self.states = (v, a)
        if route.has_context:
            if video is None or audio is None:
                raise ValueError(f"the route {route} joins the streams, so both are needed")
            seen = self.kept_video or v
            assert seen is not None, "the route reads the video"
            self._align(video.clock, audio.clock, seen.grid)

    @staticmethod
    def _start(tower: DiTStream, given: StreamInput | StreamContext | None, reads: Reads) -> StreamState | None:
        if given is None and reads is not Reads.SKIPPED:
            raise ValueError(f"the route reads {reads} in a stream that is not given")
        if reads is Reads.SKIPPED or not isinstance(given, StreamInput):
            return None
        return embed(tower, given)

    def _align(self, video: LatentClock, audio: LatentClock, grid: tuple[int, int, int]) -> None:
        """Where the video finds what it hears, and the audio what it sees: the partition and its rotation for each."""
        model, config = self.model, self.model.config
        alignment, scale = align(video, audio, config.centre, config.clock_mode), config.cca_time_scale
        if model.variant.positions == "index":
            alignment, scale = by_index(alignment), 1.0
        heard: Places
        seen: Places
        if model.variant.sees_all:
            towers = (tower.config.attention_head_dim for tower in (model.video_stream, model.audio_stream))
            heard, seen = model.variant.places(alignment, grid, (*towers, config.cca_head_dim), scale)
        else:
            heard = alignment, time_rotary(scale * alignment.window_offset, config.cca_head_dim)
            seen = alignment, time_rotary(scale * alignment.offset, config.cca_head_dim)
        self.heard, self.seen = (tuple(part.to(model.device) for part in places) for places in (heard, seen))

    def set(self, video: StreamState | None, audio: StreamState | None) -> None:
        self.states = (video, audio)

    def block(
        self, index: int, control: Control | None, video: StreamState | None, audio: StreamState | None
    ) -> tuple[StreamState | None, StreamState | None]:
        """One block of both streams. CCA in both directions reads the states from before it (symmetric)."""
        model = self.model
        video_block, audio_block = model.video_stream.blocks[index], model.audio_stream.blocks[index]
        video = video and model.attend(video_block, video)
        audio = audio and model.attend(audio_block, audio)
        video, audio = (
            video and model.join(video_block, video, self._video_update(index, audio)),
            audio and model.join(audio_block, audio, self._audio_update(index, video)),
        )
        if video is not None and control is not None:
            video = video.with_x(control(index, video.x))
        return video and video_block.feed_forward(video), audio and audio_block.feed_forward(audio)

    def _video_update(self, index: int, audio: StreamState | None) -> Update:
        cca = self.model.video_cca[index]
        if self.route.video is not Reads.OTHER:
            return cca.alone
        if self.kept_audio is not None:
            kv = self.kept_audio.key_values[index]
        else:
            assert audio is not None, "the route joins the streams"
            kv = cca.read(audio.x)
        return lambda *own: cca.from_audio(*own, kv, *self.heard)

    def _audio_update(self, index: int, video: StreamState | None) -> Update:
        cca = self.model.audio_cca[index]
        if self.route.audio is not Reads.OTHER:
            return cca.alone
        if self.kept_video is not None:
            kv = self.kept_video.key_values[index]
        else:
            assert video is not None, "the route joins the streams"
            kv = cca.read(video.x)
        return lambda *own: cca.from_video(*own, kv, *self.seen)
