"""The frozen model whose guided velocities few-step training follows, on every route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccl.guidance import Guidance
from ccl.routing import Reads, Task
from ccl.sampler import STREAMS, Clean, Conditions, JointSampler, Tensors
from ccl.training.objective import Batch, part_of_batch
from ccl.transformer import DualStreamTransformer
from mtv.control import MSTControlNet
from mtv.guidance import TrackGuidance
from mtv.windows import WindowSampler
from shared.nn.few_steps import FewSteps
from shared.utils.config import TrainConfig
from shared.utils.config_sections import Distill
from shared.utils.errors import UserError
from shared.utils.files import read_json

#: Solvers' names for the shift of their noise levels.
SHIFTS = ("shift", "flow_shift")


def joint_guidance(settings: Distill, task: Task) -> Guidance:
    """Guidance of the teacher on a joint task: the pipeline's, with the scales that are set."""
    text = settings.text_scale_per_task.get(task.value, settings.text_scale)
    context = settings.context_scale_per_task.get(task.value, settings.context_scale)
    given: dict[str, Any] = {"text_scale": text, "context_scale": context}
    return Guidance(**{name: scale for name, scale in given.items() if scale is not None})


def track_guidance(settings: Distill) -> TrackGuidance:
    """Guidance of the teacher on task mtv, likewise."""
    scales: dict[str, Any] = {name: scale for name, scale in settings.track_scale.items()}
    if "mtv" in settings.text_scale_per_task:
        scales["text"] = settings.text_scale_per_task["mtv"][0]
    return TrackGuidance(**scales)


def few_steps(config: TrainConfig) -> FewSteps:
    """Make what a checkpoint of this training says of itself: what `init` said, and the guidance of the tasks in it."""
    settings, guidance = config.distill, dict[str, Any]()
    assert settings is not None, "it is asked of a training for few steps"
    before = read_json(Path(config.init or "") / "transformer" / "config.json").get("distilled")
    guidance |= (before or {}).get("guidance", {})
    for task in (task for task in Task if config.trains(task.value)):
        if settings.teacher is None:
            guidance.setdefault(task.value, {})
        elif task is Task.MTV:
            tracks = track_guidance(settings)
            guidance["mtv"] = {name: getattr(tracks, name) for name in ("text", "speech", "effects", "music")}
        else:
            joint = joint_guidance(settings, task)
            names = ("text_scale", "context_scale", "interval")
            guidance[task.value] = {name: [*getattr(joint, name)] for name in names}
    return FewSteps(settings.steps, (config.flow.video_shift, config.flow.audio_shift), guidance)


def check_teacher(config: TrainConfig) -> None:
    """Raise UserError unless teacher and start of a training for few steps can be what they are to be."""
    settings = config.distill
    if settings is None:
        return
    for key, place in (("distill.teacher", settings.teacher), ("init", config.init)):
        if place is None:
            continue
        for stream, solver in (("video", "scheduler"), ("audio", "audio_scheduler")):
            file, asked = Path(place) / solver / "scheduler_config.json", getattr(config.flow, f"{stream}_shift")
            held = read_json(file) if file.is_file() else {}
            amount = next((held[name] for name in SHIFTS if name in held), asked)
            if amount != asked:
                what = f"the noise levels of {key} {place} have shift {amount:g}"
                why = "and both streams are known at these pairs alone"
                raise UserError(f"flow.{stream}_shift {asked:g}: {what}, {why}; set that")
    if settings.teacher is not None:
        folder = Path(settings.teacher)
        if read_json(folder / "transformer" / "config.json").get("distilled"):
            raise UserError(f"distill.teacher {folder}: is distilled itself; give the folder that it learned from")
        if config.trains("mtv") and not (folder / "control").is_dir():
            raise UserError(f"distill.teacher {folder}: has no control network, and task mtv is to be learned from it")


class Teacher:
    """A frozen checkpoint, and its guided velocities."""

    def __init__(self, transformer: DualStreamTransformer, control: MSTControlNet | None, settings: Distill) -> None:
        self.transformer, self.control, self.settings = transformer, control, settings
        for model in self.models():
            model.eval().requires_grad_(False)

    @classmethod
    def load(cls, config: TrainConfig, transformer: DualStreamTransformer, control: MSTControlNet | None) -> Teacher:
        """Load `distill.teacher` for a student. UserError where it reads other latents, texts or tracks."""
        assert config.distill is not None and config.distill.teacher is not None, "there is a teacher"
        folder = Path(config.distill.teacher)
        own = DualStreamTransformer.from_pretrained(folder / "transformer")
        network = MSTControlNet.from_pretrained(folder / "control") if control is not None else None
        reads = [(f"{n}.{k}", getattr(own, f"{n}_stream").config, getattr(transformer, f"{n}_stream").config, k)
                 for n in STREAMS for k in ("in_channels", "text_dim")]  # fmt: skip
        differ = [(name, getattr(there, k), getattr(here, k)) for name, there, here, k in reads]
        differ += [("parts", list(own.config.parts), config.parts)] if config.trains("part") else []
        if network is not None and control is not None:
            there, here = ({k: tuple(v) for k, v in one.config.tracks.items()} for one in (network, control))
            differ.append(("control.tracks", there, here))
        for name, there, here in differ:
            if there != here:
                raise UserError(f"distill.teacher {folder}: its {name} is {there}, and {here} in this training")
        return cls(own, network, config.distill)

    def models(self) -> list[Any]:
        """List the frozen modules."""
        return [model for model in (self.transformer, self.control) if model is not None]

    @torch.no_grad()
    def velocity(self, batch: Batch, task: Task, latents: Tensors, sigmas: Tensors) -> Tensors:
        """Predict the guided velocity of what the task makes: `latents` at `sigmas` [B], given streams as they are."""
        assert batch.empty_text is not None, "guidance compares with no text"
        clean = {"video": Clean(batch.video, batch.clean_frames)}
        if batch.clean_tokens is not None:
            clean["audio"] = Clean(batch.audio, batch.clean_tokens)
        if task is Task.MTV:
            return {"video": self._driven(batch, latents["video"], sigmas["video"])}
        route, texts = task.route, {"video": batch.text, "audio": batch.audio_text}
        given = {}
        for name in STREAMS:
            if not route.is_noisy(name) and getattr(route, name) is not Reads.SKIPPED:
                given[name] = getattr(batch, name)
        sampler = JointSampler(
            self.transformer, route, Conditions(texts, batch.empty_text), (batch.video_clock, batch.audio_clock),
            joint_guidance(self.settings, task), given,
            {name: one for name, one in clean.items() if route.is_noisy(name)}, part_of_batch(batch, task),
        )  # fmt: skip
        return sampler.velocity(latents, sigmas)

    def _driven(self, batch: Batch, latents: Tensor, sigma: Tensor) -> Tensor:
        """Predict on task mtv."""
        assert self.control is not None and batch.tracks is not None and batch.empty_text is not None, "it is driven"
        guidance, levels = track_guidance(self.settings), torch.where(batch.clean_frames, 0.0, sigma[:, None])
        sampler = WindowSampler(
            self.transformer, self.control, batch.tracks, batch.text, batch.empty_text, batch.video_clock, {}, guidance
        )
        return sampler.predict(latents, levels, guidance.weights(1.0))
