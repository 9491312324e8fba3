"""Training in stages, in one configuration: each starts from what the last one left.

MTV has five (arXiv 2506.08003): basic face -> single character -> multiple characters -> sound event -> environmental
ambience, in the paper each on its own subset of clips; `cumulative` keeps those of the stages before. A stage is a
training run of its own, in OUTPUT/1_basic_face, OUTPUT/2_single_character ...
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from shared.utils import config_file
from shared.utils.config import TrainConfig
from shared.utils.config_sections import Part, Section, TaskWeights, key
from shared.utils.model_sections import ControlSettings, DeepSpeedSettings, ModelSettings, check_numbers
from shared.utils.ranges import Count, LearningRate, Weight

#: Keys, and beginnings of keys, that a stage may set: none that a clip's latents, components or the model's shape
#: depend on.
STAGE_SETTINGS = (
    "data.max_duration", "flow.", "loss.", "diffusion_loss.", "optimizer.", "text_dropout", "clean_frames",
    "clean_spans",
    "audio_caption_rate", "detach_clean_stream", "reinit", "tracks.drop", "train.micro_batch", "train.token_budget",
    "train.mixed_tasks", "train.ema", "train.max_grad_norm", "train.gradient_accumulation_steps", "train.precision",
    "validation.",
)  # fmt: skip


class Stage(Section):
    """One stage of the curriculum: a training run of its own."""

    name: str = Field(min_length=1, description="Name of the stage, and with its number of its folder under `output`.")
    subset: str | list[str] = key([], "Only clips in this subset, or in one of these, train; an empty list takes all.")
    steps: Count = Field(description="Optimizer steps of the stage.")
    lr: LearningRate | None = key(None, "Learning rate of the stage; null is `optimizer.lr`.")
    trainable: list[Part] = key(
        ["control", "attention"],
        "What learns, as in a run without stages; the default is the paper's, [control] its TB off.",
    )
    tasks: TaskWeights = key({"mtv": 1.0}, "Weights of the tasks; they need not sum to 1.")
    settings: dict[str, Any] = key(
        {}, "Other keys, with what they have in this stage: {flow.high_share: 0.2, reinit: [holistic]}."
    )

    @model_validator(mode="after")
    def _may_be_set(self) -> Stage:
        for name in self.settings:
            if not name.startswith(STAGE_SETTINGS):
                told = ", ".join(one + ("..." if one.endswith(".") else "") for one in STAGE_SETTINGS)
                raise ValueError(f"stage {self.name!r}: {name} is the same in all stages; of a stage are {told}")
        return self

    @property
    def folder(self) -> str:
        """The name as part of a path."""
        return re.sub(r"\W+", "_", self.name.lower()).strip("_")


class DiffusionLoss(Section):
    """The loss on a backbone: a sum of two errors at a uniform timestep, which differ by how much each counts where."""

    epsilon: Weight = key(1.0, "Weight of the squared error of epsilon, the paper's Eq. 1.")
    v: Weight = key(
        0.0,
        "Weight of that of v, which counts alike at every timestep, as MTV's public weights were trained (epsilon 0, "
        "v 1); for a folder that predicts v.",
    )

    @model_validator(mode="after")
    def _counts(self) -> DiffusionLoss:
        if not self.epsilon + self.v > 0:
            raise ValueError("diffusion_loss: epsilon or v must count, with a weight above 0")
        return self


#: What the joint model's configuration says and a backbone's own folder decides, or has no use for.
NOT_BESIDE_BACKBONE = (
    "model", "init", "init_streams", "codecs", "components", "flow", "loss", "lora", "audio_caption_rate",
    "detach_clean_stream", "distill",
)  # fmt: skip


class BackboneConfig(TrainConfig):
    """A run on a model of another library, in the folder `backbone`; `init` is the stage before, where there is one."""

    backbone: str = Field(description="CogVideoX folder of diffusers, or a checkpoint that training made of one.")
    diffusion_loss: DiffusionLoss = DiffusionLoss()

    @property
    def routes_text(self) -> bool:
        """CogVideoX reads text and video in one attention: nothing can be routed."""
        return False


class CurriculumConfig(TrainConfig):
    """A training configuration with `stages`; on a `backbone` there is no joint model, and task mtv alone."""

    backbone: str | None = key(
        None, "In place of `model`: a CogVideoX folder of diffusers, or a checkpoint that training made of one."
    )
    diffusion_loss: DiffusionLoss = DiffusionLoss()
    cumulative: bool = key(
        False,
        "A stage trains on its `subset` and those of the stages before; false: on its own, as in the paper.",
    )
    stages: list[Stage] = Field(min_length=1, description="One after the other, each from the checkpoint before.")

    @model_validator(mode="before")
    @classmethod
    def _stages_and_backbone_decide(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("backbone") is not None:
            if given := [key for key in NOT_BESIDE_BACKBONE if key in raw]:
                why = "the folder has model, codec and noise levels, and joint training needs another"
                raise ValueError(f"{given[0]} has no place beside backbone: {why}")
            raw = {**raw, "model": {}}
        if not isinstance(raw, dict) or not isinstance(stages := raw.get("stages"), list):
            return raw
        for section, name in (("train", "steps"), ("data", "subsets"), ("data", "latents")):
            if isinstance(raw.get(section), dict) and name in raw[section]:
                raise ValueError(f"{section}.{name} has no place beside stages")
        if given := [name for name in ("phases", "tasks", "trainable") if name in raw]:
            raise ValueError(f"{given[0]} has no place beside stages; say it in each of them")
        steps = (stage.get("steps") for stage in stages if isinstance(stage, dict))
        total = sum(count for count in steps if isinstance(count, int))
        return {**raw, "train": {**(raw.get("train") or {}), "steps": max(1, total)}}

    @model_validator(mode="after")
    def _consistent(self) -> CurriculumConfig:
        for name, kind in (("model", ModelSettings), ("control", ControlSettings), ("deepspeed", DeepSpeedSettings)):
            check_numbers(name, getattr(self, name, None), kind)
        folders = [stage.folder for stage in self.stages]
        if len(set(folders)) < len(folders) or "" in folders:
            raise ValueError(f"the names of the stages are {', '.join(s.name for s in self.stages)}; they must differ")
        if self.lora is not None:
            raise ValueError("lora has no place beside stages; train adapters with scripts/train_ccl.py and task mtv")
        if self.backbone is not None:
            self._check_beside_backbone()
        elif self.diffusion_loss != DiffusionLoss():
            raise ValueError("diffusion_loss is a backbone's, and there is none; the joint model has loss and flow")
        for index in range(len(self.stages)):
            self.stage(index)
        return self

    def _check_beside_backbone(self) -> None:
        """Raise ValueError for what a CogVideoX backbone has not."""
        if self.control is None:
            raise ValueError("audio control needs a control network; give control: {} for the paper's sizes")
        if self.data.shards is not None:
            raise ValueError("data.shards hold no embeddings for a CogVideoX backbone; train it from data.manifest")
        for stage in self.stages:
            if others := ", ".join(task for task, weight in stage.tasks.items() if weight > 0 and task != "mtv"):
                told = f"{others} needs the joint model; on a backbone there is task mtv alone"
                raise ValueError(f"stage {stage.name!r}: {told}")

    @property
    def routes_text(self) -> bool:
        """As its stages."""
        return self.backbone is None

    def folder(self, index: int) -> Path:
        """Where stage `index` is trained."""
        return Path(self.output) / f"{index + 1}_{self.stages[index].folder}"

    def _subsets(self, index: int) -> list[str]:
        """List the subsets that stage `index` trains on; none: all clips."""
        stages = self.stages[: index + 1] if self.cumulative else self.stages[index : index + 1]
        named = [[stage.subset] if isinstance(stage.subset, str) else stage.subset for stage in stages]
        return list(dict.fromkeys(name for names in named for name in names)) if all(named) else []

    def stage(self, index: int) -> TrainConfig:
        """Configure the run of stage `index`, from the checkpoint of the stage before."""
        stage = self.stages[index]
        raw = self.model_dump(exclude={"stages", "backbone", "cumulative", "diffusion_loss"})
        if self.backbone is not None:
            raw["diffusion_loss"] = self.diffusion_loss.model_dump()
        raw |= {"trainable": stage.trainable, "tasks": stage.tasks}
        raw["output"] = str(self.folder(index))
        raw["codecs"] = self.codecs or self.init or raw.get("init_streams") or str(Path(self.output) / "codecs")
        if index > 0:
            raw["init"] = str(self.folder(index - 1) / "checkpoint")
            raw.pop("init_streams", None)  # the first stage's start
        raw["data"]["subsets"] = self._subsets(index)
        raw["data"]["latents"] = str(Path(self.output) / "latents")
        raw["train"]["steps"] = stage.steps
        if index < len(self.stages) - 1:  # rounding to bf16 between two stages would be a step of its own
            raw["train"]["export_dtype"] = "fp32"
        if stage.lr is not None:
            raw["optimizer"]["lr"] = stage.lr
        for name, value in stage.settings.items():
            config_file.put(raw, name, value, f"stage {stage.name!r}:")
        if self.backbone is not None:
            return self._run(BackboneConfig, index, raw | {"backbone": self.backbone, "codecs": None})
        return self._run(TrainConfig, index, raw)

    def _run(self, kind: type[TrainConfig], index: int, raw: dict[str, Any]) -> TrainConfig:
        """Make the configuration of a stage. ValueError in one line for what the stage sets wrongly."""
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            told = config_file.explain(error, Path(f"stage {self.stages[index].name!r}"), kind)
            raise ValueError(told) from None
