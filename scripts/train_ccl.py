"""Train the joint audio-video model.

    deepspeed scripts/train_ccl.py --config configs/train/stage_tiny.yaml \
        --set data.manifest=clips/manifest.jsonl --set output=outputs/mine

The manifest is a JSON-lines file, or a folder of X.mp4 with X.txt. Running the same command again resumes.
OUTPUT then holds config.yaml, losses.csv, samples/, state/ (to resume) and checkpoint/ (to sample from).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ccl.batches import JointBatches
from ccl.objective import JointObjective
from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.checkpoint import check_checkpoint, save_checkpoint
from shared.cli import Parser
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.codecs.fitting import fit_linear_codecs, save_codecs
from shared.config import TrainConfig, load_config
from shared.data.dataset import ClipDataset, survey
from shared.data.manifest import Clip, read_manifest, subset
from shared.encoders import HashedWords
from shared.errors import UserError, run_main
from shared.media import probe, write_video
from shared.rng import derive
from shared.training.card import model_card
from shared.training.distributed import World, add_launcher_arguments, barrier, session
from shared.training.latents import LatentStore
from shared.training.optimizer import parameter_groups
from shared.training.state import claim_output
from shared.training.trainer import Trainer, Weights

Codecs = tuple[LinearVideoCodec, LinearAudioCodec]


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
    check_sources(config)
    with session() as world:
        claim_output(config, world)
        codecs = prepare_codecs(config, clips, world)
        store = LatentStore(Path(config.output) / "latents", clips, config.data, *codecs)
        store.encode(world)
        run = Run(config, world, store, codecs, clips)
        run.train()
        del run


def read_clips(config: TrainConfig) -> list[Clip]:
    """Every clip of the manifests, looked at before anything else: what cannot train is refused at the start."""
    clips = [clip for path in config.data.manifests for clip in read_manifest(path)]
    clips = subset(clips, exclude=tuple(config.data.exclude_subsets))
    if config.data.max_duration is not None:
        limit = config.data.max_duration + 0.5 / config.data.fps
        clips = [clip for clip in clips if clip_duration(clip) <= limit]
    if not clips:
        raise UserError(f"{', '.join(map(str, config.data.manifests))}: no clip to train on")
    survey(clips, needs_video=True, needs_audio=True, duration=config.data.duration)
    return clips


def check_sources(config: TrainConfig) -> None:
    """Refuse an `init` or `codecs` that is not whole before OUTPUT is claimed for this configuration."""
    if config.init:
        check_checkpoint(config.init)
    folder = config.codecs or config.init
    for name in ("video_codec", "audio_codec"):
        if folder and not (Path(folder) / name / "config.json").is_file():
            raise UserError(f"codecs: {folder} has no {name}/config.json; fit a pair with scripts/fit_codecs.py")


def initialised(model: DualStreamTransformer, folder: Path) -> DualStreamTransformer:
    """`model` with the weights of a checkpoint's component in `folder`; refused where names or shapes differ."""
    weights = type(model).from_pretrained(folder).state_dict()
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        here, there = (list(part[name].shape) if name in part else "absent" for part in (own, weights))
        if here != there:
            raise UserError(f"{folder}: {name} is {there}, and {here} in the configuration; make them agree")
    model.load_state_dict(weights)
    return model


def clip_duration(clip: Clip) -> float:
    """Seconds of a clip, from its cut or from its file's header."""
    if clip.end is not None or clip.video is None:
        return (clip.end or 0.0) - clip.start
    return probe(clip.video).duration - clip.start


def prepare_codecs(config: TrainConfig, clips: list[Clip], world: World) -> Codecs:
    """The codecs of `codecs` or of the `init` checkpoint; otherwise a linear pair fitted to the training clips."""
    folder = Path(config.codecs or config.init or Path(config.output) / "codecs")
    if not (config.codecs or config.init):
        if world.is_main and not (folder / "audio_codec").is_dir():
            data = config.data
            samples = ClipDataset(clips, data.fps, data.size, data.sample_rate, data.duration)
            save_codecs(folder, *fit_linear_codecs(samples, sample_rate=data.sample_rate, seed=config.seed))
        barrier()
    video = LinearVideoCodec.from_pretrained(folder / "video_codec").eval()
    audio = LinearAudioCodec.from_pretrained(folder / "audio_codec").eval()
    return video.to(world.device), audio.to(world.device)


class Run:
    """One training run: the model, its batches, what happens at validation and at the end."""

    def __init__(
        self, config: TrainConfig, world: World, store: LatentStore, codecs: Codecs, clips: list[Clip]
    ) -> None:
        self.config, self.world, self.codecs, self.clips = config, world, codecs, clips
        self.started = time.monotonic()
        self.text_encoder = HashedWords()
        self.transformer = self._model()
        self.objective = JointObjective(
            self.transformer, config.flow, config.loss, config.seed, config.detach_clean_stream
        )
        patch = self.transformer.video_stream.config.patch_size[1]
        tokens = (config.data.size[0] // codecs[0].spatial_stride // patch) * (
            config.data.size[1] // codecs[0].spatial_stride // patch
        )
        self.batches = JointBatches(config, store, codecs, self.text_encoder, tokens, world.size)

    def train(self) -> None:
        groups = parameter_groups(self.objective, self.config.optimizer, lambda name: "_cca." in name)
        objective = self.objective.to(self.world.device)
        Trainer(self.config, self.world, objective, groups, self.batches, self.validate, self.export).run()

    def _model(self) -> DualStreamTransformer:
        """The configured model, new from the seed or with the weights of `init`; codecs and text say what goes in."""
        settings = dict(self.config.model)
        torch.manual_seed(derive(self.config.seed, "weights"))
        try:
            for name, channels in zip(("video", "audio"), (c.latent_channels for c in self.codecs), strict=True):
                sizes = {"in_channels": channels, "text_dim": self.text_encoder.dim}
                settings[name] = {**settings[name], **sizes}
            model = DualStreamTransformer(**settings)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"model: {error}; see configs/model/") from None
        return initialised(model, Path(self.config.init) / "transformer") if self.config.init else model

    def pipeline(self, weights: Weights) -> CCLPipeline:
        """A pipeline of the given weights (the average, where there is one), apart from those in training."""
        model = DualStreamTransformer.from_config(self.transformer.config)
        prefix = "transformer."
        model.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        flow, data = self.config.flow, self.config.data
        video_codec, audio_codec = copy.deepcopy(self.codecs)
        return CCLPipeline(
            model.eval(),
            video_codec.cpu(),
            audio_codec.cpu(),
            self.text_encoder,
            FlowMatchEulerDiscreteScheduler(shift=flow.video_shift),
            FlowMatchEulerDiscreteScheduler(shift=flow.audio_shift),
            fps=data.fps,
            height=data.size[0],
            width=data.size[1],
        )

    def validate(self, step: int, weights: Weights) -> None:
        """Refresh OUTPUT/checkpoint and sample clips into OUTPUT/samples.

        Prompts are the given ones, or the captions of the validation manifest, or of the first training clips.
        """
        validation = self.config.validation
        self.export(weights, step)
        held_out = read_manifest(validation.manifest) if validation.manifest else self.clips
        prompts = list(validation.prompts) or [clip.caption for clip in held_out[: validation.clips]]
        if not prompts:
            return
        pipeline = self.pipeline(weights)
        made = pipeline(prompts, seed=self.config.seed, num_inference_steps=validation.steps)
        folder = Path(self.config.output) / "samples"
        folder.mkdir(exist_ok=True)
        assert made.video is not None and made.audio is not None, "t2av makes both"
        for index, (frames, sound) in enumerate(zip(made.video, made.audio, strict=True)):
            file = folder / f"step{step:06d}_{index}.mp4"
            write_video(file, frames, made.fps, sound[None], made.sample_rate)

    def export(self, weights: Weights, step: int | None = None) -> None:
        """Write OUTPUT/checkpoint with its model card; bf16 but for what must stay in fp32. No `step`: the last one."""
        pipeline: Any = self.pipeline(weights)
        for name, parameter in pipeline.transformer.named_parameters():
            if not any(part in name for part in DualStreamTransformer._keep_in_fp32_modules):
                parameter.data = parameter.data.to(torch.bfloat16)
        seconds = time.monotonic() - self.started
        card = model_card(self.config, step or self.config.train.steps, len(self.clips), seconds, self.world.size)
        save_checkpoint(pipeline, Path(self.config.output) / "checkpoint", card, self.config.train.shard_size)


if __name__ == "__main__":
    run_main(main)
