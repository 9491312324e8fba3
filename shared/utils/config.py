"""Typed training configuration: one YAML file, plus `--set key=value`. Unknown keys are refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from shared.utils import config_file
from shared.utils.config_sections import (
    ComponentSources,
    Data,
    Distill,
    Flow,
    Lora,
    Loss,
    Optimizer,
    Part,
    Phase,
    Section,
    Task,
    TaskWeights,
    TrackSettings,
    Train,
    Validation,
    key,
)
from shared.utils.errors import UserError
from shared.utils.model_sections import ControlSettings, DeepSpeedSettings, ModelSettings, check_numbers
from shared.utils.ranges import Rate, Seed

# What a DeepSpeed JSON may hold, and where the train config keeps what it may not.
DEEPSPEED_KEYS = {"zero_optimization", "aio", "comms_logger", "flops_profiler", "wall_clock_breakdown"}
OWNED_BY_TRAIN = {
    "train_batch_size": "train.micro_batch and train.gradient_accumulation_steps",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "gradient_clipping": "train.max_grad_norm",
    **dict.fromkeys(("bf16", "fp16", "torch_autocast"), "train.precision"),
    "optimizer": "optimizer",
    "scheduler": "optimizer.warmup and optimizer.min_lr_ratio",
}
# Keys that change nothing about the weights a run arrives at.
FREE_KEYS: tuple[str, ...] = (
    "output", "data.latents", "data.on_bad_clip", "validation.", "train.activation_checkpointing",
    "train.checkpoint_every", "train.keep_checkpoints", "train.log_every", "train.export_dtype", "train.shard_size",
    "train.report_to", "train.peak_tflops", "train.context_parallel",
)  # fmt: skip


class TrainConfig(Section):
    """Everything a run depends on. `model`, `control` and `deepspeed` hold the contents of the files they name."""

    output: str = Field(description="Folder of the run; the same command again resumes in it.")
    seed: Seed = key(0, "Everything random follows from it.")
    model: dict[str, Any] = Field(description="A file of configs/model/, or its content.")
    init: str | None = key(None, "Checkpoint folder of the first weights and codecs; `model` and `control` must fit.")
    init_streams: str | None = key(None, "In place of `init`: checkpoint folder of both streams and codecs, no more.")
    data: Data
    codecs: str | None = key(None, "Folder with video_codec/ and audio_codec/; null fits a linear pair to the clips.")
    components: ComponentSources | None = None
    train: Train
    optimizer: Optimizer = Optimizer()
    tasks: TaskWeights = key(
        {"t2av": 0.6, "a2v": 0.15, "v2a": 0.15, "t2v": 0.1, "t2a": 0.1},
        "Weights of the tasks where there are no `phases`; they need not sum to 1.",
    )
    phases: list[Phase] = key([], "Stretches of training, one after the other; the last ends with it.")
    text_dropout: Rate = key(0.1, "How often the text is empty, for both streams together.")
    text_dropout_per_task: dict[Task, Rate] = key({}, "The same for single tasks: {v2a: 0.3}.")
    audio_caption_rate: Rate = key(0.5, "How often the audio stream reads the audio caption instead of the caption.")
    clean_frames: Rate = key(0.1, "How often a video sample keeps its first latents clean (image to video).")
    keyframes: Rate = key(0.0, "How often it has one to three clean latents anywhere, each of a still frame.")
    clean_spans: Rate = key(
        0.0, "How often a sample with no other clean latents keeps spans clean: of video, sound, or the same of both."
    )
    control: dict[str, Any] | None = key(
        None, "Control network of task mtv: a file of configs/model/, or its content; sizes are filled in."
    )
    tracks: TrackSettings = TrackSettings()
    trainable: list[Part] = key(
        ["transformer", "control"],
        "What learns; fusion: what joins the streams; attention: the video stream's; holistic: music's way in control.",
    )
    lora: Lora | None = None
    reinit: list[Literal["control", "holistic", "fusion.video", "fusion.audio"]] = key(
        [], "Parts that begin anew though `init` has them; fusion.audio: what the audio stream reads the video by."
    )
    detach_clean_stream: bool = key(False, "In a2v and v2a the given stream learns nothing from the other's loss.")
    loss: Loss = Loss()
    flow: Flow = Flow()
    distill: Distill | None = None
    validation: Validation = Validation()
    deepspeed: dict[str, Any] = key(
        {"zero_optimization": {"stage": 1}}, "A file of configs/deepspeed/, or its content: ZeRO and offload."
    )

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: list[str] | None = None) -> Self:
        """Read a YAML file and apply `overrides` ("train.steps=40", dotted key, YAML value) in order.
        `model:`, `deepspeed:` and `control:` may name a file, looked for from the working directory, then from the
        config's folder upwards; its content takes its place. UserError names the file and the nearest known key."""
        raw = config_file.read(Path(path), overrides or [])
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise UserError(config_file.explain(error, Path(path), cls)) from None

    @property
    def routes_text(self) -> bool:
        """Whether the model reads a clip's texts over time, each latent its own, or the caption alone."""
        return True

    def trains(self, *tasks: str) -> bool:
        """Whether any step may be on one of `tasks`."""
        used = [phase.tasks for phase in self.phases] or [self.tasks]
        return any(weight > 0 for weights in used for task, weight in weights.items() if task in tasks)

    @property
    def parts(self) -> list[str]:
        """Tracks that task part gives, in the model's order; none where it is not trained."""
        return list(self.model.get("parts", ())) if self.trains("part") else []

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        check_numbers("model", self.model, ModelSettings)
        check_numbers("control", self.control, ControlSettings)
        check_numbers("deepspeed", self.deepspeed, DeepSpeedSettings)
        if self.reinit and not self.init:
            raise ValueError(f"reinit: {', '.join(self.reinit)} begin anew in any case: there is no init")
        if self.lora and not self.init:
            raise ValueError("lora: adapters change the weights of a checkpoint; set init to its folder")
        if self.train.compile and self.train.context_parallel > 1:
            raise ValueError("train.compile cannot compile what train.context_parallel exchanges; set it false")
        if self.lora and self.lora.dropout and self.train.context_parallel > 1:
            raise ValueError("lora.dropout: processes that share a sample draw alike for unlike tokens; set it 0")
        if self.distill is not None:
            self._check_distill()
        if self.init and self.init_streams:
            raise ValueError(f"init ({self.init}) gives the streams too; leave out init_streams ({self.init_streams})")
        for name, weights in [("tasks", self.tasks), *((f"phase {p.name!r}", p.tasks) for p in self.phases)]:
            if sum(weights.values()) <= 0:
                raise ValueError(f"{name}: at least one task weight must be above 0")
            if weights.get("mtv", 0) > 0 and self.control is None:
                raise ValueError(f"{name}: task mtv needs a control network, as configs/model/puppets_control.yaml is")
            if weights.get("part", 0) > 0 and not self.model.get("parts"):
                raise ValueError(f"{name}: task part needs a model with parts; set model.parts to [speech, effects]")
        ends = [self.phase_end(phase) for phase in self.phases]
        if ends and (ends != sorted(set(ends)) or ends[-1] != self.train.steps):
            raise ValueError(f"phases end at steps {ends}; they must increase and end at {self.train.steps}")
        for name in self.deepspeed:
            if name not in DEEPSPEED_KEYS:
                owner = OWNED_BY_TRAIN.get(name)
                what = f"belongs in the train config ({owner})" if owner else f"is none of {sorted(DEEPSPEED_KEYS)}"
                raise ValueError(f"deepspeed.{name} {what}")
        return self

    def _check_distill(self) -> None:
        """Raise ValueError for what a training for few steps cannot have."""
        if not self.init:
            raise ValueError("distill: few steps are learned by a trained model; set init to its folder")
        if self.flow.sigmas != "shared":
            raise ValueError("distill: both streams go by one clock; set flow.sigmas to shared")
        if self.train.context_parallel > 1:
            raise ValueError("distill: targets are made by whole models; set train.context_parallel to 1")
        if self.detach_clean_stream:
            raise ValueError("distill: detach_clean_stream has no effect on it; set it false")
        if self.validation.held_out:
            raise ValueError(
                "distill: its targets move with the weights, so held-out losses say nothing; set "
                "validation.held_out to 0"
            )
        if self.deepspeed.get("zero_optimization", {}).get("stage", 0) == 3:
            raise ValueError("distill: targets need the average of all weights in every process; set ZeRO stage 0 to 2")

    @property
    def validation_steps(self) -> int:
        """Solver steps of a sample while training."""
        return self.validation.steps if self.distill is None else self.distill.steps

    def phase_end(self, phase: Phase) -> int:
        """First step after `phase`."""
        return round(phase.until * self.train.steps) if phase.until <= 1 else round(phase.until)

    def phase_at(self, step: int) -> Phase:
        """Phase that `step` (from 0) belongs to; without phases one phase of all tasks."""
        phases = self.phases or [Phase(name="joint", tasks=self.tasks)]
        return next((phase for phase in phases if step < self.phase_end(phase)), phases[-1])

    def text_dropout_for(self, task: Task) -> float:
        return self.text_dropout_per_task.get(task, self.text_dropout)


def dump_config(config: TrainConfig) -> str:
    """YAML that `TrainConfig.load` reads back to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 4}} -> {"train.steps": 4}; lists are leaves."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def changed_keys(before: dict[str, Any], now: dict[str, Any], free: tuple[str, ...]) -> str:
    """Tell in which keys two flat configurations differ, those that begin as one of `free` left out; "" if in none."""
    return ", ".join(
        f"{key} ({before.get(key, 'unset')!r} there, {now.get(key, 'unset')!r} here)"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(free)
    )
