"""The sections of the training configuration. docs/configuration.md is made of the keys' descriptions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.utils.object_store import Place, place
from shared.utils.ranges import (
    Amount,
    Batch,
    Count,
    Decay,
    Factor,
    Fps,
    LearningRate,
    Natural,
    Rate,
    SampleRate,
    Scale,
    Seconds,
    Side,
    Steps,
    Weight,
    WeightDecay,
    Width,
    Workers,
)

Task = Literal["t2av", "t2v", "t2a", "a2v", "v2a", "mtv", "part"]
Track = Literal["speech", "effects", "music"]
Part = Literal["transformer", "fusion", "attention", "control", "holistic"]
TaskWeights = dict[Task, Weight]
Until = Annotated[float, Field(gt=0, le=1_000_000_000)]
Precision = Literal["fp32", "bf16"]
Paths = str | list[str]


def _shard_size(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,5}(KB|MB|GB)", text):
        raise ValueError(f"{text}: a whole number of KB, MB or GB is needed, as 5GB")
    return text


#: Largest file of weights.
ShardSize = Annotated[str, AfterValidator(_shard_size)]


class Section(BaseModel):
    """Keys that belong together; none may be unknown, and none changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def key(default: Any, description: str) -> Any:
    """Make a field of a `Section`: `description` tells its unit and effect, for the page of keys."""
    return Field(default, description=description)


class Data(Section):
    """Clips, or the latents that scripts/encode.py made of them."""

    manifest: Paths | None = key(
        None, "Clips: a jsonl file, here or in a store (s3://), a folder of X.mp4 with X.txt, or a list."
    )
    shards: Paths | None = key(
        None,
        "In place of `manifest`: a folder that scripts/encode.py made, here or in an object store (s3://), or a list.",
    )
    fps: Fps = key(16.0, "Pictures a second that clips are resampled to, and that samples have.")
    keep_fps: bool = key(
        False, "Each clip keeps its own frame rate, to the next whole number; `fps` is then that of samples alone."
    )
    size: tuple[Side, Side] = key((64, 64), "Height and width in pixels that clips are resampled to.")
    sample_rate: SampleRate = key(16_000, "Samples a second that sound is resampled to; the audio codec's own.")
    duration: Seconds | None = key(None, "Seconds taken from each clip's start; null takes each clip whole.")
    max_duration: Seconds | None = key(None, "Seconds; longer clips are left out. Null keeps all.")
    on_bad_clip: Literal["refuse", "skip"] = key(
        "refuse", "A clip that cannot be used: refuse to train, naming all such clips; or list it in left_out.jsonl."
    )
    exclude_subsets: list[str] = key(["conflict"], "Subsets of the manifest that do not train.")
    subsets: list[str] = key([], "Only clips in one of these subsets train; an empty list takes all.")
    latents: str | None = key(None, "Folder of the encoded clips, which runs may share; null is OUTPUT/latents.")
    latents_dtype: Literal["float16", "float32"] = key(
        "float32", "Precision of a run's encoded clips; not of `shards`."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if empty := [name for name in ("manifest", "shards") if getattr(self, name) == []]:
            raise ValueError(f"data.{empty[0]} is an empty list; name what to train on")
        if (self.manifest is None) == (self.shards is None):
            given = "neither is" if self.manifest is None else "both are"
            raise ValueError(f"data.manifest or data.shards: {given} given; give one, and null for the other")
        return self

    @property
    def manifests(self) -> list[Place]:
        """Where the clips come from; none with `shards`."""
        return _places(self.manifest)

    @property
    def shard_folders(self) -> list[Place]:
        """Where the latents come from; none with `manifest`."""
        return _places(self.shards)


class ComponentSources(Section):
    """Codecs and text encoder one by one; what is not named comes from `codecs`, `init` or `init_streams`."""

    video_codec: str | None = key(None, "Folder or hub id of the video codec.")
    audio_codec: str | None = key(None, "Folder or hub id of the audio codec, with its vocoder.")
    text_encoder: str | None = key(None, "Folder or hub id of the text encoder, with its tokenizer.")
    text_dtype: Precision = key("fp32", "Precision in which the text encoder runs.")
    low_memory: bool = key(False, "Codecs work in tiles: less memory, more time.")


class Train(Section):
    """Steps, batches, precision, and what is written when."""

    steps: Count = Field(description="Optimizer steps of the whole run.")
    micro_batch: Batch | None = key(
        8, "Clips per process and micro-step, at most; null: as many as `token_budget` holds."
    )
    gradient_accumulation_steps: Batch = key(1, "Micro-steps per optimizer step.")
    context_parallel: Workers = key(
        1,
        "Processes that share each clip, a part of its tokens each; a group of them counts as one process.",
    )
    token_budget: Count | None = key(
        None, "Most tokens of video and audio in a micro-batch; longer clips come in smaller ones. Null: any."
    )
    mixed_tasks: bool = key(True, "A task is drawn per clip; false: one for each micro-batch, in fewer, larger passes.")
    precision: Precision = key("fp32", "bf16: weights in fp32, matrix products in bf16.")
    attention: Literal["native", "flash", "flash-varlen", "xformers", "flex", "sage"] = key(
        "native", "Backend of every attention of both streams; what it needs has to be installed."
    )
    compile: bool = key(False, "Blocks are compiled when they first run: minutes for every task and length on a CPU.")
    activation_checkpointing: bool = key(
        False, "Backward computes blocks again: the same loss, less memory, more time."
    )
    max_grad_norm: Weight = key(1.0, "Gradients are scaled down to this norm; 0 leaves them.")
    ema: Decay = key(0.999, "Decay per step of the average of the weights, which is what is exported; 0 keeps none.")
    checkpoint_every: Count = key(500, "Steps between states to resume from.")
    keep_checkpoints: Count = key(2, "States that stay on disk; older ones are removed.")
    export_dtype: Precision = key("bf16", "Precision of the exported weights; what must stay in fp32 does.")
    shard_size: ShardSize = key("5GB", "Largest file of an exported checkpoint.")
    log_every: Count = key(10, "Steps between rows of losses.csv and throughput.csv.")
    report_to: list[Literal["tensorboard", "wandb"]] = key(["tensorboard"], "Where losses are shown, beside csv files.")
    peak_tflops: Amount | None = key(None, "TFLOP/s of a device, for MFU; null: what shared/training/flops.py knows.")

    @model_validator(mode="after")
    def _sized(self) -> Train:
        if self.micro_batch is None and self.token_budget is None:
            raise ValueError("train.micro_batch is null: give train.token_budget, which then says how many clips fit")
        return self


class Optimizer(Section):
    """AdamW, with a linear warm-up and a fall along a cosine."""

    lr: LearningRate = key(1e-4, "Learning rate after the warm-up.")
    cross_modal_lr_scale: Factor = key(1.0, "Learning rate of what joins the streams, times `lr`.")
    betas: tuple[Decay, Decay] = key((0.9, 0.99), "Decays per step of the gradient's two moments.")
    weight_decay: WeightDecay = key(0.01, "Share of itself that a weight loses per step, times the learning rate.")
    warmup: Natural = key(100, "Steps over which the rate rises from 0.")
    min_lr_ratio: Rate = key(0.1, "Where the cosine ends, times `lr`.")
    decay_share: Annotated[float, Field(gt=0, le=1)] = key(
        1.0, "Share of the steps after the warm-up, the last ones, over which the rate falls."
    )


class Lora(Section):
    """Adapters learn in the place of `trainable` (docs/lora.md)."""

    rank: Width = key(16, "Inner width of an adapter.")
    alpha: Amount | None = key(None, "Adapters are scaled by alpha / rank; null makes that 1.")
    dropout: Decay = key(0.0, "Dropout on an adapter's input, while training.")
    targets: Annotated[list[str], Field(min_length=1)] = key(
        ["attention"], "Presets, or regular expressions on the names of linear layers."
    )
    modules_to_save: list[Part] = key([], "Parts that learn as a whole beside the adapters.")


class Phase(Section):
    """One stretch of training."""

    name: str = Field(description="Name of the phase, for the logs.")
    until: Until = key(1.0, "Where it ends: a fraction of all steps (up to 1) or a step (above 1).")
    tasks: TaskWeights = Field(description="Weights of the tasks; they need not sum to 1.")
    lr_scale: Factor = key(1.0, "All learning rates, times this.")


class Loss(Section):
    """Weights of the losses: of a stream, times those of a task."""

    video: Weight = key(1.0, "Weight of the video stream's loss.")
    audio: Weight = key(1.0, "Weight of the audio stream's loss.")
    tasks: TaskWeights = key({}, "Weight by task; a task that is not named has 1.")
    moving: Weight = key(0.0, "How many times more a place of the video counts where it moves than where it stands.")


class Flow(Section):
    """Noise levels in training: a stream's sigma is shift·u / (1 + (shift − 1)·u), u logit-normal."""

    mean: Annotated[float, Field(ge=-20, le=20)] = key(0.0, "Mean of logit(u).")
    std: Annotated[float, Field(gt=0, le=20)] = key(1.0, "Standard deviation of logit(u).")
    high_share: Rate = key(0.0, "How often u is drawn at high noise instead, where the text alone decides.")
    high_mean: Annotated[float, Field(ge=-20, le=20)] = key(3.0, "Mean of logit(u) there.")
    high_std: Annotated[float, Field(gt=0, le=20)] = key(1.5, "Standard deviation of logit(u) there.")
    video_shift: Factor = key(1.0, "Above 1: more of the video's time at high noise; sampling follows.")
    audio_shift: Factor = key(1.0, "Above 1: more of the sound's time at high noise; sampling follows.")
    sigmas: Literal["shared", "independent"] = key("shared", "One u per sample, or one per stream.")


class Distill(Section):
    """Few steps: the model learns jumps from one noise level to a lower one (docs/training.md)."""

    teacher: str | None = key(
        None, "Checkpoint folder whose guided velocity of each task is learned; null: the velocity of the data."
    )
    text_scale: tuple[Scale, Scale] | None = key(
        None, "Teacher's text scale for video and sound, in the joint tasks; null: the pipeline's default."
    )
    context_scale: tuple[Scale, Scale] | None = key(
        None, "Its scale of the other stream, likewise; 1 is no guidance by it."
    )
    text_scale_per_task: dict[Task, tuple[Scale, Scale]] = key(
        {}, "The same for single tasks, and for mtv, whose scale is the first of the two: {mtv: [2, 2]}."
    )
    context_scale_per_task: dict[Task, tuple[Scale, Scale]] = key({}, "The same for single tasks: {v2a: [1, 2]}.")
    track_scale: dict[Track, Scale] = key({}, "Teacher's scales of mtv; what is not named is the pipeline's default.")
    plain_share: Rate = key(0.5, "Share of the samples that learn the velocity itself; the others learn jumps.")
    grids: Annotated[dict[Steps, Factor], Field(min_length=1)] = key(
        {1: 1, 2: 2, 4: 4, 8: 2, 16: 1}, "Samples of how many equal steps learn their jumps, and how often each."
    )
    anchor: Rate = key(0.25, "Jumps up to this long, in u, go by the teacher's steps, longer ones by their halves.")
    teacher_step: Annotated[float, Field(ge=0.001, le=1)] = key(
        0.1, "A teacher's step in a jump is no longer than this, in sigma."
    )
    steps: Steps = key(4, "Steps that sampling takes by default, and validation; written into the checkpoint.")

    @model_validator(mode="after")
    def _followed(self) -> Distill:
        scales = self.text_scale, self.context_scale, self.text_scale_per_task, self.context_scale_per_task
        if self.teacher is None and any((*scales, self.track_scale)):
            raise ValueError("distill: scales are of a teacher's guidance; name its folder, or leave them out")
        return self


class TrackSettings(Section):
    """Task mtv: features of the tracks, and how often something is unknown, so that guidance can compare with it."""

    encoders: dict[str, str] = key(
        {"speech": "log-mel", "effects": "log-mel", "music": "log-mel"},
        "An encoder per track: log-mel, wav2vec2:FOLDER_OR_ID or ast:FOLDER_OR_ID.",
    )
    dropout: Rate = key(0.1, "How often a track is unknown, each by itself.")
    dropout_all: Rate = key(0.05, "How often all three tracks are unknown.")
    drop_speaker_prob: Rate = key(0.25, "How often the caption does not say who speaks, so that the tracks have to.")
    drop_from_caption: dict[str, Rate] = key(
        {}, "How often what a regular expression finds in the caption is left out: {' in the rain': 0.5}."
    )

    @model_validator(mode="after")
    def _every_track(self) -> TrackSettings:
        if set(self.encoders) != {"speech", "effects", "music"}:
            raise ValueError(f"tracks.encoders: speech, effects and music are needed, not {', '.join(self.encoders)}")
        for pattern in self.drop_from_caption:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"tracks.drop_from_caption: {pattern!r} is no regular expression: {error}") from None
        return self


class Validation(Section):
    """Samples made while training, losses of clips that do not train, and the checkpoint renewed with them."""

    every: Natural = key(0, "Steps between validations; 0 makes none.")
    manifest: str | None = key(
        None, "Held-out clips, whose captions are sampled and whose losses are measured; null samples training clips."
    )
    shards: Paths | None = key(None, "Held-out shards, as `data.shards`, whose losses are measured in place of those.")
    held_out: Natural = key(
        0,
        "Noise levels at which the loss of each held-out clip is measured, the same at every validation; 0: none.",
    )
    clips: Natural = key(4, "How many of these clips.")
    prompts: list[str] = key([], "Texts that are sampled beside them.")
    steps: Steps = key(20, "Solver steps of a sample.")

    @model_validator(mode="after")
    def _measures(self) -> Validation:
        if self.shards and not self.held_out:
            raise ValueError("validation.shards are measured at validation.held_out noise levels; set that too")
        if self.held_out and not (self.every and (self.manifest or self.shards)):
            what = "validation.held_out measures held-out clips at each validation"
            raise ValueError(f"{what}; set validation.every, and validation.manifest or validation.shards")
        return self


def _places(given: Paths | None) -> list[Place]:
    return [place(path) for path in ([given] if isinstance(given, str) else given or [])]
