"""Train the joint audio-video model.

    deepspeed scripts/train_ccl.py --config configs/train/stage_tiny.yaml \
        --set data.manifest=clips/manifest.jsonl --set output=outputs/mine

The manifest is a JSON-lines file, or a folder of X.mp4 with X.txt. Running the same command again resumes.
OUTPUT then holds config.yaml, losses.csv, samples/, state/ (to resume) and checkpoint/ (to sample from).

A configuration with `control` and with `mtv` among its tasks trains audio-driven video in the same run, on clips with
tracks (docs/mtv.md).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ccl.baselines import CHOICES, Variant
from ccl.batches import JointBatches
from ccl.objective import JointObjective
from ccl.pipeline import CCLPipeline
from ccl.routing import JOINT_TASKS
from ccl.transformer import DualStreamTransformer
from mtv.captions import without_speaker
from mtv.control import TRACKS, MSTControlNet, TrackFeatures, trainable_backbone_parameters
from mtv.pipeline import MTVPipeline
from mtv.track_store import TrackStore, draw_dropped
from mtv.training import sample_clips
from shared.checkpoint import check_checkpoint, save_checkpoint
from shared.cli import Parser
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.codecs.fitting import fit_linear_codecs, save_codecs
from shared.config import TrainConfig, load_config
from shared.data.dataset import ClipDataset, survey
from shared.data.manifest import Clip, read_manifest, subset
from shared.encoders import HashedWords
from shared.encoders.audio import FrameFeatures, audio_features
from shared.errors import UserError, run_main
from shared.media import probe, write_video
from shared.rng import derive
from shared.training.card import model_card
from shared.training.distributed import World, add_launcher_arguments, barrier, session
from shared.training.latents import LatentStore
from shared.training.optimizer import parameter_groups
from shared.training.state import claim_output
from shared.training.trainer import Trainer, Weights

TOWERS = ("video_stream.", "audio_stream.")
"""What `towers` gives: the parameters whose names begin so."""
Codecs = tuple[LinearVideoCodec, LinearAudioCodec]
Model = TypeVar("Model", DualStreamTransformer, MSTControlNet)


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
    clips = read_clips(config)
    check_variant(config)
    check_sources(config)
    with session() as world:
        claim_output(config, world)
        codecs = prepare_codecs(config, clips, world)
        stores = Stores.encode(config, clips, codecs, world)
        run = Run(config, world, stores, codecs, clips)
        run.train()
        del run


def read_clips(config: TrainConfig) -> list[Clip]:
    """Every clip of the manifests, looked at before anything else: what cannot train is refused at the start."""
    clips = [clip for path in config.data.manifests for clip in read_manifest(path)]
    clips = subset(clips, config.data.subsets, config.data.exclude_subsets)
    if config.data.max_duration is not None:
        limit = config.data.max_duration + 0.5 / config.data.fps
        clips = [clip for clip in clips if clip_duration(clip) <= limit]
    if not clips:
        raise UserError(f"{', '.join(map(str, config.data.manifests))}: no clip to train on")
    survey(clips, needs_video=True, needs_audio=True, duration=config.data.duration)
    return clips


def check_variant(config: TrainConfig) -> None:
    """Refuse a variant of the model that there is not, and tasks that it cannot learn, before anything is encoded."""
    try:
        variant = Variant(**{name: config.model[name] for name in CHOICES if name in config.model})
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
    """Refuse an `init`, `towers` or `codecs` that is not whole before OUTPUT is claimed for this configuration."""
    if start := config.init or config.towers:
        check_checkpoint(start)
    folder = config.codec_source
    for name in ("video_codec", "audio_codec"):
        if folder and not (Path(folder) / name / "config.json").is_file():
            raise UserError(f"codecs: {folder} has no {name}/config.json; fit a pair with scripts/fit_codecs.py")


def control_from(control: MSTControlNet, config: TrainConfig, store: TrackStore | None) -> MSTControlNet:
    """`control` with the weights of `init` but for what is `fresh`; new track encoders standardise their features."""
    folder, fresh = Path(config.init or "") / "control", config.fresh
    old = bool(config.init) and folder.is_dir() and "control" not in fresh
    if old:
        control = initialised(control, folder, without=control.HOLISTIC if "holistic" in fresh else ())
    new = (["music"] if "holistic" in fresh else []) if old else list(TRACKS)
    control.standardise({track: store.sounding(track) for track in new} if store is not None else {})
    return control


def initialised(model: Model, folder: Path, parts: tuple[str, ...] = ("",), without: tuple[str, ...] = ()) -> Model:
    """`model` with the weights of a checkpoint's component in `folder`; refused where names or shapes differ.

    Only those whose names begin with one of `parts`, and none of `without`, are taken; by default all.
    """

    def chosen(one: Model) -> dict[str, torch.Tensor]:
        return {n: v for n, v in one.state_dict().items() if n.startswith(parts) and not n.startswith(without)}

    own, weights = chosen(model), chosen(type(model).from_pretrained(folder))
    for name in sorted(own.keys() | weights.keys()):
        here, there = (list(part[name].shape) if name in part else "absent" for part in (own, weights))
        if here != there:
            raise UserError(f"{folder}: {name} is {there}, and {here} in the configuration; make them agree")
    model.load_state_dict(model.state_dict() | weights)
    return model


def untold(caption: str) -> str:
    """The caption without its sentences about who speaks; as it is where it has another form than MTV's template."""
    try:
        return without_speaker(caption)
    except UserError:
        return caption


def with_weights(model: Model, weights: Weights, prefix: str) -> Model:
    """A model like `model`, for sampling, with those of `weights` whose names begin with `prefix`."""
    other: Model = type(model).from_config(model.config)
    other.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return other.eval()


def clip_duration(clip: Clip) -> float:
    """Seconds of a clip, from its cut or from its file's header."""
    if clip.end is not None or clip.video is None:
        return (clip.end or 0.0) - clip.start
    return probe(clip.video).duration - clip.start


def prepare_codecs(config: TrainConfig, clips: list[Clip], world: World) -> Codecs:
    """The codecs of `codecs`, or of `init` or `towers`; otherwise a linear pair fitted to the training clips."""
    folder = Path(config.codec_source or Path(config.output) / "codecs")
    if not config.codec_source:
        if world.is_main and not (folder / "audio_codec").is_dir():
            data = config.data
            samples = ClipDataset(clips, data.fps, data.size, data.sample_rate, data.duration)
            save_codecs(folder, *fit_linear_codecs(samples, sample_rate=data.sample_rate, seed=config.seed))
        barrier()
    video = LinearVideoCodec.from_pretrained(folder / "video_codec").eval()
    audio = LinearAudioCodec.from_pretrained(folder / "audio_codec").eval()
    return video.to(world.device), audio.to(world.device)


@dataclass(frozen=True)
class Stores:
    """What is encoded once: the latents of all clips and, for task mtv, the features of their tracks."""

    latents: LatentStore
    tracks: TrackStore | None
    encoders: dict[str, FrameFeatures]

    @classmethod
    def encode(cls, config: TrainConfig, clips: list[Clip], codecs: Codecs, world: World) -> Stores:
        folder = Path(config.data.latents or Path(config.output) / "latents")
        latents = LatentStore(folder, clips, config.data, *codecs, stills=config.keyframes > 0)
        latents.encode(world)
        if config.control is None:
            return cls(latents, None, {})
        named = {spec: audio_features(spec).to(world.device) for spec in set(config.tracks.encoders.values())}
        encoders = {track: named[config.tracks.encoders[track]] for track in TRACKS}
        if not config.trains("mtv"):
            return cls(latents, None, encoders)
        frames = {clip.id: latents.about[clip.id]["frames"] for clip in clips}
        tracks = TrackStore(folder / "tracks", clips, frames, config.data.fps, encoders)
        tracks.encode(world)
        return cls(latents, tracks, encoders)

    def only(self, clips: list[Clip]) -> Stores:
        """The same for some of the clips."""
        names = [clip.id for clip in clips]
        return replace(self, latents=self.latents.only(names), tracks=self.tracks and self.tracks.only(names))


class Run:
    """One training run: the model, its batches, what happens at validation and at the end."""

    def __init__(self, config: TrainConfig, world: World, stores: Stores, codecs: Codecs, clips: list[Clip]) -> None:
        self.config, self.world, self.codecs, self.clips = config, world, codecs, clips
        self.encoders = stores.encoders
        self.started = time.monotonic()
        self.text_encoder = HashedWords()
        self.transformer = self._model()
        self.control = self._control(stores.tracks) if config.control is not None else None
        self._freeze()
        self.objective = JointObjective(
            self.transformer, config.flow, config.loss, config.seed, config.detach_clean_stream, self.control
        )
        patch = self.transformer.video_stream.config.patch_size[1]
        tokens = (config.data.size[0] // codecs[0].spatial_stride // patch) * (
            config.data.size[1] // codecs[0].spatial_stride // patch
        )
        tracks = None if stores.tracks is None else partial(self._tracks, stores.tracks)
        self.batches = JointBatches(
            config, stores.latents, codecs, self.text_encoder, tokens, world.size, tracks, untold
        )

    def train(self) -> None:
        cross = ("_cca.", "control.")
        groups = parameter_groups(self.objective, self.config.optimizer, lambda name: any(c in name for c in cross))
        objective = self.objective.to(self.world.device)
        Trainer(self.config, self.world, objective, groups, self.batches, self.validate, self.export).run()

    def _model(self) -> DualStreamTransformer:
        """The configured model, new from the seed or with the weights of `init`, or with the streams of `towers`.

        Codecs and text say what goes in.
        """
        settings = dict(self.config.model)
        torch.manual_seed(derive(self.config.seed, "weights"))
        try:
            for name, channels in zip(("video", "audio"), (c.latent_channels for c in self.codecs), strict=True):
                sizes = {"in_channels": channels, "text_dim": self.text_encoder.dim}
                settings[name] = {**settings[name], **sizes}
            model = DualStreamTransformer(**settings)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"model: {error}; see configs/model/") from None
        if self.config.towers:
            return initialised(model, Path(self.config.towers) / "transformer", TOWERS)
        return initialised(model, Path(self.config.init) / "transformer") if self.config.init else model

    def _control(self, store: TrackStore | None) -> MSTControlNet:
        """The control network for this backbone and these features; with the weights of `init` where it has one."""
        stream = self.transformer.video_stream.config
        sizes = {name: (e.window, e.layers, e.dim) for name, e in self.encoders.items()}
        torch.manual_seed(derive(self.config.seed, "control"))
        try:
            control = MSTControlNet(
                backbone_dim=stream.width,  # by name: diffusers' config takes positional values for defaults
                backbone_heads=stream.num_attention_heads,
                num_blocks=stream.num_layers,
                tracks=sizes,
                temporal_stride=self.codecs[0].temporal_stride,
                **(self.config.control or {}),
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"control: {error}; see configs/model/stage_control.yaml") from None
        return control_from(control, self.config, store)

    def _freeze(self) -> None:
        """Only what `trainable` names learns."""
        parts = self.config.trainable
        self.transformer.requires_grad_("transformer" in parts)
        if "attention" in parts:
            for parameter in trainable_backbone_parameters(self.transformer.video_stream).values():
                parameter.requires_grad_(True)
        if self.control is not None:
            self.control.requires_grad_("control" in parts)
            if "holistic" in parts:
                for parameter in self.control.holistic_parameters():
                    parameter.requires_grad_(True)

    def _tracks(self, store: TrackStore, step: int, ids: list[str]) -> TrackFeatures:
        tracks = self.config.tracks
        return store.batch(ids, draw_dropped(tracks.dropout, tracks.dropout_all, self.config.seed, step, ids))

    def pipeline(self, weights: Weights) -> CCLPipeline:
        """A pipeline of the given weights (the average, where there is one), apart from those in training."""
        model = with_weights(self.transformer, weights, "transformer.")
        control = None if self.control is None else with_weights(self.control, weights, "control.")
        encoders = [self.encoders.get(track) for track in TRACKS]
        others = [None if encoder is encoders[0] else encoder for encoder in encoders[1:]]
        flow, data = self.config.flow, self.config.data
        video_codec, audio_codec = copy.deepcopy(self.codecs)
        return CCLPipeline(
            model,
            video_codec.cpu(),
            audio_codec.cpu(),
            self.text_encoder,
            FlowMatchEulerDiscreteScheduler(shift=flow.video_shift),
            FlowMatchEulerDiscreteScheduler(shift=flow.audio_shift),
            fps=data.fps,
            height=data.size[0],
            width=data.size[1],
            control=control,
            audio_encoder=encoders[0],
            effects_encoder=others[0],
            music_encoder=others[1],
        )

    def validate(self, step: int, weights: Weights) -> None:
        """Refresh OUTPUT/checkpoint and sample clips into OUTPUT/samples: stepN_I.mp4, and stepN_mtv_I.mp4 for mtv.

        Prompts are the given ones, or the captions of the validation manifest, or of the first training clips; for mtv
        the captions of those of these clips that have tracks, with their tracks.
        """
        validation = self.config.validation
        self.export(weights, step)
        held_out = (read_manifest(validation.manifest) if validation.manifest else self.clips)[: validation.clips]
        prompts = list(validation.prompts) or [clip.caption for clip in held_out]
        pipeline = self.pipeline(weights)
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
        """Write OUTPUT/checkpoint with its model card, the weights as `train.export` says. No `step`: the last one."""
        pipeline: Any = self.pipeline(weights)
        if self.config.train.export == "bf16":
            for part in filter(None, (pipeline.transformer, pipeline.control)):
                for name, parameter in part.named_parameters():
                    if not any(kept in name for kept in part._keep_in_fp32_modules):
                        parameter.data = parameter.data.to(torch.bfloat16)
        seconds = time.monotonic() - self.started
        card = model_card(self.config, step or self.config.train.steps, len(self.clips), seconds, self.world.size)
        save_checkpoint(pipeline, Path(self.config.output) / "checkpoint", card, self.config.train.shard_size)


if __name__ == "__main__":
    run_main(main)
