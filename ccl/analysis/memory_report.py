"""The table of `scripts/benchmark.py memory`: what a training step of a model keeps on each GPU, from shapes alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from ccl.analysis.benchmark_options import Reported, model_config
from shared.utils.cli import exclusive, option
from shared.utils.errors import UserError
from shared.utils.ranges import Amount, Batch, Count, Fps, Natural, Seconds, Side, Stride, Width

if TYPE_CHECKING:  # options are checked before torch is imported
    from ccl.analysis.memory_estimate import LatentSizes

TEMPORAL_STRIDE = 4  # of all video codecs here
FRAMES = 81
COLUMNS = f"{'bytes per GPU':48s}{'GPU':>18s}{'GiB':>9s}{'host':>18s}{'GiB':>9s}"


class MemoryOptions(Reported):
    """Bytes per GPU of a training step, from shapes alone."""

    model: str = option(help="a name in configs/model/, or a file")
    zero: Literal["0", "1", "2", "3"] = option(help="of ZeRO, 0 to 3", metavar="STAGE")
    gpus: Natural = option(help="of all nodes together")
    batch: Batch = option(1, "clips per GPU and micro-step")
    task: Literal["t2av", "t2v", "t2a", "a2v", "v2a"] = option("t2av", "what is trained")
    frames: Natural | None = option(None, f"of the clip ({FRAMES})")
    seconds: Seconds | None = option(None, "of the clip, instead of --frames")
    fps: Fps = option(16.0, "of the video")
    height: Side = option(352, "pixels")
    width: Side = option(640, "pixels")
    spatial_stride: Stride | None = option(None, "pixels per video latent (16 for 48 channels, else 8)")
    audio_rate: Amount = option(25.0, "audio tokens per second")
    text_tokens: Width = option(512, "of a prompt")
    precision: Literal["bf16", "fp32"] = option("bf16", "of the products")
    no_ema: bool = option(False, "no average of the weights is kept")
    offload: Literal["none", "optimizer", "all"] = option("none", "to the host")
    bucket: Count = option(500_000_000, "values per bucket of DeepSpeed's reduction")

    @model_validator(mode="after")
    def _one_length(self) -> MemoryOptions:
        exclusive(self, "frames", "seconds")
        if self.clip_frames < 1:
            raise ValueError(f"{self.clip_frames} frames; a clip has at least one")
        return self

    @property
    def clip_frames(self) -> int:
        if self.seconds is not None:
            return round(self.seconds * self.fps)
        return FRAMES if self.frames is None else self.frames


def memory_report(options: MemoryOptions) -> tuple[dict[str, Any], str]:
    """Count bytes by what keeps them, and make the table. UserError for sizes or a setting that cannot be."""
    config = model_config(options.model)
    from ccl.analysis.memory_estimate import GIB, MemoryUse, Setting, activations, parameters, states
    from ccl.routing import Task

    kept = (options.precision, not options.no_ema, options.offload, options.bucket)
    try:
        setting = Setting(int(options.zero), options.gpus, *kept)
    except ValueError as error:
        raise UserError(str(error)) from None
    patch, sizes = latent_sizes(options, config)
    try:
        counted = parameters(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"--model {options.model}: {error}; see configs/model/") from None
    pass_of = (config, sizes, options.batch, Task(options.task), options.precision)
    whole, blocks = (activations(*pass_of, checkpointing) for checkpointing in (False, True))
    text_dims = config["video"]["text_dim"] + config["audio"]["text_dim"]
    text = 4 * options.batch * options.text_tokens * text_dims  # of both streams, fp32
    rows = [*states(counted, setting), MemoryUse("text embeddings", text)]
    gpu, host = sum(row.gpu for row in rows), sum(row.host for row in rows)
    peaks = {"no checkpointing": whole.peak, "checkpointing of every block": blocks.peak}
    rows += [MemoryUse(f"activations, {how}", peak) for how, peak in peaks.items()]
    rows += [MemoryUse(f"all, {how}", gpu + peak, host) for how, peak in peaks.items()]
    lines = [f"{r.what:48s}{r.gpu:18,d}{r.gpu / GIB:9.2f}{r.host:18,d}{r.host / GIB:9.2f}" for r in rows]
    tokens, averaged = sizes.tokens(patch), "without average" if options.no_ema else "with average"
    numbers = {"parameters": counted.all, "bytes": {row.what: {"gpu": row.gpu, "host": row.host} for row in rows}}
    return numbers, "\n".join([
        f"{options.model}: {counted.all:,} parameters, ZeRO-{options.zero} on {options.gpus} GPUs, "
        f"{options.precision}, offload: {options.offload}, {averaged}",
        f"task {options.task}, {options.batch} clips per GPU of {options.height}x{options.width} at {options.fps:g} "
        f"fps; tokens of a clip: video {sizes.frames} x {tokens.space} = {tokens.video:,}, audio {tokens.audio:,}, "
        f"text {tokens.text} for each", "", COLUMNS, *lines, "",
        f"Activations are those of the worst moment; when the forward pass ends, {whole.kept / GIB:.2f} GiB and "
        f"{blocks.kept / GIB:.2f} GiB of them are kept.",
        "Not counted: the CUDA context, fragmentation, codecs and encoders.",
    ])  # fmt: skip


def latent_sizes(options: MemoryOptions, config: dict[str, Any]) -> tuple[tuple[int, int], LatentSizes]:
    """Patch of the model (height, width), and latents of the clip."""
    from ccl.analysis.memory_estimate import LatentSizes

    stride = options.spatial_stride or (16 if config["video"]["in_channels"] == 48 else 8)
    _, *patch = config["video"].get("patch_size", (1, 2, 2))
    for name, side in zip(("height", "width"), patch, strict=True):
        if (pixels := getattr(options, name)) % (stride * side):
            raise UserError(f"--{name} {pixels} is no multiple of {stride * side}, codec stride times patch")
    frames = options.clip_frames
    latents = 1 + math.ceil((frames - 1) / TEMPORAL_STRIDE), options.height // stride, options.width // stride
    tokens = math.ceil(frames / options.fps * options.audio_rate), options.text_tokens
    return (patch[0], patch[1]), LatentSizes(*latents, *tokens, options.fps, TEMPORAL_STRIDE, options.audio_rate)
