"""What `scripts/plan.py` prints: memory, time and disk of a training configuration on so many GPUs, and of samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ccl.analysis.benchmark_options import Reported
from shared.utils.cli import Options, exclusive, option
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.markdown import markdown_table
from shared.utils.ranges import Amount, Count, Seconds, Stride, Width, Workers
from shared.utils.text_files import parse_yaml, read_text

if TYPE_CHECKING:  # options are checked before torch is imported
    from ccl.analysis.memory_estimate import LatentSizes, MemoryUse
    from ccl.analysis.training_plan import TrainingPlan

CardName = Literal["h100", "h200", "a100", "4090"]
SECONDS = 121 / 24  # of a clip whose length the configuration does not say
HEAD = ("recipe", "GPUs", "GiB of each", "GiB of host", "clips a step", "tokens a second", "to step", "hours",
        "GPU-hours", "shards a clip")  # fmt: skip


class PlanOptions(Reported):
    """Options of scripts/plan.py."""

    config: Path | None = option(None, "a YAML file of configs/train/")
    overrides: list[str] = option(
        [], "override one key of it; any number of times", name="set", metavar="KEY=VALUE", repeat=True
    )
    recipes: Path | None = option(None, "instead: a list such as configs/recipes.yaml; a table of all is printed")
    gpus: Workers = option(1, "of all nodes together")
    card: CardName = option("h100", "80 GB, 141 GB, 80 GB or 24 GB")
    price: Amount | None = option(None, "of an hour of one GPU, in any currency")
    mfu: Annotated[float, Field(gt=0, le=1)] = option(
        0.4, "share of the card's bf16 peak that the model's operations get"
    )
    seconds: Seconds | None = option(None, f"of a clip; default: data.duration, or {SECONDS:.4g}")
    spatial_stride: Stride | None = option(
        None, "pixels per video latent; default: 16 for Wan 2.2's 48 channels, else 8"
    )
    audio_rate: Amount = option(25.0, "audio tokens per second")
    text_tokens: Width | None = option(None, "of a prompt; default: 512, of the embedded words 64")
    clips: Count = option(100_000, "that the shards hold")
    dtype: Literal["bfloat16", "float32", "none"] = option(
        "bfloat16", "of the weights when sampling; none: not looked at"
    )

    @model_validator(mode="after")
    def _one_source(self) -> PlanOptions:
        exclusive(self, "config", "recipes", required=True)
        return self


class Recipe(Options):
    """A line of the table: a configuration with what is set in it, and where it runs."""

    name: str
    config: str
    overrides: list[str] = Field(default=[], alias="set")
    gpus: Workers = 1
    card: CardName = "h100"

    @property
    def command(self) -> str:
        """Options of the training script and of plan.py alike."""
        given = (f"--set {one!r}" if " " in one else f"--set {one}" for one in self.overrides)
        return " ".join([f"--config {self.config}", *given])


def read_recipes(path: Path) -> list[Recipe]:
    """Read a list of recipes. UserError for a file that is none."""
    content = parse_yaml(read_text(path), f"--recipes {path}")
    try:
        return TypeAdapter(list[Recipe]).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--recipes {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


class Report(NamedTuple):
    """A plan and what follows from it on so many GPUs of a kind."""

    config: TrainConfig
    sizes: LatentSizes
    plan: TrainingPlan
    gpus: int
    gib: float  # of a card
    seconds: float  # of a step
    shard: int  # bytes of a clip

    @property
    def fits(self) -> bool:
        from ccl.analysis.training_plan import GIB, RESERVE

        return self.plan.gpu / GIB + RESERVE <= self.gib

    @property
    def hours(self) -> float:
        return self.seconds * self.config.train.steps / 3600

    def numbers(self) -> dict[str, Any]:
        """Give all of it for a file."""
        plan = self.plan
        rows = {row.what: {"gpu": row.gpu, "host": row.host} for row in plan.rows}
        return {
            "parameters": plan.parameters._asdict(), "bytes": rows, "gpu_bytes": plan.gpu, "host_bytes": plan.host,
            "fits": self.fits, "clips_a_step": plan.clips, "tokens_a_step": plan.tokens, "seconds_a_step": self.seconds,
            "hours": self.hours, "gpu_hours": self.hours * self.gpus, "shard_bytes_a_clip": self.shard,
        }  # fmt: skip

    def row(self, name: str) -> list[str]:
        """Make a line of the table of recipes."""
        from ccl.analysis.training_plan import gib

        plan, fits = self.plan, "" if self.fits else " (too much)"
        return [
            name, f"{self.gpus}", f"{gib(plan.gpu)} of {self.gib:g}{fits}", gib(plan.host), f"{plan.clips}",
            f"{plan.tokens / self.seconds:,.0f}", f"{self.config.train.steps:,}", f"{self.hours:,.0f}",
            f"{self.hours * self.gpus:,.0f}", f"{self.shard / 1e6:.1f} MB",
        ]  # fmt: skip


def report_of(config: TrainConfig, gpus: int, card: CardName, options: PlanOptions) -> Report:
    """Plan a configuration. UserError for one that cannot be."""
    from ccl.analysis.training_plan import CARDS, plan_training, shard_bytes
    from ccl.training.meta_run import forecast_components, known_peak

    components, kind = forecast_components(config), CARDS[card]
    sizes = clip_sizes(config, components, options)
    plan, peak = plan_training(config, components, sizes, gpus), known_peak(kind.name)
    assert peak is not None, "every card of the list is known"
    seconds = plan.seconds(config, gpus, peak, options.mfu)
    return Report(config, sizes, plan, gpus, kind.gib, seconds, shard_bytes(config, components, sizes))


def clip_sizes(config: TrainConfig, components: Any, options: PlanOptions) -> LatentSizes:
    """Find the latents of a clip of the configuration. UserError for a picture that is no whole number of them."""
    from ccl.analysis.memory_estimate import LatentSizes

    data, video = config.data, components.codecs.video
    large = components.text.dim == 4096
    stride = options.spatial_stride or (16 if large and video.latent_channels == 48 else 8)
    _, *patch = config.model["video"].get("patch_size", (1, 2, 2))
    for side, part in zip(data.size, patch, strict=True):
        if side % (stride * part):
            raise UserError(
                f"data.size {list(data.size)}: {side} is no multiple of {stride * part}, stride times patch"
            )
    frames = max(1, round((options.seconds or data.duration or SECONDS) * data.fps))
    latents = 1 + math.ceil((frames - 1) / video.temporal_stride), data.size[0] // stride, data.size[1] // stride
    text = options.text_tokens or (512 if large else 64)
    audio = math.ceil(frames / data.fps * options.audio_rate)
    return LatentSizes(*latents, audio, text, data.fps, video.temporal_stride, options.audio_rate)


def plan_text(report: Report, options: PlanOptions) -> str:
    """Write a plan out."""
    from ccl.analysis.training_plan import RESERVE

    plan, train, gpus = report.plan, report.config.train, report.gpus
    counted, sizes = plan.parameters, report.sizes
    zero = report.config.deepspeed.get("zero_optimization", {}).get("stage", 0)
    fits = "fits" if report.fits else "DOES NOT FIT"
    cost = f", {options.price * report.hours * gpus:,.0f} at {options.price:g} an hour" if options.price else ""
    lines = [
        f"{counted.all:,} parameters: {counted.trained:,} learn, {counted.frozen:,} are frozen; {train.precision}, "
        f"ZeRO-{zero} on {gpus} x {options.card}",
        f"a clip: {sizes.frames} x {sizes.height} x {sizes.width} video latents, {sizes.audio} audio tokens, "
        f"{sizes.text} of text; a step: {plan.clips} clips ({plan.micro_batch} at once), {plan.tokens:,} tokens",
        "",
        table([*plan.rows, _sum(plan.rows)]),
        f"of {report.gib:g} GiB, {RESERVE} of them for CUDA itself: {fits}",
        f"time, at an assumed MFU of {options.mfu:.0%}: {plan.tokens / report.seconds:,.0f} tokens a second, "
        f"{report.seconds:.2f} s a step, {report.hours:,.1f} hours and {report.hours * gpus:,.1f} GPU-hours to step "
        f"{train.steps:,}{cost}",
        f"shards: {report.shard / 1e6:.2f} MB a clip, {report.shard * options.clips / 1e9:,.1f} GB for "
        f"{options.clips:,} clips",
    ]  # fmt: skip
    return "\n".join(lines)


def sampling_text(config: TrainConfig, options: PlanOptions) -> tuple[dict[str, Any], str]:
    """Tell what one sample of the configuration's clip needs at each level of --memory."""
    import torch

    from ccl.analysis.sampling_plan import plan_sampling
    from ccl.analysis.training_plan import gib
    from ccl.training.meta_run import forecast_components

    components = forecast_components(config)
    sizes, dtype = clip_sizes(config, components, options), getattr(torch, options.dtype)
    plans = {level: plan_sampling(config, components, sizes, level, dtype) for level in ("fast", "balanced", "low")}
    totals = {level: _sum(rows) for level, rows in plans.items()}
    numbers = {level: {"gpu": one.gpu, "host": one.host} for level, one in totals.items()}
    cells = [[f"--memory {level}", gib(one.gpu), gib(one.host), plans[level][-1].what] for level, one in totals.items()]
    return numbers, markdown_table((f"a sample, {options.dtype}", "GiB of GPU", "GiB of host", "most"), cells)


def table(rows: list[MemoryUse]) -> str:
    """Write rows of memory in GiB."""
    from ccl.analysis.training_plan import gib

    return markdown_table(
        ("of each GPU", "GiB", "GiB of host"), [(row.what, gib(row.gpu), gib(row.host)) for row in rows]
    )


def _sum(rows: list[MemoryUse]) -> MemoryUse:
    from ccl.analysis.memory_estimate import MemoryUse

    return MemoryUse("all", sum(row.gpu for row in rows), sum(row.host for row in rows))
