"""DualStreamTransformer: a video DiT and an audio DiT, joined in every block by CCA (CCL paper)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, get_args

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks import HookRegistry
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from ccl.baselines import Variant
from ccl.context_attention import ContextAttention, KeyValue
from ccl.fusion import RotaryArguments
from ccl.joint_block import JointBlock, States
from ccl.parts import GivenPart, PartEmbedding
from ccl.routing import Reads, Route, Task
from ccl.step_cache import HOOK, Evaluations, apply_stream_cache
from ccl.tarp import Centre, ClockMode, WindowFrom, align
from shared.nn.cache_context import StreamCacheConfig
from shared.nn.clock import LatentClock
from shared.nn.context_parallel import ContextParallelMixin
from shared.nn.dit import Control, DiTStream, DivisibleControl, StreamConfig, StreamState, modules
from shared.nn.memory_alignment import AlignedModelMixin
from shared.nn.timed_text import Text


@dataclass(frozen=True)
class StreamInput:
    """One stream's part of a forward pass."""

    latents: Tensor  # video [B, C, F, H, W] or audio [B, A, C], noisy or clean
    sigma: Tensor  # [B], or one per latent in time, [B, F] or [B, A]; 0 clean .. 1 noise
    text: Text  # [B, L, text_dim], or texts over time
    clock: LatentClock  # when each latent lives
    part: GivenPart | None = None  # of the audio stream, on task part
    until: Tensor | None = None  # as sigma: the velocity is the average from sigma down to there; None: at sigma


@dataclass(frozen=True)
class StreamContext:
    """A clean stream already run: its keys and values for the other's CCA, per block, unrotated. Made once per text."""

    key_values: list[KeyValue | None]  # None in blocks that were left out
    clock: LatentClock
    grid: tuple[int, int, int]


#: A stream's part of a pass; None where it has none.
Given = StreamInput | StreamContext | None
STREAMS = ("video", "audio")


class DualStreamTransformer(
    ContextParallelMixin, PeftAdapterMixin, AlignedModelMixin, ModelMixin, ConfigMixin, CacheMixin
):
    """Two `shared.nn.dit` streams of equal depth, whose blocks are joined (`ccl.joint_block`).

    A parameter's name tells its part: `video_stream.` and `audio_stream.` are what stands before and after the blocks;
    `blocks.N.video.`, `blocks.N.audio.` and `blocks.N.fusion.` a block of each stream and what joins them.

    Args:
        video, audio: arguments of `StreamConfig`; audio latents are tokens, its patch is 1 and its grid `time`.
        cca_heads, cca_head_dim: CCA's inner width (`cca_dim`) is their product.
        context_tokens: L, learnable context tokens per block and direction.
        centre, clock_mode: the partition's form (`ccl.tarp.align`).
        window_from: what says how many audio tokens a video frame reads, with `centre: exact`. `rates`: those of the
            codecs, so that it is the same at any length of the clip; `counts`: ⌊A/F⌋ of the clip, as checkpoints
            without this key were trained. `centre: paper` is always by counts.
        cca_time_scale: angle, in radians per video latent, of CCA's fastest rotary band. At 1 a query hardly tells the
            audio tokens of one latent apart; 2π·A/F turns it once per token (docs/design.md, "Clock and TARP").
        fusion, positions, partition, routing: for ablation; the defaults are CCL (`ccl.baselines.Variant`).
        unconditional: what CCA adds at 0m, where the other stream is not read: `context`, what it finds in its context
            tokens; `zero`, nothing, so that each tower is what it is alone, as in a converted Ovi.
        fusion_time_unit: seconds per unit of the temporal band where `fusion: full` places audio tokens, by their
            starts; null: token j of A at j·F/A.
        parts: tracks that task part may give, of speech and effects (`ccl.parts`).
        distilled: what sampling in few steps has to know of a model that is trained for it, both of whose streams have
            `average` (`shared.nn.few_steps`).

    Raises ValueError for towers of different depth, patches that join latents in time, or no such variant.
    """

    _supports_gradient_checkpointing = True
    _keep_in_fp32_modules = [  # noqa: RUF012
        "time_embedder", "rate_embedder", "until_embedder", "scale_shift_table", "norm1", "norm2", "norm3",
    ]  # fmt: skip
    _no_split_modules = ["JointBlock"]  # noqa: RUF012
    _repeated_blocks = ["JointBlock"]  # noqa: RUF012
    # what stays as it is where weights are kept in fp8: the ends of a stream, and what tells it the noise level
    _skip_layerwise_casting_patterns = ["condition_embedder", "proj_out", "skip", "stream.gate"]  # noqa: RUF012

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
        window_from: str = "counts",
        cca_time_scale: float = 1.0,
        fusion: str = "cca",
        positions: str = "aligned",
        partition: bool = True,
        routing: str = "dynamic",
        parts: Sequence[str] = (),
        distilled: Mapping[str, Any] | None = None,
        unconditional: str = "context",
        fusion_time_unit: float | None = None,
    ) -> None:
        super().__init__()
        self.variant = Variant(fusion, positions, partition, routing)
        for name, value, known in (
            ("centre", centre, get_args(Centre)),
            ("clock_mode", clock_mode, get_args(ClockMode)),
            ("window_from", window_from, get_args(WindowFrom)),
            ("unconditional", unconditional, ("context", "zero")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        if fusion_time_unit is not None and fusion != "full":
            raise ValueError(f"fusion_time_unit places the tokens of fusion full, not of {fusion}; leave it out")
        v, a = StreamConfig(**video), StreamConfig(**{"grid": "time", "patch_size": (1, 1, 1), **audio})
        if (v.patch_size[0], *a.patch_size) != (1, 1, 1, 1):
            raise ValueError(f"CCA needs a token per latent in time: patches {v.patch_size} and {a.patch_size}")
        if v.num_layers != a.num_layers:
            raise ValueError(f"both towers need the same depth: video {v.num_layers} blocks, audio {a.num_layers}")
        if v.average != a.average or bool(distilled) > v.average:
            raise ValueError("average: both streams have it or none, and a model that is distilled has it")
        self.video_stream, self.audio_stream = DiTStream(v), DiTStream(a)
        kind, sizes = self.variant.kind, (cca_heads, cca_head_dim, context_tokens)
        video_reads = [kind.build("video", v, a, sizes) for _ in range(v.num_layers)]
        audio_reads = [kind.build("audio", a, v, sizes) for _ in range(v.num_layers)]
        for reader in (*video_reads, *audio_reads):
            if unconditional == "zero" and isinstance(reader, ContextAttention):
                reader.reads_context_alone = False
        blocks = self.video_stream.lend_blocks(), self.audio_stream.lend_blocks()
        self.blocks = modules(map(JointBlock, *blocks, map(kind, video_reads, audio_reads)))
        # the last that is made: without it all others are drawn alike
        self.part_embedding = PartEmbedding(a.in_channels, a.width, parts) if parts else None
        self.gradient_checkpointing = False

    @property
    def has_unconditional(self) -> bool:
        """Whether guidance may compare with 0m. The papers of `full` and `appended` guide by text only, and without DCR
        no stream is ever alone."""
        return not self.variant.kind.inside_text_attention and self.variant.routing == "dynamic"

    def forward(
        self, route: Route, video: Given, audio: Given, video_control: Control | None = None,
        skip_layers: Collection[int] = (),
    ) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
        """Predict the velocity of each noisy stream of `route`: (video [B, C, F, H, W], audio [B, A, C]), else None.

        A clean stream may be given as the `StreamContext` of an earlier run; skipped streams are ignored. Blocks in
        `skip_layers` are left out, of both streams. Raises UserError, without DCR (`routing: joint`), for a route on
        which a stream is alone.
        """
        route = route.joint if self.variant.routing == "joint" else route
        v, a = start(self.video_stream, video, route.video), start(self.audio_stream, audio, route.audio)
        states = v, a and self._with_part(a, audio)
        rotary = self._rotary(route, video, audio, states[0])
        states, rotary, video_control = self._divided(states, rotary, video_control)
        cached_video, cached_audio = (
            given.key_values if isinstance(given, StreamContext) else [None] * len(self.blocks)
            for given in (video, audio)
        )
        for index, block in enumerate(self.blocks):
            if index in skip_layers:
                continue
            control = video_control and partial(video_control, index)
            states = self._run(block, states, route, rotary, (cached_video[index], cached_audio[index]), control)
        v, a = states
        return (
            head(self.video_stream, v) if v is not None and route.video_noisy else None,
            head(self.audio_stream, a).flatten(2).transpose(1, 2) if a is not None and route.audio_noisy else None,
        )

    def _run(
        self, block: JointBlock, states: States, route: Route, rotary: RotaryArguments,
        cached: tuple[KeyValue | None, KeyValue | None], control: Callable[[Tensor], Tensor] | None,
    ) -> States:  # fmt: skip
        """Run one block, computed again by the backward pass where that is chosen. A compiled one runs in two halves
        around the control: every step brings another, for which it would be compiled anew."""

        def run(module: Callable[..., Any], *arguments: Any) -> Any:
            checkpointed = torch.is_grad_enabled() and self.gradient_checkpointing
            return self._gradient_checkpointing_func(module, *arguments) if checkpointed else module(*arguments)

        if control is None or states[0] is None or block._compiled_call_impl is None:
            return run(block, *states, route, rotary, *cached, control)
        video, audio = run(block, *states, route, rotary, *cached, None, "attentions")
        return run(block, video.with_x(run(control, video.x)), audio, route, rotary, *cached, None, "feed-forward")

    def enable_cache(self, config: StreamCacheConfig) -> None:
        """Leave out what hardly changes from step to step (`ccl.step_cache`); `cache_evaluations` counts it. ValueError
        for another cache, a second one, or blocks that cannot have it."""
        if not isinstance(config, StreamCacheConfig):
            raise ValueError(f"{type(config).__name__} does not know two streams; ccl.StreamCacheConfig is needed")
        if self.is_cache_enabled:
            raise ValueError("there is a step cache already; disable_cache first")
        if self.context_group is not None:  # each process would decide for itself, and they would wait for each other
            raise ValueError("a step cache and context parallel do not go together; leave one of them out")
        self.cache_evaluations: Evaluations = apply_stream_cache(self.blocks, config)
        HookRegistry.check_if_exists_or_initialize(self).invalidate_child_registries_cache()
        self._cache_config = config

    def disable_cache(self) -> None:
        """Run all blocks in every step again."""
        registry = HookRegistry.check_if_exists_or_initialize(self)
        registry.remove_hook(HOOK, recurse=True)
        registry.invalidate_child_registries_cache()
        self._cache_config = None  # type: ignore[assignment]

    def denoise_video(
        self, latents: Tensor, sigma: Tensor, text: Text, clock: LatentClock, control: Control | None = None,
        until: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Predict the video's velocity [B, C, F, H, W] alone (t2v, mtv); arguments as `StreamInput`'s."""
        video, _ = self(Task.T2V.route, StreamInput(latents, sigma, text, clock, until=until), None, control)
        assert video is not None, "the route makes video"
        return video

    @apply_forward_hook
    def context(
        self, stream: str, given: StreamInput, detach: bool = False, skip_layers: Collection[int] = ()
    ) -> StreamContext:
        """Run a clean stream ("video" or "audio") on its context tokens once, for the other stream to read.

        The result depends on the text and the content only, not on the step; without DCR (`routing: joint`) it would,
        a ValueError. With `detach` the clean tower learns nothing from the other stream's loss; what reads it does.
        `skip_layers` are those of the passes that it is for.
        """
        if self.variant.routing == "joint":
            raise ValueError("with routing: joint a clean stream reads the noisy one; run it in every step")
        learns = torch.is_grad_enabled() and not detach
        with torch.set_grad_enabled(learns):
            state = embed(self.video_stream if stream == "video" else self.audio_stream, given)
            grid = state.grid
            if self.context_group is not None:
                state = state.divided(self.context_group, stream)
        key_values: list[KeyValue | None] = []
        for index, block in enumerate(self.blocks):
            key_value = None
            if index not in skip_layers:
                state, key_value = block.run_clean(stream, state, learns)
            key_values.append(key_value)
        return StreamContext(key_values, given.clock, grid)

    def parallel_heads(self) -> dict[str, int]:
        """Heads of each stream's self-attention."""
        configs = self.video_stream.config, self.audio_stream.config
        return {name: config.num_attention_heads for name, config in zip(STREAMS, configs, strict=True)}

    def _divided(
        self, states: States, rotary: RotaryArguments, control: Control | None
    ) -> tuple[States, RotaryArguments, Control | None]:
        """Keep what this process holds of the streams, where a group holds them together."""
        if (group := self.context_group) is None:
            return states, rotary, control
        fusion, (video, audio) = self.blocks[0].fusion, states
        video = video and video.divided(group, "video")
        here = video.shard if video is not None else None
        beside = fusion.audio_shard(rotary, here) if audio is not None and here is not None else None
        audio = audio and (audio.divided(group, "audio") if beside is None else audio.of_shard(beside))
        if any(rotary):
            rotary = fusion.of_shards(rotary, here, None if audio is None else audio.shard)
        if control is not None and here is not None:
            control = cast(DivisibleControl, control).of_latents(here.latents)
        return (video, audio), rotary, control

    def _with_part(self, state: StreamState, given: Given) -> StreamState:
        """Add the given track, where there is one, to the tokens of the audio stream."""
        if not isinstance(given, StreamInput) or given.part is None:
            return state
        if self.part_embedding is None:
            raise ValueError("a track is given to a model without parts")
        return state.with_x(state.x + self.part_embedding(given.part).type_as(state.x))

    def _rotary(self, route: Route, video: Given, audio: Given, state: StreamState | None) -> RotaryArguments:
        """Make what both directions need of the clocks; `state` is the video's, unless it was cached."""
        if not route.has_context:
            return {}, {}
        if video is None or audio is None:
            raise ValueError(f"the route {route} joins the streams, so both are needed")
        source = video if isinstance(video, StreamContext) else state
        assert source is not None, "the route reads the video"
        config, scale = self.config, self.config.cca_time_scale
        alignment = align(video.clock, audio.clock, config.centre, config.clock_mode, config.window_from)
        alignment, scale = self.variant.placed(alignment, scale)
        arguments: Any = self.blocks[0].fusion.rotary_arguments
        if config.fusion_time_unit is not None:  # of fusion full, which alone takes them
            places = torch.tensor(audio.clock.starts, dtype=torch.float64) / config.fusion_time_unit
            arguments = partial(arguments, audio_places=places)
        v, a = arguments(alignment, source.grid, scale)
        return {k: part.to(self.device) for k, part in v.items()}, {k: part.to(self.device) for k, part in a.items()}


def head(stream: DiTStream, state: StreamState) -> Tensor:
    """Predict [B, C, F, H, W], all latents of it."""
    out = stream.head(state)
    return out if state.shard is None else state.shard.whole(out, dim=2)


def start(stream: DiTStream, given: Given, reads: Reads) -> StreamState | None:
    """Make the stream's state before its first block; None if it is not computed, or has been."""
    if given is None and reads is not Reads.SKIPPED:
        raise ValueError(f"the route reads {reads} in a stream that is not given")
    return embed(stream, given) if isinstance(given, StreamInput) and reads is not Reads.SKIPPED else None


def embed(stream: DiTStream, given: StreamInput) -> StreamState:
    """Bring a stream's input into its tower: audio tokens [B, A, C] become A frames of 1x1."""
    latents = given.latents
    if latents.ndim == 3:
        latents = latents.transpose(1, 2)[..., None, None]
    if len(given.clock) != latents.shape[2]:
        raise ValueError(f"a clock of {len(given.clock)} latents does not fit {latents.shape[2]} latents")
    return stream.embed(latents, given.sigma, given.text, given.clock, given.until)
