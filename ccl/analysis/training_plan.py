"""What a training configuration needs: memory of a process, operations and time of a step, bytes of its shards.

Shapes alone are looked at: the model stands on the meta device as `ccl.training.meta_run` makes it, so that adapters,
frozen parts and the control network count as they are trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ccl.analysis.memory_estimate import (
    BF16,
    FP32,
    GIB,
    LatentSizes,
    MemoryUse,
    Parameters,
    Setting,
    carried_on,
    states,
    step_bytes,
)
from ccl.flops import task_flops
from ccl.routing import Reads, Task
from ccl.training.meta_run import MetaModels, StepCost, layers_of, step_cost
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

HOST_LINK = 20e9  # bytes a second between host and GPU that are assumed: PCIe 4.0 x16 in practice
TEXT_TOKENS_KEPT = 64  # of a caption in a shard, which ends with its last token


class Card(NamedTuple):
    """A GPU: memory in GiB, and its name among `shared.training.flops.PEAKS`."""

    gib: float
    name: str


CARDS = {
    "h100": Card(79.6, "H100"),
    "h200": Card(139.8, "H200"),
    "a100": Card(79.1, "A100"),
    "4090": Card(24, "RTX 4090"),
}
RESERVE = 1.5  # GiB that the CUDA context and fragmentation are taken to need


@dataclass(frozen=True)
class TrainingPlan:
    """Of one process: `parameters`, `rows` of memory with the activations last. Of one `clip`, on the average of the
    tasks: its tokens, operations. Of a step: `clips` of all processes."""

    parameters: Parameters
    rows: list[MemoryUse]
    clip: StepCost
    clips: int
    micro_batch: int

    @property
    def gpu(self) -> int:
        return sum(row.gpu for row in self.rows)

    @property
    def host(self) -> int:
        return sum(row.host for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens of all streams that run in a step."""
        return self.clip.tokens * self.clips

    def seconds(self, config: TrainConfig, gpus: int, peak: float, mfu: float) -> float:
        """Seconds of a step where each GPU does `mfu` of its `peak` operations a second, and the link to the host
        carries what is offloaded."""
        zero, passes = zero_section(config), 3 if config.train.activation_checkpointing else 2
        moved = 0
        if offloads(zero, "offload_param"):
            moved += passes * config.train.gradient_accumulation_steps * FP32 * self.parameters.all // gpus
        if offloads(zero, "offload_optimizer"):
            moved += 2 * FP32 * self.parameters.trained // gpus
        return self.clip.flops * self.clips / (gpus * peak * mfu) + moved / HOST_LINK


def zero_section(config: TrainConfig) -> dict[str, Any]:
    """Give `zero_optimization` of the DeepSpeed file."""
    return dict(config.deepspeed.get("zero_optimization", {}))


def offloads(zero: dict[str, Any], what: str) -> bool:
    """Whether `what` of a `zero_optimization` lies off the GPU."""
    return (zero.get(what) or {}).get("device", "none") != "none"


def setting_of(config: TrainConfig, gpus: int) -> Setting:
    """Read how the run keeps its state. UserError for offload at a stage that has none."""
    train, zero = config.train, zero_section(config)
    to: Any = "all" if offloads(zero, "offload_param") else "none"
    if to == "none" and offloads(zero, "offload_optimizer"):
        to = "optimizer"
    bucket, blocks = int(zero.get("reduce_bucket_size", 5e8)), config.model.get("video", {}).get("num_layers", 1)
    parts = blocks if train.activation_checkpointing else 1
    try:
        return Setting(zero.get("stage", 0), gpus, train.precision, bool(train.ema), to, bucket, parts)
    except ValueError as error:
        raise UserError(f"deepspeed.zero_optimization: {error}") from None


def clips_at_once(config: TrainConfig, tokens: int) -> int:
    """Count the clips of so many `tokens` in a micro-batch."""
    most = config.train.micro_batch or config.train.token_budget or 1
    return most if config.train.token_budget is None else max(1, min(most, config.train.token_budget // tokens))


def plan_training(config: TrainConfig, components: Any, sizes: LatentSizes, gpus: int) -> TrainingPlan:
    """Plan a run of so many GPUs on clips of `sizes`. UserError for settings that do not fit."""
    models = MetaModels(config, components, None if config.init is None else layers_of(config)[0])
    tokens, groups = sizes.tokens(models.patch), gpus // config.train.context_parallel
    if groups < 1:
        raise UserError(f"train.context_parallel {config.train.context_parallel}: {gpus} GPUs are fewer")
    batch = clips_at_once(config, tokens.video + tokens.audio)
    counted = Parameters.of(models)
    peak = max(_pass(config, components, sizes, batch, task)[1] for task in _heaviest(config))
    dims = config.model["video"].get("text_dim", components.text.dim) + components.text.dim
    rows = [*states(counted, setting_of(config, gpus)), MemoryUse("text embeddings", FP32 * batch * sizes.text * dims)]
    if config.distill is not None:
        copies = FP32 * counted.all * (2 if config.distill.teacher else 1)
        rows.append(MemoryUse("distillation: teacher, average in use", copies))
    together = config.train.context_parallel
    how = "blocks computed again" if config.train.activation_checkpointing else "all kept"
    rows.append(MemoryUse(f"activations at their peak, {how}", peak // together))
    clips = batch * config.train.gradient_accumulation_steps * groups
    return TrainingPlan(counted, rows, _cost(config, models, sizes), clips, batch)


def _pass(config: TrainConfig, components: Any, sizes: LatentSizes, batch: int, task: Task) -> tuple[int, int]:
    """Count what a pass of `task` keeps and allocates."""
    train, (layers, every) = config.train, layers_of(config)

    def count(depth: int) -> Any:
        models = MetaModels(config, components, depth)
        inputs = sizes.inputs(models.transformer, batch)
        return step_bytes(models, lambda: models.loss(task, *inputs), train.precision, train.activation_checkpointing)

    return tuple(carried_on(count, layers, every if task is Task.MTV else 1))  # type: ignore[return-value]


def _heaviest(config: TrainConfig) -> list[Task]:
    """List the tasks that may need most: both streams where a run has that, and mtv."""
    if config.trains("t2av", "part"):
        return [Task.T2AV, *([Task.MTV] if config.trains("mtv") else [])]
    return [task for task in Task if config.trains(task)]


def _cost(config: TrainConfig, models: MetaModels, sizes: LatentSizes) -> StepCost:
    """Average a clip's tokens and operations over tasks and phases."""
    tokens, total, start = sizes.tokens(models.patch), StepCost(), 0
    for phase in config.phases or [config.phase_at(0)]:
        end = config.phase_end(phase) if config.phases else config.train.steps
        weight = (end - start) / config.train.steps / sum(phase.tasks.values())
        start = end
        for task in (Task(name) for name, share in phase.tasks.items() if share > 0):
            route, share = task.route, phase.tasks[task.value] * weight
            read = tokens.video * (route.video is not Reads.SKIPPED) + tokens.audio * (route.audio is not Reads.SKIPPED)
            flops = task_flops(models.transformer, tokens, Task.T2AV if task is Task.PART else task)
            if task is Task.MTV and models.control is not None:
                flops += models.control.forward_flops(tokens.frames, tokens.space)
            one = step_cost(read, flops, models.learns, config.train.activation_checkpointing)
            total += StepCost(round(share * one.tokens), share * one.flops, share * one.hardware_flops)
    return total


def shard_bytes(config: TrainConfig, components: Any, sizes: LatentSizes) -> int:
    """Count the bytes of a clip in shards: latents in 16 bits, and its captions' embeddings in bf16."""
    video, audio = (getattr(components.codecs, name).latent_channels for name in ("video", "audio"))
    latents = BF16 * (video * sizes.frames * sizes.height * sizes.width + audio * sizes.audio)
    return latents + 2 * BF16 * min(sizes.text, TEXT_TOKENS_KEPT) * components.text.dim


def gib(size: float) -> str:
    """Write bytes in GiB."""
    return f"{size / GIB:.1f}"
