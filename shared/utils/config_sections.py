"""The sections of the training configuration, as `shared.utils.config.TrainConfig` holds them.

Each key says its unit and effect in `description`: docs/configuration.md is made of them (scripts/config_page.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Task = Literal["t2av", "t2v", "t2a", "a2v", "v2a", "mtv"]
Part = Literal["transformer", "attention", "control", "holistic"]
Weights = dict[Task, Annotated[float, Field(ge=0)]]
Rate = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Keys that belong together; none may be unknown, and none changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Clips, or the latents that scripts/encode.py made of them."""

    manifest: str | list[str] | None = Field(
        default=None, description="Clips: a jsonl file, a folder of X.mp4 with X.txt, or a list of such."
    )
    shards: str | list[str] | None = Field(
        default=None, description="In place of `manifest`: a folder that scripts/encode.py made, or a list of them."
    )
    fps: Positive = Field(default=16.0, description="Pictures a second that clips are resampled to.")
    size: tuple[Count, Count] = Field(
        default=(64, 64), description="Height and width in pixels that clips are resampled to."
    )
    sample_rate: Count = Field(
        default=16_000, description="Samples a second that sound is resampled to; the audio codec's own."
    )
    duration: Positive | None = Field(
        default=None,
        description="Seconds taken from each clip's start; null takes each clip whole, whatever its length.",
    )
    max_duration: Positive | None = Field(
        default=None, description="Seconds; longer clips are left out. Null keeps all."
    )
    exclude_subsets: list[str] = Field(default=["conflict"], description="Subsets of the manifest that do not train.")
    subsets: list[str] = Field(
        default=[], description="Only clips in one of these subsets train; an empty list takes all."
    )
    latents: str | None = Field(
        default=None, description="Folder of the encoded clips, which runs may share; null is OUTPUT/latents."
    )
    latents_dtype: Literal["float16", "float32"] = Field(
        default="float32", description="Precision in which a run keeps its encoded clips; `shards` have their own."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        for name in ("manifest", "shards"):
            if getattr(self, name) == []:
                raise ValueError(f"data.{name} is an empty list; name what to train on")
        if (self.manifest is None) == (self.shards is None):
            given = "neither is" if self.manifest is None else "both are"
            raise ValueError(f"data.manifest or data.shards: {given} given; give one, and null for the other")
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
    """Codecs and text encoder one by one; what is not named comes from `codecs`, `init` or `init_streams`."""

    video_codec: str | None = Field(default=None, description="Folder or hub id of the video codec.")
    audio_codec: str | None = Field(default=None, description="Folder or hub id of the audio codec, with its vocoder.")
    text_encoder: str | None = Field(
        default=None, description="Folder or hub id of the text encoder, with its tokenizer."
    )
    text_dtype: Literal["fp32", "bf16"] = Field(default="fp32", description="Precision in which the text encoder runs.")
    low_memory: bool = Field(default=False, description="Codecs work in tiles: less memory, more time.")


class Train(Section):
    """Steps, batches, precision, and what is written when."""

    steps: Count = Field(description="Optimizer steps of the whole run.")
    micro_batch: Count = Field(default=8, description="Clips per process and micro-step.")
    gradient_accumulation_steps: Count = Field(default=1, description="Micro-steps per optimizer step.")
    token_budget: Count | None = Field(
        default=None,
        description="Most tokens of one micro-batch: longer clips come in smaller ones. Null sets no limit.",
    )
    mixed_tasks: bool = Field(
        default=True,
        description="A task is drawn for each clip of a micro-batch; false: one for all, in fewer, larger passes.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16: weights in fp32, matrix products in bf16."
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="Blocks are computed again in the backward pass: the same loss, less memory, more time.",
    )
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Gradients are scaled down to this norm; 0 leaves them."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.999,
        description="Decay per step of the average of the weights, which is what is exported; 0 keeps none.",
    )
    checkpoint_every: Count = Field(default=500, description="Steps between states to resume from.")
    keep_checkpoints: Count = Field(default=2, description="States that stay on disk; older ones are removed.")
    export_dtype: Literal["bf16", "fp32"] = Field(
        default="bf16", description="Precision of the exported weights; what must stay in fp32 does."
    )
    shard_size: str = Field(default="5GB", description="Largest file of an exported checkpoint.")
    log_every: Count = Field(default=10, description="Steps between rows of losses.csv and throughput.csv.")
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        default=["tensorboard"], description="Where losses are shown, beside losses.csv and throughput.csv."
    )
    peak_tflops: Positive | None = Field(
        default=None, description="TFLOP/s of one device, for MFU; null is what shared/training/flops.py knows of it."
    )


class Optimizer(Section):
    """AdamW, with a linear warm-up and a fall along a cosine."""

    lr: Positive = Field(default=1e-4, description="Learning rate after the warm-up.")
    cross_modal_lr_scale: Positive = Field(
        default=1.0, description="Learning rate of what joins the streams, times `lr`."
    )
    betas: tuple[Rate, Rate] = Field(default=(0.9, 0.99), description="Decays per step of the gradient's two moments.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.01, description="Share of itself that a weight loses per step, times the learning rate."
    )
    warmup: Annotated[int, Field(ge=0)] = Field(default=100, description="Steps over which the rate rises from 0.")
    min_lr_ratio: Rate = Field(default=0.1, description="Where the cosine ends, times `lr`.")
    decay_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Share of the steps after the warm-up, the last ones, over which the rate falls."
    )


class Lora(Section):
    """Adapters learn in the place of `trainable` (docs/lora.md)."""

    rank: Count = Field(default=16, description="Inner width of an adapter.")
    alpha: Positive | None = Field(default=None, description="Adapters are scaled by alpha / rank; null makes that 1.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Dropout on an adapter's input, while training."
    )
    targets: Annotated[list[str], Field(min_length=1)] = Field(
        default=["attention"], description="Presets, or regular expressions on the names of linear layers."
    )
    modules_to_save: list[Part] = Field(default=[], description="Parts that learn as a whole beside the adapters.")


class Phase(Section):
    """One stretch of training."""

    name: str = Field(description="Name of the phase, for the logs.")
    until: Positive = Field(
        default=1.0, description="Where it ends: a fraction of all steps (up to 1) or a step (above 1)."
    )
    tasks: Weights = Field(description="Weights of the tasks; they need not sum to 1.")
    lr_scale: Positive = Field(default=1.0, description="All learning rates, times this.")


class Loss(Section):
    """Weights of the losses: of a stream, times those of a task."""

    video: Annotated[float, Field(ge=0)] = Field(default=1.0, description="Weight of the video stream's loss.")
    audio: Annotated[float, Field(ge=0)] = Field(default=1.0, description="Weight of the audio stream's loss.")
    tasks: Weights = Field(default={}, description="Weight by task; a task that is not named has 1.")


class Flow(Section):
    """Noise levels in training: a stream's sigma is shift·u / (1 + (shift − 1)·u), u logit-normal."""

    mean: float = Field(default=0.0, description="Mean of logit(u).")
    std: Positive = Field(default=1.0, description="Standard deviation of logit(u).")
    video_shift: Positive = Field(
        default=1.0, description="Above 1: more of the video's time at high noise; sampling follows."
    )
    audio_shift: Positive = Field(
        default=1.0, description="Above 1: more of the sound's time at high noise; sampling follows."
    )
    sigmas: Literal["shared", "independent"] = Field(
        default="shared", description="One u per sample, or one per stream."
    )


class Tracks(Section):
    """Task mtv: features of the tracks, and how often something is unknown, so that guidance can compare with it."""

    encoders: dict[str, str] = Field(
        default={"speech": "log-mel", "effects": "log-mel", "music": "log-mel"},
        description="An encoder per track: log-mel, wav2vec2:FOLDER_OR_ID or ast:FOLDER_OR_ID.",
    )
    dropout: Rate = Field(default=0.1, description="How often a track is unknown, each by itself.")
    dropout_all: Rate = Field(default=0.05, description="How often all three tracks are unknown.")
    drop_speaker_prob: Rate = Field(
        default=0.25, description="How often the caption does not say who speaks, so that the tracks have to."
    )
    drop_from_caption: dict[str, Rate] = Field(
        default={},
        description="How often what a regular expression finds in the caption is left out: {' in the rain': 0.5}.",
    )

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
    """Samples made while training, and the checkpoint renewed with them."""

    every: Annotated[int, Field(ge=0)] = Field(default=0, description="Steps between validations; 0 makes none.")
    manifest: str | None = Field(
        default=None, description="Clips whose captions are sampled; null is the training clips."
    )
    clips: Annotated[int, Field(ge=0)] = Field(default=4, description="How many of these clips.")
    prompts: list[str] = Field(default=[], description="Texts that are sampled beside them.")
    steps: Count = Field(default=20, description="Solver steps of a sample.")


def _paths(given: str | list[str] | None) -> list[Path]:
    return [Path(path) for path in ([given] if isinstance(given, str) else given or [])]
