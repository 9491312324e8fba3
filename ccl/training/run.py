"""Training runs: data, model, batches, trainer, validation and export, for any model that an adapter describes."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ccl.routing import Task
from ccl.training.batches import JointBatches
from ccl.training.data import TrainingData
from ccl.training.held_out import HeldOut, read_held_out
from ccl.training.source import Source, read_source
from mtv.control import TrackFeatures
from mtv.control_training import NonsilentFeatures
from mtv.track_features import draw_dropped
from shared.checkpoint.lora import seed_dropout
from shared.data.bad_clips import write_left_out
from shared.data.clip_texts import video_text
from shared.data.manifest import Clip, read_manifest
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.attention import check_backend, use_backend
from shared.nn.compiling import compile_blocks
from shared.nn.context_parallel import check_world
from shared.training.card import Progress
from shared.training.components import Components
from shared.training.optimizer import parameter_groups
from shared.training.state import claim_output, own_output
from shared.training.trainer import Trainer
from shared.training.weights import StateDict
from shared.utils.config import TrainConfig
from shared.utils.distributed import World, barrier, session
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder, write_atomically
from shared.utils.text_files import is_count

#: Parts of the names of parameters that learn at `optimizer.cross_modal_lr_scale` times the rate.
CROSS_MODAL = (".fusion.", "control.", "part_embedding.")


class Adapter(Protocol):
    """What a run has to know of the model that it trains: `ccl.training.build.JointAdapter`,
    `mtv.cogvideox_adapter.CogVideoXAdapter`."""

    def __init__(self, config: Any, components: Components, features: NonsilentFeatures | None) -> None: ...

    @staticmethod
    def check(config: Any, stages: Sequence[Any]) -> None: ...  # UserError for what cannot be trained, at the start

    @staticmethod
    def prepare(config: Any, source: Source, world: World) -> Components: ...  # of all stages; every rank calls it

    @staticmethod
    def preview(config: Any, source: Source) -> Components: ...  # the same for a dry run, which writes nothing

    transformer: Any
    control: Any

    @property
    def patch(self) -> int: ...  # video latents along the side of a token

    def objective(self) -> nn.Module: ...  # what the trainer trains, `objective(batch) -> StepOutput`

    def sample(
        self, weights: StateDict, prompts: list[TimedPrompts], clips: list[Clip], stem: Path, device: Any
    ) -> None:
        """Write what these weights make: STEM_I.mp4 of prompts, STEM_mtv_I.mp4 of the clips that have tracks."""

    def save(self, weights: StateDict, folder: Path, progress: Progress) -> None: ...  # with its model card


class Run:
    """One training run: the model, its batches, what happens at validation and at the end."""

    def __init__(
        self, config: TrainConfig, world: World, data: TrainingData, components: Components, adapter: type[Adapter]
    ) -> None:
        self.config, self.world, self.data = config, world, data
        self.started = time.monotonic()
        self.model = adapter(config, components, None if data.tracks is None else data.tracks.nonsilent_features)
        self.objective = self.model.objective()
        if config.lora is not None:
            seed_dropout(self.objective, config.seed)
        codecs, tracks = components.codecs, None if data.tracks is None else self._tracks
        buckets, tokens = data.buckets(codecs.video.spatial_stride, self.model.patch)
        groups = world.of_groups(config.train.context_parallel).size
        self.batches = JointBatches(config, data.latents, codecs, data.texts, tokens, groups, tracks, buckets)
        held_out = read_held_out(config)
        self.held_out = None if held_out is None else HeldOut(config, held_out, components, world)

    def train(self) -> None:
        """Train to the last step, and say which records were found broken on the way."""
        config, world, objective = self.config, self.world, self.objective
        groups = parameter_groups(objective, config.optimizer, lambda name: any(p in name for p in CROSS_MODAL))
        held_out = None if self.held_out is None else self.held_out.batches
        trainer = Trainer(config, world, objective, groups, self.batches, self.validate, self.export, held_out)
        with use_backend(config.train.attention, "train.attention", learns=True):
            if config.train.compile:
                for model in [module for module in objective.modules() if getattr(module, "_repeated_blocks", None)]:
                    compile_blocks(model, "train.compile")
            trainer.run()
        self.data.report(world)

    def _tracks(self, step: int, ids: list[str]) -> TrackFeatures:
        assert self.data.tracks is not None, "task mtv has tracks"
        rates = self.config.tracks
        drop = draw_dropped(rates.dropout, rates.dropout_all, self.config.seed, step, ids)
        return self.data.tracks.batch(ids, drop)

    def validate(self, step: int, weights: StateDict) -> None:
        """Refresh OUTPUT/checkpoint and sample clips into OUTPUT/samples: stepN_I.mp4, and stepN_mtv_I.mp4 for mtv.
        Prompts are the given ones, or the texts of the validation manifest, or of the first training clips."""
        validation, folder = self.config.validation, Path(self.config.output) / "samples"
        self.export(weights, step)
        held_out = read_manifest(validation.manifest) if validation.manifest else None
        clips = (self.data.clips if held_out is None else held_out)[: validation.clips]
        prompts = [*map(TimedPrompts.of, validation.prompts)] or [*map(video_text, clips)]
        if not prompts and held_out is None:
            prompts = self.data.prompts(validation.clips)
        folder.mkdir(exist_ok=True)
        self.model.sample(weights, prompts, clips, folder / f"step{step:06d}", self.world.device)

    def export(self, weights: StateDict, step: int | None = None) -> None:
        """Write OUTPUT/checkpoint with its model card. No `step`: the last one."""
        seconds, clips = time.monotonic() - self.started, len(self.data.latents)
        progress = Progress(step or self.config.train.steps, clips, seconds, self.world.size)
        self.model.save(weights, Path(self.config.output) / "checkpoint", progress)


def train(config: TrainConfig, adapter: type[Adapter]) -> None:
    """Train a configuration to its OUTPUT/checkpoint, on from where an earlier run of it was stopped. UserError for
    whatever of configuration, clips or components cannot be trained."""
    check_backend(config.train.attention, "train.attention", learns=True)
    adapter.check(config, [config])
    source = read_source(config, [task for task in Task if config.trains(task)])
    read_held_out(config)  # refused now, and not when all clips are encoded
    with session() as world, own_output(Path(config.output), world):
        check_world(config.train.context_parallel, world.size, "train.context_parallel")
        claim_output(config, world)
        components = adapter.prepare(config, source, world)
        check_export(components, world)
        data = TrainingData.of(config, source, components, world)
        if world.is_main:
            write_left_out(Path(config.output), [*source.left_out, *data.left_out])
        Run(config, world, data, components, adapter).train()


def check_export(components: Components, world: World) -> None:
    """See on rank 0, before any work, that components of a user's own classes can be saved: each checkpoint does it."""
    if world.is_main:
        components.check_saveable()
    barrier()


def train_stages(config: TrainConfig, stages: Sequence[TrainConfig], adapter: type[Adapter]) -> None:
    """Train the `stages` of `config` one after another, once all clips are encoded; those that are done are left alone.
    The last one's checkpoint is copied to OUTPUT/checkpoint. UserError as `train`."""
    check_backend(config.train.attention, "train.attention", learns=True)
    adapter.check(config, stages)
    tasks = sorted({task for stage in stages for task in stage.tasks if stage.trains(task)})
    source = read_source(config, tasks)
    parts = [source.subset(stage.data.subsets) for stage in stages]  # an empty one is refused before any work
    for stage in stages:
        read_held_out(stage)
    with session() as world, own_output(Path(config.output), world):
        for stage in stages:
            check_world(stage.train.context_parallel, world.size, "train.context_parallel")
        components = adapter.prepare(config, source, world)
        check_export(components, world)
        all_tasks = stages[0].model_copy(update={"tasks": dict.fromkeys(tasks, 1.0)})
        data = TrainingData.of(all_tasks, source, components, world)
        if world.is_main:
            write_left_out(Path(config.output), [*source.left_out, *data.left_out])
        for number, (stage, part) in enumerate(zip(stages, parts, strict=True)):
            steps = _steps_done(Path(stage.output) / "done", stage)
            _check_prolonged(stages, number, steps)
            claim_output(stage, world)
            if steps < stage.train.steps:
                Run(stage, world, data.only(part), components, adapter).train()
                if world.is_main:
                    write_atomically(Path(stage.output) / "done", str(stage.train.steps))
                barrier()
        if world.is_main:
            with replacing_folder(Path(config.output) / "checkpoint") as folder:
                shutil.copytree(Path(stages[-1].output) / "checkpoint", folder, dirs_exist_ok=True)
        barrier()


def _check_prolonged(stages: Sequence[TrainConfig], number: int, steps: int) -> None:
    """Raise UserError if a stage that was done after `steps` is to have more, and a later one began from its end."""
    stage = stages[number]
    later = [one.output for one in stages[number + 1 :] if (Path(one.output) / "config.yaml").exists()]
    if 0 < steps < stage.train.steps and later:
        told = f"{stage.output} ended after {steps} steps, and {later[0]} began from there"
        raise UserError(f"{told}; only the last stage can be prolonged to {stage.train.steps}")


def _steps_done(done: Path, stage: TrainConfig) -> int:
    """Read after how many steps a stage was done; 0 if it is not. Earlier versions did not write that down."""
    if not done.exists():
        return 0
    return int(text) if is_count(text := done.read_text(errors="replace").strip()) else stage.train.steps
