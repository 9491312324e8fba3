"""The joint model as a run sees it (`ccl.training.run.Adapter`): with all that belongs into its checkpoint."""

import copy
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ContextParallelConfig, FlowMatchEulerDiscreteScheduler
from torch import nn

from ccl.baselines import Variant
from ccl.pipeline import CCLPipeline
from ccl.routing import JOINT_TASKS
from ccl.training.distill import DistillObjective, check_learns, without_average
from ccl.training.objective import JointObjective
from ccl.training.source import Source, clip_dataset
from ccl.training.teacher import Teacher, check_teacher, few_steps
from ccl.transformer import DualStreamTransformer
from mtv.control import MSTControlNet
from mtv.control_training import NonsilentFeatures, build_control, freeze, pipeline_parts, sample_clips, start_control
from mtv.pipeline import MTVPipeline
from shared.checkpoint.lora import adapter_settings, add_lora, base_weights, lora_card, lora_weights, save_lora
from shared.checkpoint.registry import COMPONENTS
from shared.codecs.fitting import fit_linear_codecs, save_codecs
from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec
from shared.data.bad_clips import check_policy
from shared.data.dataset import decode_problems
from shared.data.manifest import Clip
from shared.data.media import write_video
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.context_parallel import check_heads
from shared.nn.dit import StreamConfig
from shared.nn.parameter_names import part_of
from shared.training.card import Progress, model_card
from shared.training.components import Components
from shared.training.inputs import component_source, fitted_codecs
from shared.training.weights import StateDict, export_pipeline, initialise
from shared.utils.config import TrainConfig
from shared.utils.distributed import World, barrier
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.portable import portable
from shared.utils.rng import derive

#: How the folder is read, in its card.
USE = """```python
from ccl import CCLPipeline

pipe = CCLPipeline.from_pretrained(FOLDER)  # this folder, or its name on the hub
clip = pipe("a bell rings", duration=2.0, seed=0)
clip.save("clip.mp4")
```

Plain diffusers opens it where the packages are installed:
`DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)`."""
#: Parts of names of what a stream may have more than that of the folder it starts from: at first it adds nothing.
ADDED = (".rate_embedder.", ".until_embedder.", ".text_refiner.", "stream.skip.", "stream.gate.")


class JointAdapter:
    """`transformer` and, where there is one, `control`, with the weights that training starts from; `components`, which
    are not trained. `pipeline` and `save` take weights by the names of `JointObjective`'s state dict."""

    def __init__(
        self, config: TrainConfig, components: Components | None = None, features: NonsilentFeatures | None = None
    ) -> None:
        """`components`: loaded where none are given. `features`: what a new control network standardises its tracks by.
        UserError if a component cannot be read, the settings are none of the model's, or do not fit `init`."""
        self.config, self.components = config, components or Components.load(config)
        self.transformer = build_model(config, self.components)
        self.control: MSTControlNet | None = None
        if config.control is not None:
            stride = self.components.codecs.video.temporal_stride
            stream = self.transformer.video_stream.config
            self.control = build_control(stream, self.components.encoders, stride, config.control, config.seed)
            start_control(self.control, config.init, config.reinit, features)
        parts = config.trainable if config.lora is None else config.lora.modules_to_save
        video_blocks = nn.ModuleList(block.video for block in self.transformer.blocks)
        freeze(self.transformer, video_blocks, self.control, parts)
        if config.lora is not None:
            add_lora(self.transformer, self.control, config.lora, config.seed)

    @staticmethod
    def check(config: TrainConfig, stages: Sequence[TrainConfig]) -> None:
        """UserError for a variant that there is not, tasks that it cannot learn, and components that are not there."""
        for stage in stages:
            check_teacher(stage)
            joint = _variant(stage).routing == "joint"
            alone = ", ".join(task for task in ("t2v", "t2a", "mtv") if stage.trains(task))
            if joint and alone:
                what = f"joins the streams in every task, so {alone} cannot be trained"
                raise UserError(f"model.routing joint {what}; give weights to t2av, a2v and v2a only")
            heads = {name: stage.model[name]["num_attention_heads"] for name in ("video", "audio")}
            check_heads(heads, stage.train.context_parallel, "train.context_parallel")
            if joint and stage.detach_clean_stream:
                why = "with model.routing joint the given stream reads the other"
                raise UserError(f"detach_clean_stream: {why}; set it false")
        bare = [name for name in COMPONENTS if component_source(config, name) is None and name != "text_encoder"]
        if bare and (config.data.shards is not None or len(bare) == 1):
            why = "a codec alone is not fitted" if len(bare) == 1 else "none is fitted to data.shards"
            raise UserError(f"components.{bare[0]}: name the folder of the codec, or set codecs or init; {why}")

    @staticmethod
    def prepare(config: TrainConfig, source: Source, world: World) -> Components:
        """Load the configured components; where no codecs are named, fit a linear pair to the training clips first."""
        folder = fitted_codecs(config)
        if component_source(config, "video_codec") is None and source.shards is None:
            check_size(config, LinearVideoCodec().spatial_stride)
            if world.is_main and not (folder / "audio_codec").is_dir():
                save_codecs(folder, *_fitted(config, source.clips))
            barrier()
        components = Components.load(config, world.device if source.shards is None else "cpu")  # else all is encoded
        check_size(config, components.codecs.video.spatial_stride)
        return components

    @staticmethod
    def preview(config: TrainConfig, source: Source) -> Components:
        """As `prepare`, with nothing written: a pair that is not fitted stands for one that it would fit."""
        fits = component_source(config, "video_codec") is None and not (fitted_codecs(config) / "audio_codec").is_dir()
        pair = (LinearVideoCodec(), LinearAudioCodec(sample_rate=config.data.sample_rate)) if fits else None
        components = Components.load(config, codecs=pair)
        check_size(config, components.codecs.video.spatial_stride)
        return components

    @property
    def patch(self) -> int:
        """Video latents along the side of a token."""
        return int(self.transformer.video_stream.config.patch_size[1])

    def objective(self) -> JointObjective:
        """Make the joint objective over `transformer` and `control`."""
        config, flops = self.config, self.control and self.control.forward_flops
        if config.train.context_parallel > 1:
            parallel = ContextParallelConfig(ulysses_degree=config.train.context_parallel)
            self.transformer.enable_parallelism(config=parallel)
        settings = config.flow, config.loss, config.seed
        if config.distill is None:
            return JointObjective(self.transformer, *settings, config.detach_clean_stream, self.control, flops)
        check_learns(self.transformer)
        followed = config.distill.teacher is not None
        teacher = Teacher.load(config, self.transformer, self.control) if followed else None
        average = config.distill, config.train.ema
        return DistillObjective(self.transformer, *settings, *average, teacher, self.control, flops)

    def pipeline(self, weights: StateDict) -> CCLPipeline:
        """Make a pipeline of these weights (the average, where there is one), apart from those in training.
        With `lora` its adapters are loaded, and act. The text encoder is loaded for it."""
        weights = without_average(weights)
        flow, audio_codec = self.config.flow, cast(Any, copy.deepcopy(self.components.codecs.audio))
        pipeline = CCLPipeline(
            audio_codec=audio_codec.cpu(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=flow.video_shift),
            audio_scheduler=FlowMatchEulerDiscreteScheduler(shift=flow.audio_shift),
            **pipeline_parts(self.config, self.components, self.transformer, self.control, base_weights(weights)),
        )
        if self.config.lora is not None:
            pipeline.load_lora_weights(lora_weights(weights), settings=adapter_settings(self.config.lora))
        return pipeline

    def sample(
        self, weights: StateDict, prompts: list[TimedPrompts], clips: list[Clip], stem: Path, device: Any
    ) -> None:
        """Write STEM_I.mp4 of the prompts, and STEM_mtv_I.mp4 of the `clips` that have tracks; on the CPU."""
        pipeline = self.pipeline(weights)
        pipeline.set_progress_bar_config(desc="validation", leave=False)
        if prompts and self.config.trains(*JOINT_TASKS):
            steps = self.config.validation_steps
            output = pipeline(prompts, seed=self.config.seed, num_inference_steps=steps)
            assert output.video is not None and output.audio is not None, "t2av makes both"
            for index, (video, audio) in enumerate(zip(output.video, output.audio, strict=True)):
                write_video(f"{stem}_{index}.mp4", video, output.fps, audio[None], output.sample_rate)
        if self.config.trains("mtv"):
            sample_clips(MTVPipeline.from_pipe(pipeline), clips, self.config, stem.with_name(f"{stem.name}_mtv"))

    def save(self, weights: StateDict, folder: Path, progress: Progress) -> None:
        """Write the checkpoint folder with its model card, the weights as `train.export_dtype` says. With `lora` the
        adapters alone, in a folder lora beside `folder`, which is written only where other parts have learnt too
        (`lora.modules_to_save`), without the adapters."""
        evaluate = "python scripts/evaluate.py --checkpoint FOLDER --suite puppets --level simple --output DIR"
        card = model_card(
            self.config, progress, title="Joint audio-video checkpoint",
            tags="audio-video, joint-generation, cross-modal-context-learning",
            use=USE, then=f"Measure it with `{evaluate}`.",
        )  # fmt: skip
        lora, weights = self.config.lora, without_average(weights)
        if lora is not None:
            about = lora_card(card, lora, portable(self.config.init))
            dtype = torch.bfloat16 if self.config.train.export_dtype == "bf16" else None
            save_lora(weights, folder.with_name("lora"), about, lora, dtype)
            if not lora.modules_to_save:
                return
        pipeline: Any = self.pipeline(weights)
        if lora is not None:
            pipeline.unload_lora_weights()
        export_pipeline(pipeline, folder, card, self.config.train)


def _fitted(config: TrainConfig, clips: list[Clip]) -> tuple[LinearVideoCodec, LinearAudioCodec]:
    """Fit a pair to the clips that can be read. UserError naming the others, if `data.on_bad_clip` is to refuse."""
    dataset = clip_dataset(clips, config.data)
    try:
        return fit_linear_codecs(dataset, sample_rate=config.data.sample_rate, seed=config.seed)
    except UserError:
        problems = decode_problems(dataset)
        if not problems:
            raise
        check_policy(problems, len(clips), config.data.on_bad_clip)  # what is skipped is told when it is encoded
        gone = {problem.id for problem in problems}
        return _fitted(config, [clip for clip in clips if clip.id not in gone])


def check_size(config: TrainConfig, stride: int) -> None:
    """Refuse a `data.size` that is no whole number of tokens of a codec of `stride` pixels."""
    _, *patch = config.model.get("video", {}).get("patch_size", (1, 2, 2))
    if wrong := [side for side, part in zip(config.data.size, patch, strict=True) if side % (stride * part)]:
        units = "x".join(str(stride * part) for part in patch)
        told = f"data.size {list(config.data.size)}: {wrong[0]} does not fit"
        raise UserError(f"{told}; height and width go by {units}")


def _variant(config: TrainConfig) -> Variant:
    """Find the variant of the model, which is built without values first. UserError for settings that are not its."""
    settings, sizes = dict(config.model), {"in_channels": 8, "text_dim": 8}  # those that codecs and text decide
    try:
        streams = {name: {**settings[name], **sizes} for name in ("video", "audio")}
        with torch.device("meta"):
            DualStreamTransformer(**settings | streams)
        if unknown := sorted(set(config.control or {}) - set(signature(MSTControlNet).parameters)):
            raise UserError(f"control: unknown key {unknown[0]}; see configs/model/puppets_control.yaml")
        return Variant.of(settings)
    except KeyError as error:
        raise UserError(f"model: has no {error}; see configs/model/") from None
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, UserError) else UserError(f"model: {error}; see configs/model/") from None


def _of_the_base(settings: dict[str, Any], init: Path) -> dict[str, Any]:
    """Take from the folder `init` what a folder may lack, and adapters that act there must learn with."""
    base = read_json(init / "transformer" / "config.json")
    optional = {"frame_rate": False, "average": False, "text_layers": 0, "text_heads": StreamConfig.text_heads}
    streams = {
        name: settings[name] | {key: base.get(name, {}).get(key, default) for key, default in optional.items()}
        for name in ("video", "audio")
    }
    others = {"window_from": "counts", "parts": (), "distilled": None}
    return {key: base.get(key, default) for key, default in others.items()} | streams


def build_model(config: TrainConfig, components: Components) -> DualStreamTransformer:
    """Build the configured model, new from the seed, with the weights of `init`, or with the streams of `init_streams`.
    Codecs and text say what goes in. UserError for settings that are none of the model's, or do not fit."""
    settings = dict(config.model)
    torch.manual_seed(derive(config.seed, "weights"))
    try:
        for name in ("video", "audio"):
            channels = getattr(components.codecs, name).latent_channels
            settings[name] = {**settings[name], "in_channels": channels, "text_dim": components.text.dim}
        if config.init and (config.lora is not None or config.distill is not None):
            settings |= _of_the_base(settings, Path(config.init))
        if config.distill is not None:
            settings |= {name: settings[name] | {"average": True} for name in ("video", "audio")}
            settings["distilled"] = few_steps(config).as_config()
        model = DualStreamTransformer(**settings)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"model: {error}; see configs/model/") from None
    start = config.init_streams or config.init
    if not start:
        return model

    anew = [f".{part}." for part in config.reinit if part.startswith("fusion.")]

    def joins(name: str) -> bool:
        new = bool(config.init_streams) and part_of(name) in ("fusion", "part_embedding")
        return new or any(part in name for part in anew)

    def starts_at_zero(name: str) -> bool:  # a folder without it goes on as it was
        return part_of(name) == "part_embedding" or any(one in name for one in ADDED)

    return initialise(model, Path(start) / "transformer", joins, starts_at_zero)
