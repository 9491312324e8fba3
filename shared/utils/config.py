"""Typed training configuration: one YAML file, plus `--set key=value`. Unknown keys are refused by name."""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.utils.errors import UserError

Task = Literal["t2av", "t2v", "t2a", "a2v", "v2a", "mtv"]
Part = Literal["transformer", "attention", "control", "holistic"]
Weights = dict[Task, Annotated[float, Field(ge=0)]]
Rate = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

# What a DeepSpeed JSON may hold, and where the train config keeps what it may not.
DEEPSPEED_KEYS = {"zero_optimization", "aio", "comms_logger", "flops_profiler", "wall_clock_breakdown"}
OWNED_BY_TRAIN = {
    "train_batch_size": "train.micro_batch and train.gradient_accumulation_steps",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "gradient_clipping": "train.max_grad_norm",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "torch_autocast": "train.precision",
    "optimizer": "optimizer",
    "scheduler": "optimizer.warmup and optimizer.min_lr_ratio",
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Clips: `manifest` is a jsonl file or a folder of X.mp4 + X.txt, or a list of them; or `shards` that
    scripts/encode.py made of such, a folder or a list of them."""

    manifest: str | list[str] | None = None
    shards: str | list[str] | None = None
    fps: Positive = 16.0
    size: tuple[Count, Count] = (64, 64)  # height, width
    sample_rate: Count = 16_000
    duration: Positive | None = None  # seconds; null: each clip's own
    max_duration: Positive | None = None  # seconds; longer clips are left out
    exclude_subsets: list[str] = ["conflict"]
    subsets: list[str] = []  # only clips of one of these; none: all clips
    latents: str | None = None  # folder of the encoded clips; null: OUTPUT/latents
    latents_dtype: Literal["float16", "float32"] = "float32"  # in which they are kept; shards have their own

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        for name in ("manifest", "shards"):
            if getattr(self, name) == []:
                raise ValueError(f"data.{name} is an empty list; name what to train on")
        if (self.manifest is None) == (self.shards is None):
            said = "neither is" if self.manifest is None else "both are"
            raise ValueError(f"data.manifest or data.shards: {said} given; give one, and null for the other")
        return self

    @property
    def manifests(self) -> list[Path]:
        """Where the clips come from; none with `shards`."""
        return _paths(self.manifest)

    @property
    def shard_folders(self) -> list[Path]:
        """Where the latents come from; none with `manifest`."""
        return _paths(self.shards)


class ComponentSources(Section):
    """Codecs and text encoder by folder or hub id, under the names of scripts/encode.py's options.

    What is not named comes from `codecs`, `init` or `init_streams`. `text_dtype`: in which UMT5 runs; `low_memory`: codecs
    work in tiles.
    """

    video_codec: str | None = None
    audio_codec: str | None = None
    text_encoder: str | None = None
    text_dtype: Literal["fp32", "bf16"] = "fp32"
    low_memory: bool = False


class Train(Section):
    """`precision` bf16: fp32 weights, matrix products in bf16. `ema`: decay of the average, 0 keeps none.

    `token_budget`: the most tokens of one micro-batch; longer clips come in smaller batches.
    """

    steps: Count
    micro_batch: Count = 8
    gradient_accumulation_steps: Count = 1
    token_budget: Count | None = None
    mixed_tasks: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False  # blocks are computed again in the backward pass: same loss, less memory
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    checkpoint_every: Count = 500
    keep_checkpoints: Count = 2
    export_dtype: Literal["bf16", "fp32"] = "bf16"  # of the checkpoint; what must stay in fp32 does
    shard_size: str = "5GB"  # its largest file
    log_every: Count = 10
    report_to: list[Literal["tensorboard", "wandb"]] = ["tensorboard"]  # beside losses.csv and throughput.csv
    peak_tflops: Positive | None = None  # of one device, for MFU; null: as shared/training/flops.py knows it


class Optimizer(Section):
    """AdamW; `warmup` is in steps; the rate falls along a cosine to `min_lr_ratio` times `lr`, over the last
    `decay_share` of the steps after the warm-up."""

    lr: Positive = 1e-4
    cross_modal_lr_scale: Positive = 1.0
    betas: tuple[Rate, Rate] = (0.9, 0.99)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[int, Field(ge=0)] = 100
    min_lr_ratio: Rate = 0.1
    decay_share: Annotated[float, Field(gt=0, le=1)] = 1.0


class Lora(Section):
    """Adapters of `rank`, scaled by `alpha` / `rank` (null: 1), learn in the place of `trainable`, and so do the parts
    in `modules_to_save`. `targets`: presets or regular expressions on the names of linear layers (docs/lora.md)."""

    rank: Count = 16
    alpha: Positive | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = ["attention"]
    modules_to_save: list[Part] = []


class Phase(Section):
    """One stretch of training. `until`: a fraction of all steps (up to 1) or a step number (above 1)."""

    name: str
    until: Positive = 1.0
    tasks: Weights
    lr_scale: Positive = 1.0


class Loss(Section):
    """Weights of the losses, by stream and by task; a task that is not named has 1."""

    video: Annotated[float, Field(ge=0)] = 1.0
    audio: Annotated[float, Field(ge=0)] = 1.0
    tasks: Weights = {}


class Flow(Section):
    """u is logit-normal(mean, std), one per sample (`shared`) or per stream (`independent`).

    The sigma of a stream is shift·u / (1 + (shift − 1)·u).
    """

    mean: float = 0.0
    std: Positive = 1.0
    video_shift: Positive = 1.0
    audio_shift: Positive = 1.0
    sigmas: Literal["shared", "independent"] = "shared"


class Tracks(Section):
    """Task mtv: an encoder per track (`shared.encoders.audio_features`), and how often tracks are unknown in training.

    `dropout` is each track's own, `dropout_all` all three at once: guidance asks for both. `drop_speaker_prob`: how often
    the caption does not say who speaks, so that it is learned from the tracks; `drop_from_caption`: how often what a regular
    expression finds in the caption is left out, for the same reason.
    """

    encoders: dict[str, str] = {"speech": "log-mel", "effects": "log-mel", "music": "log-mel"}
    dropout: Rate = 0.1
    dropout_all: Rate = 0.05
    drop_speaker_prob: Rate = 0.25
    drop_from_caption: dict[str, Rate] = {}

    @model_validator(mode="after")
    def _every_track(self) -> Tracks:
        if set(self.encoders) != {"speech", "effects", "music"}:
            raise ValueError(f"tracks.encoders: speech, effects and music are needed, not {', '.join(self.encoders)}")
        for pattern in self.drop_from_caption:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"tracks.drop_from_caption: {pattern!r} is no regular expression: {error}") from None
        return self


class Validation(Section):
    """Every `every` steps (0: never): `clips` clips of `manifest` and `prompts`, in `steps` solver steps."""

    every: Annotated[int, Field(ge=0)] = 0
    manifest: str | None = None
    clips: Annotated[int, Field(ge=0)] = 4
    prompts: list[str] = []
    steps: Count = 20


class TrainConfig(Section):
    """Everything a run depends on. `model` and `deepspeed` hold the contents of the files they came from."""

    output: str
    seed: int = 0
    model: dict[str, Any]
    init: str | None = None  # checkpoint folder the weights start from; `model` must fit them
    init_streams: str | None = None  # instead: checkpoint folder that only the two streams start from, all else new
    data: Data
    codecs: str | None = None  # folder with video_codec/ and audio_codec/; null: fit on the training data
    components: ComponentSources | None = None  # codecs and text encoder one by one
    train: Train
    optimizer: Optimizer = Optimizer()
    tasks: Weights = {"t2av": 0.6, "a2v": 0.15, "v2a": 0.15, "t2v": 0.1, "t2a": 0.1}
    phases: list[Phase] = []
    text_dropout: Rate = 0.1
    text_dropout_per_task: dict[Task, Rate] = {}
    audio_caption_rate: Rate = 0.5  # how often the audio stream reads the audio caption instead of the caption
    clean_frames: Rate = 0.1  # how often a video sample keeps its first frames clean (image to video)
    keyframes: Rate = 0.0  # how often it has clean latents anywhere, each an image that stands still
    control: dict[str, Any] | None = None  # MSTControlNet for task mtv; the backbone's sizes are filled in
    tracks: Tracks = Tracks()
    # attention: that of the video stream alone (MTV); holistic: music's way through the control network alone
    trainable: list[Part] = ["transformer", "control"]
    lora: Lora | None = None  # adapters learn, and not `trainable`
    reinit: list[Literal["control", "holistic"]] = []  # parts that begin anew where `init` has them
    detach_clean_stream: bool = False  # in a2v and v2a the given stream's tower learns nothing from the other's loss
    loss: Loss = Loss()
    flow: Flow = Flow()
    validation: Validation = Validation()
    deepspeed: dict[str, Any] = {"zero_optimization": {"stage": 1}}

    def trains(self, *tasks: str) -> bool:
        """Whether any step may be on one of `tasks`."""
        used = [phase.tasks for phase in self.phases] or [self.tasks]
        return any(weight > 0 for weights in used for task, weight in weights.items() if task in tasks)

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.reinit and not self.init:
            raise ValueError(f"reinit: {', '.join(self.reinit)} begin anew in any case: there is no init")
        if self.lora and not self.init:
            raise ValueError("lora: adapters change the weights of a checkpoint; set init to its folder")
        if self.init and self.init_streams:
            raise ValueError(
                f"init ({self.init}) gives the streams too, so init_streams ({self.init_streams}) has no use; give one"
            )
        for name, weights in [("tasks", self.tasks), *((f"phase {p.name!r}", p.tasks) for p in self.phases)]:
            if sum(weights.values()) <= 0:
                raise ValueError(f"{name}: at least one task weight must be above 0")
            if weights.get("mtv", 0) > 0 and self.control is None:
                raise ValueError(
                    f"{name}: task mtv needs a control network; set control: configs/model/puppets_control.yaml"
                )
        ends = [self.phase_end(phase) for phase in self.phases]
        if ends and (ends != sorted(set(ends)) or ends[-1] != self.train.steps):
            raise ValueError(f"phases end at steps {ends}; they must increase and end at {self.train.steps}")
        for key in self.deepspeed:
            if key not in DEEPSPEED_KEYS:
                place = OWNED_BY_TRAIN.get(key)
                what = f"belongs in the train config ({place})" if place else f"is none of {sorted(DEEPSPEED_KEYS)}"
                raise ValueError(f"deepspeed.{key} {what}")
        return self

    def phase_end(self, phase: Phase) -> int:
        """First step after `phase`."""
        return round(phase.until * self.train.steps) if phase.until <= 1 else round(phase.until)

    def phase_at(self, step: int) -> Phase:
        """The phase that `step` (from 0) belongs to; without phases one phase of all tasks."""
        for phase in self.phases:
            if step < self.phase_end(phase):
                return phase
        return self.phases[-1] if self.phases else Phase(name="joint", tasks=self.tasks)

    def text_dropout_for(self, task: Task) -> float:
        return self.text_dropout_per_task.get(task, self.text_dropout)


def load_config(path: str | os.PathLike[str], overrides: list[str] | None = None) -> TrainConfig:
    """`load_config_as(TrainConfig, ...)`."""
    return load_config_as(TrainConfig, path, overrides)


Config = TypeVar("Config", bound=TrainConfig)


def load_config_as(kind: type[Config], path: str | os.PathLike[str], overrides: list[str] | None = None) -> Config:
    """Read a YAML file and apply `overrides` ("train.steps=40", dotted key, YAML value) in order.

    `model:`, `deepspeed:` and `control:` may name a file, looked for from the working directory, then from the folder
    of the config and the folders above it; its content takes its place, so `model.width=64` is an override too.
    Raises `UserError` naming the key, the file and the nearest known key.
    """
    file = Path(path)
    raw = _read(file)
    _inline(raw, file)
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}: expected key=value, for example train.steps=40")
        try:
            _set(raw, key, yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise UserError(f"--set {override}: the value is not YAML ({error})") from None
        _inline(raw, file)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise UserError(_explain(error, file, kind)) from None


def _paths(given: str | list[str] | None) -> list[Path]:
    return [Path(path) for path in ([given] if isinstance(given, str) else given or [])]


def dump_config(config: TrainConfig) -> str:
    """YAML that `load_config` reads back to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 4}} -> {"train.steps": 4}; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{file}: cannot read this configuration file ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: not valid {file.suffix.lstrip('.') or 'YAML'} ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values, found {type(content).__name__}")
    return content


def _inline(raw: dict[str, Any], file: Path) -> None:
    for key in ("model", "deepspeed", "control"):
        if isinstance(name := raw.get(key), str):
            places = [Path(name), *(folder / name for folder in file.resolve().parents)]
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                raise UserError(f"{key}: {name}: no such file, from the working directory or from {file}")
            raw[key] = _read(found)


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node: Any = raw
    for parent in parents:
        child = node[_place(node, parent, key)] if isinstance(node, list) else node.setdefault(parent, {})
        if not isinstance(child, dict | list):
            raise UserError(f"--set {key}: {parent} has no keys of its own; set {key.rsplit('.', 1)[0]} as a whole")
        node = child
    node[_place(node, last, key) if isinstance(node, list) else last] = value


def _place(items: list[Any], number: str, key: str) -> int:
    """The index that a part of a dotted key is in a list."""
    if not number.isdigit() or int(number) >= len(items):
        raise UserError(f"--set {key}: {number} is none of the list's entries 0 to {len(items) - 1}")
    return int(number)


def _explain(error: ValidationError, file: Path, kind: type[BaseModel]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _known_keys(kind), n=1, cutoff=0)
        return f"{file}: unknown key {key}; the nearest known key is {near[0]}"
    if first["type"] == "missing":
        return f"{file}: {key} is missing"
    if first["type"] == "value_error":
        return f"{file}: {first['ctx']['error']}"
    return f"{file}: {key} = {first['input']!r}: {first['msg']}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _known_keys(kind, f"{prefix}{name}.")
    return keys
