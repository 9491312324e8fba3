"""Train audio-driven video in stages, each from what the last one left.

    deepspeed scripts/train_mtv.py --config configs/train/puppets_mtv.yaml --set stages.0.steps=100
    deepspeed scripts/train_mtv.py --config configs/train/mtv_cogvideox.yaml --set backbone=models/CogVideoX-2b

The clips need tracks: a manifest with `tracks` (scripts/make_puppets.py and scripts/demix.py write one). Running the
same command again resumes, in the middle of any stage. OUTPUT then holds codecs/ (unless given), latents/, a folder per
stage (1_basic_face ...) with config.yaml, losses.csv, samples/, state/ and checkpoint/, and checkpoint/, a copy of the
last stage's. A configuration with `backbone` trains on a CogVideoX folder alone, without the joint model (docs/mtv.md,
"On CogVideoX").
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ccl.training.batches import JointBatches
from ccl.training.data import TrainingData, training_texts
from ccl.training.source import Source, read_source
from mtv.cogvideox.build import CogVideoXAssembly, track_encoders
from mtv.cogvideox.loading import Frozen, check_cogvideox
from mtv.cogvideox.training import EpsilonObjective, NoSound, encode_texts, model_card, sample_clips
from mtv.control import TrackFeatures
from mtv.curriculum import BackboneConfig, CurriculumConfig
from mtv.track_features import draw_dropped
from shared.codecs import Codecs
from shared.data.manifest import read_manifest
from shared.encoders.audio import FrameFeatures
from shared.training.card import Progress
from shared.training.optimizer import parameter_groups
from shared.training.state import claim_output
from shared.training.trainer import Trainer, Weights
from shared.utils.cli_old import Parser
from shared.utils.config import TrainConfig, load_config_as
from shared.utils.distributed import World, add_launcher_arguments, barrier, session
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

from train_ccl import Run, check_sources, check_variant, prepare_components  # type: ignore[import-not-found] # isort: skip

#: run(stage, its clips): one stage, ready to be trained.
MakeRun = Callable[[Any, Source], Any]


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    config = load_config_as(CurriculumConfig, options.config, options.overrides)
    if config.backbone is not None:
        check_cogvideox(config.backbone, config.data.size)
        if config.data.shards is not None:
            raise UserError("data.shards: hold no embeddings for a CogVideoX backbone; train it from data.manifest")
    if config.lora is not None:
        raise UserError("lora: has no place beside stages; train adapters with scripts/train_ccl.py, on task mtv")
    stages = [config.stage(index) for index in range(len(config.stages))]
    for stage in stages:
        check_variant(stage)
    tasks = {"mtv", *(task for stage in stages for task in stage.tasks if stage.trains(task))}
    source = read_source(config, tasks)
    parts = [source.subset(stage.data.subsets) for stage in stages]  # an empty one is refused before any work
    check_sources(config)
    with session() as world:
        make = (joint_runs if config.backbone is None else cogvideox_runs)(config, stages[0], source, world)
        for stage, part in zip(stages, parts, strict=True):
            claim_output(stage, world)
            done = Path(stage.output) / "done"
            if not done.exists():
                run = make(stage, part)
                run.train()
                del run
                if world.is_main:
                    write_atomically(done, "")
                barrier()
        publish(Path(stages[-1].output) / "checkpoint", Path(config.output) / "checkpoint", world)


def joint_runs(config: CurriculumConfig, first: TrainConfig, source: Source, world: World) -> MakeRun:
    """Stages of the joint model's video stream, after all clips are encoded."""
    components = prepare_components(config, source, world)
    data = TrainingData.of(first.model_copy(update={"tasks": {"mtv": 1.0}}), source, components, world)
    return lambda stage, part: Run(stage, world, data.only(part), components)


def cogvideox_runs(config: CurriculumConfig, first: TrainConfig, source: Source, world: World) -> MakeRun:
    """Stages on the CogVideoX folder `backbone`, after all clips and texts are encoded."""
    assert config.backbone is not None
    frozen = Frozen.load(config.backbone)
    frozen.video_codec.to(world.device)
    encoders = {track: encoder.to(world.device) for track, encoder in track_encoders(first).items()}
    texts = encode_texts(frozen.text_encoder, training_texts(first, source.clips), Path(config.output) / "texts", world)
    no_sound: Any = NoSound()
    data = TrainingData.encoded(first, source.clips, Codecs(frozen.video_codec, no_sound), encoders, texts, world)
    return lambda stage, part: CogVideoXRun(stage, world, data.only(part), frozen, encoders)


class CogVideoXRun:
    """One stage on a CogVideoX folder: the model, its batches, what happens at validation and at the end."""

    def __init__(
        self,
        config: BackboneConfig,
        world: World,
        data: TrainingData,
        frozen: Frozen,
        encoders: dict[str, FrameFeatures],
    ) -> None:
        self.config, self.world, self.data, self.frozen = config, world, data, frozen
        self.started = time.monotonic()
        nonsilent = None if data.tracks is None else data.tracks.nonsilent_features
        self.assembly = CogVideoXAssembly(config, frozen, encoders, nonsilent)
        transformer, control = self.assembly.transformer, self.assembly.control
        self.objective = EpsilonObjective(transformer, control, frozen.scheduler, config.seed)
        side = frozen.video_codec.spatial_stride * transformer.config.patch_size
        tokens = (config.data.size[0] // side) * (config.data.size[1] // side)
        no_sound: Any = NoSound()
        codecs = Codecs(frozen.video_codec, no_sound)
        self.batches = JointBatches(config, data.latents, codecs, data.texts, tokens, world.size, self._tracks)

    def train(self) -> None:
        groups = parameter_groups(self.objective, self.config.optimizer, lambda name: "control." in name)
        objective = self.objective.to(self.world.device)
        Trainer(self.config, self.world, objective, groups, self.batches, self.validate, self.export).run()

    def _tracks(self, step: int, ids: list[str]) -> TrackFeatures:
        assert self.data.tracks is not None, "clips without tracks were refused"
        tracks = self.config.tracks
        drop = draw_dropped(tracks.dropout, tracks.dropout_all, self.config.seed, step, ids)
        return self.data.tracks.batch(ids, drop)

    def validate(self, step: int, weights: Weights) -> None:
        """Refresh OUTPUT/checkpoint and sample clips that have tracks into OUTPUT/samples/stepN_mtv_I.mp4."""
        validation = self.config.validation
        self.export(weights, step)
        held_out = (read_manifest(validation.manifest) if validation.manifest else self.data.clips)[: validation.clips]
        pipeline = self.assembly.pipeline(weights).to(self.world.device)
        pipeline.set_progress_bar_config(desc="validation", leave=False)
        sample_clips(pipeline, held_out, self.config, Path(self.config.output) / "samples" / f"step{step:06d}_mtv")
        self.frozen.text_encoder.to("cpu")  # which the pipeline shares; its texts are in the cache

    def export(self, weights: Weights, step: int | None = None) -> None:
        """Write OUTPUT/checkpoint with its model card, the weights as `train.export_dtype` says. No `step`: the last one."""
        steps = self.config.train.steps if step is None else step
        seconds = time.monotonic() - self.started
        card = model_card(self.config, Progress(steps, len(self.data.clips), seconds, self.world.size))
        self.assembly.save(weights, Path(self.config.output) / "checkpoint", card)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--config", required=True, help="a YAML file of configs/train/ with stages")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override one key, for example stages.0.steps=200; any number of times",
    )  # fmt: skip
    add_launcher_arguments(parser)
    return parser.parse_args(argv)


def publish(last: Path, target: Path, world: World) -> None:
    """The last stage's checkpoint as OUTPUT/checkpoint."""
    if world.is_main:
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(last, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    barrier()


if __name__ == "__main__":
    from shared.utils.errors import run_main

    run_main(main)
