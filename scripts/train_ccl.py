"""Train the joint audio-video model.

    deepspeed scripts/train_ccl.py --config configs/train/puppets_tiny.yaml \
        --set data.manifest=clips/manifest.jsonl --set output=outputs/mine

The manifest is a JSON-lines file, or a folder of X.mp4 with X.txt. Running the same command again resumes.
OUTPUT then holds config.yaml, losses.csv, samples/, state/ (to resume) and checkpoint/ (to sample from).

A configuration with `control` and with `mtv` among its tasks trains audio-driven video in the same run, on clips with
tracks (docs/mtv.md).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ccl.baselines import Variant
from ccl.routing import JOINT_TASKS, Task
from ccl.training.batches import JointBatches
from ccl.training.build import Assembly
from ccl.training.data import TrainingData
from ccl.training.objective import JointObjective
from ccl.training.source import Source, read_source
from mtv.cogvideox.training import sample_clips
from mtv.control import TrackFeatures
from mtv.flops import forward_flops
from mtv.pipeline import MTVPipeline
from mtv.track_features import draw_dropped
from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.lora import seed_dropout
from shared.checkpoint.registry import COMPONENTS
from shared.codecs.fitting import fit_linear_codecs, save_codecs
from shared.data.dataset import ClipDataset
from shared.data.manifest import read_manifest
from shared.data.media import write_video
from shared.training.card import Progress, model_card
from shared.training.components import Components, component_source, fitted_codecs, trusted_packages
from shared.training.optimizer import parameter_groups
from shared.training.state import claim_output
from shared.training.trackers import check_boards
from shared.training.trainer import Trainer, Weights
from shared.utils.cli_old import Parser
from shared.utils.config import TrainConfig, load_config
from shared.utils.distributed import World, add_launcher_arguments, barrier, session
from shared.utils.errors import UserError, run_main


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--config", required=True, help="a YAML file of configs/train/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override one key, for example train.steps=200; any number of times",
    )  # fmt: skip
    add_launcher_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    config = load_config(options.config, options.overrides)
    source = read_source(config, [task for task in Task if config.trains(task)])
    check_variant(config)
    check_sources(config)
    with session() as world:
        claim_output(config, world)
        components = prepare_components(config, source, world)
        run = Run(config, world, TrainingData.of(config, source, components, world), components)
        run.train()
        del run


def check_variant(config: TrainConfig) -> None:
    """Refuse a variant of the model that there is not, and tasks that it cannot learn, before anything is encoded."""
    try:
        variant = Variant.of(config.model)
    except (TypeError, ValueError) as error:
        raise UserError(f"model: {error}") from None
    if variant.routing == "dynamic":
        return
    alone = [task for task in ("t2v", "t2a", "mtv") if config.trains(task)]
    if alone:
        raise UserError(
            f"model.routing joint joins the streams in every task, so {', '.join(alone)} cannot be trained; "
            "give weights to t2av, a2v and v2a only"
        )
    if config.detach_clean_stream:
        raise UserError("detach_clean_stream: with model.routing joint the given stream reads the other; set it false")


def check_sources(config: TrainConfig) -> None:
    """Refuse an `init` or `init_streams` that is not whole, and what is not there (components, a board of the log), before
    OUTPUT is claimed."""
    check_boards(config.train.report_to)
    if start := config.init or config.init_streams:
        check_checkpoint(start, trusted_packages(config))
    bare = [name for name in COMPONENTS if component_source(config, name) is None and name != "text_encoder"]
    if bare and (config.data.shards is not None or len(bare) == 1):
        why = "a codec alone is not fitted" if len(bare) == 1 else "none is fitted to data.shards"
        raise UserError(f"components.{bare[0]}: name the folder of the codec, or set codecs or init; {why}")


def prepare_components(config: TrainConfig, source: Source, world: World) -> Components:
    """The configured components; where no codecs are named, a linear pair is fitted to the training clips first."""
    folder = fitted_codecs(config)
    if component_source(config, "video_codec") is None and source.shards is None:
        if world.is_main and not (folder / "audio_codec").is_dir():
            data = config.data
            samples = ClipDataset(source.clips, data.fps, data.size, data.sample_rate, data.duration)
            save_codecs(folder, *fit_linear_codecs(samples, sample_rate=data.sample_rate, seed=config.seed))
        barrier()
    return Components.load(config, world.device if source.shards is None else "cpu")  # nothing is to be encoded


class Run:
    """One training run: the model, its batches, what happens at validation and at the end."""

    def __init__(self, config: TrainConfig, world: World, data: TrainingData, components: Components) -> None:
        self.config, self.world, self.data = config, world, data
        self.started = time.monotonic()
        self.model = Assembly(config, components, data.tracks.nonsilent_features if data.tracks is not None else None)
        self.objective = JointObjective(
            self.model.transformer,
            config.flow,
            config.loss,
            config.seed,
            config.detach_clean_stream,
            self.model.control,
            None if self.model.control is None else partial(forward_flops, self.model.control),
        )
        if config.lora is not None:
            seed_dropout(self.objective, config.seed)
        buckets, tokens = data.buckets(components.codecs.video.spatial_stride, self.model.patch)
        tracks = self._tracks if data.tracks is not None else None
        self.batches = JointBatches(
            config, data.latents, components.codecs, data.texts, tokens, world.size, tracks, buckets
        )

    def train(self) -> None:
        cross = (".fusion.", "control.")
        groups = parameter_groups(self.objective, self.config.optimizer, lambda name: any(c in name for c in cross))
        objective = self.objective.to(self.world.device)
        Trainer(self.config, self.world, objective, groups, self.batches, self.validate, self.export).run()
        self.data.report(self.world)

    def _tracks(self, step: int, ids: list[str]) -> TrackFeatures:
        assert self.data.tracks is not None, "task mtv has tracks"
        tracks = self.config.tracks
        drop = draw_dropped(tracks.dropout, tracks.dropout_all, self.config.seed, step, ids)
        return self.data.tracks.batch(ids, drop)

    def validate(self, step: int, weights: Weights) -> None:
        """Refresh OUTPUT/checkpoint and sample clips into OUTPUT/samples: stepN_I.mp4, and stepN_mtv_I.mp4 for mtv.

        Prompts are the given ones, or the captions of the validation manifest, or of the first training clips; for mtv
        the captions of those of these clips that have tracks, with their tracks.
        """
        validation = self.config.validation
        self.export(weights, step)
        given = read_manifest(validation.manifest) if validation.manifest else None
        held_out = (self.data.clips if given is None else given)[: validation.clips]
        prompts = list(validation.prompts) or [clip.caption for clip in held_out]
        if not prompts and given is None:
            prompts = self.data.captions(validation.clips)
        pipeline = self.model.pipeline(weights)
        pipeline.set_progress_bar_config(desc="validation", leave=False)
        folder = Path(self.config.output) / "samples"
        folder.mkdir(exist_ok=True)
        if prompts and self.config.trains(*JOINT_TASKS):
            made = pipeline(prompts, seed=self.config.seed, num_inference_steps=validation.steps)
            assert made.video is not None and made.audio is not None, "t2av makes both"
            for index, (frames, sound) in enumerate(zip(made.video, made.audio, strict=True)):
                file = folder / f"step{step:06d}_{index}.mp4"
                write_video(file, frames, made.fps, sound[None], made.sample_rate)
        if self.config.trains("mtv"):
            driven = MTVPipeline.from_pipe(pipeline)
            driven.set_progress_bar_config(desc="validation", leave=False)
            sample_clips(driven, held_out, self.config, folder / f"step{step:06d}_mtv")

    def export(self, weights: Weights, step: int | None = None) -> None:
        """Write OUTPUT/checkpoint with its model card, the weights as `train.export_dtype` says. No `step`: the last one."""
        seconds, clips = time.monotonic() - self.started, len(self.data.latents)
        progress = Progress(step or self.config.train.steps, clips, seconds, self.world.size)
        card = model_card(self.config, progress)
        self.model.save(weights, Path(self.config.output) / "checkpoint", card)


if __name__ == "__main__":
    run_main(main)
