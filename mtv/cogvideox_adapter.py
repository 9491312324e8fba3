"""CogVideoX as a run sees it (`ccl.training.run.Adapter`): its objective, and all that belongs into its checkpoint."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import Tensor, nn

from mtv import control_training
from mtv.cogvideox.hooks import controlled
from mtv.cogvideox.loading import check_cogvideox, codec_folder, load_scheduler, read_part
from mtv.cogvideox.objective import cogvideox_flops, diffusion_loss, draw_timesteps
from mtv.control import MSTControlNet
from mtv.control_training import NonsilentFeatures
from mtv.curriculum import BackboneConfig, CurriculumConfig, DiffusionLoss
from mtv.pipeline import MTVPipeline
from shared.checkpoint.registry import ComponentSource
from shared.codecs import Codecs
from shared.codecs.cogvideox import CogVideoXVideoCodec
from shared.codecs.library import load_library_model
from shared.data.manifest import Clip
from shared.encoders.audio import load_track_encoders
from shared.encoders.t5 import T5Text
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.nn.dit import Control
from shared.nn.flow import draw_noise
from shared.training.card import Progress, model_card
from shared.training.components import Components, LazyTextEncoder
from shared.training.flops import step_cost, trained_share
from shared.training.log import LossRecord
from shared.training.trainer import StepOutput
from shared.training.weights import StateDict, export_pipeline, initialise
from shared.utils.distributed import World
from shared.utils.errors import UserError
from shared.utils.finite import check_weights
from shared.utils.portable import portable

USE = """Sample it with `python scripts/sample_mtv.py --checkpoint FOLDER`, or read it with
`MTVPipeline.from_pretrained(folder)`. The licence of the CogVideoX weights it was made of holds for it too."""


class NoSound:
    """Stands for an audio codec where no model reads latents of the sound: they are one zero per clip."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate

    def encode(self, audio: Tensor) -> Tensor:
        return audio.new_zeros(len(audio), 1, 1)

    def clock(self, samples: int) -> LatentClock:
        return LatentClock.uniform(1, 1.0)


class LazyT5(LazyTextEncoder):
    """The text encoder of a CogVideoX folder, which is loaded when it is asked for and stays with nobody."""

    def __init__(self, folder: str) -> None:
        width = int(read_part(folder, "text_encoder/config.json")["d_model"])
        super().__init__(ComponentSource("shared.encoders.t5:T5Text", folder, "text_encoder", width))
        self.folder = folder

    def load(self) -> T5Text:
        """On the CPU, in the precision it is stored in. UserError if it cannot be read."""
        length = read_part(self.folder, "transformer/config.json").get("max_text_seq_length", 226)
        encoder = T5Text.from_pretrained(self.folder, max_length=length, torch_dtype="auto")
        check_weights(encoder, f"backbone {self.folder}: text_encoder")
        return encoder


class DiffusionObjective(nn.Module):
    """`objective(batch) -> StepOutput`: `diffusion_loss` of each sample, at a timestep of its own.

    A `batch` is one of `ccl.training.batches.JointBatches`. The backward pass computes the blocks again (gradient
    checkpointing): at full size their activations fill the memory. So the hooks stay, and act by the last control.
    """

    def __init__(
        self, transformer: Any, control: MSTControlNet, scheduler: Any, seed: int, weights: DiffusionLoss
    ) -> None:
        super().__init__()
        self.weights = weights
        self.transformer, self.control, self.scheduler, self.seed = transformer, control, scheduler, seed
        self._act: Control = lambda index, x: x
        self._trained = trained_share(transformer)
        self._backbone_flops = cache(partial(cogvideox_flops, transformer))
        self._control_flops = cache(control.forward_flops)
        transformer.enable_gradient_checkpointing()
        self._hooks = ExitStack()
        self._hooks.enter_context(controlled(transformer, lambda index, x: self._act(index, x)))

    def forward(self, batch: Any) -> StepOutput:
        count = self.scheduler.config.num_train_timesteps
        timesteps = draw_timesteps(self.seed, batch.step, batch.ids, count).to(batch.video.device)
        sigma = timesteps / 1000
        self._act = self.control(batch.tracks, torch.where(batch.clean_frames, 0.0, sigma[:, None]))
        noise = draw_noise(self.seed, batch.step, batch.ids, tuple(batch.video.shape[1:]), "video").to(batch.video)
        latents, noise = batch.video.transpose(1, 2), noise.transpose(1, 2)  # as the transformer has them
        clips, frames, _, height, width = latents.shape
        space = (height // self.transformer.config.patch_size) * (width // self.transformer.config.patch_size)
        forward = self._backbone_flops(tuple(latents.shape[1:]), batch.text.shape[1])
        forward += self._control_flops(frames, space)
        cost = step_cost(clips * frames * space, clips * forward, self._trained, recomputed=True)
        given = (latents, batch.text, timesteps, noise, batch.clean_frames)
        loss = diffusion_loss(self.transformer, self.scheduler, *given, epsilon=self.weights.epsilon, v=self.weights.v)
        return StepOutput(loss.sum() / batch.divisor, [LossRecord("video", "mtv", sigma, loss.detach(), cost)])


class CogVideoXAdapter:
    """`transformer` and `control` with the weights that training starts from; `components`, which are not trained."""

    def __init__(
        self, config: BackboneConfig, components: Components | None = None, features: NonsilentFeatures | None = None
    ) -> None:
        """UserError for a part that cannot be read or does not fit. `features`: what a new network standardises by."""
        self.config, self.components = config, components or load_components(config)
        start, encoders = config.init or config.backbone, self.components.encoders
        assert start is not None, "this adapter is that of a backbone"
        self.transformer = load_transformer(start)
        stride, settings = self.components.codecs.video.temporal_stride, config.control or {}
        self.control = control_training.build_control(self.transformer.config, encoders, stride, settings, config.seed)
        control_training.start_control(self.control, start, (), features)
        control_training.freeze(self.transformer, self.transformer, self.control, config.trainable)

    @staticmethod
    def check(config: CurriculumConfig, stages: Sequence[BackboneConfig]) -> None:
        assert config.backbone is not None, "this adapter is that of a backbone"
        if any(stage.train.context_parallel > 1 for stage in stages):
            raise UserError("train.context_parallel divides the joint model alone, not a CogVideoX; set it 1")
        check_cogvideox(config.backbone, config.data.size, any(stage.diffusion_loss.v > 0 for stage in stages))

    @staticmethod
    def prepare(config: CurriculumConfig, source: Any, world: World) -> Components:
        return load_components(config, world.device)

    @staticmethod
    def preview(config: CurriculumConfig, source: Any) -> Components:
        return load_components(config)

    @property
    def patch(self) -> int:
        return int(self.transformer.config.patch_size)

    def objective(self) -> nn.Module:
        scheduler, weights = load_scheduler(self.config.backbone), self.config.diffusion_loss
        return DiffusionObjective(self.transformer, self.control, scheduler, self.config.seed, weights)

    def pipeline(self, weights: StateDict) -> MTVPipeline:
        """Make a pipeline of these weights (the average, where there is one), apart from those in training."""
        parts = control_training.pipeline_parts(self.config, self.components, self.transformer, self.control, weights)
        return MTVPipeline(scheduler=load_scheduler(self.config.backbone), **parts)

    def sample(
        self, weights: StateDict, prompts: list[TimedPrompts], clips: list[Clip], stem: Path, device: torch.device
    ) -> None:
        pipeline = self.pipeline(weights).to(device)
        control_training.sample_clips(pipeline, clips, self.config, stem.with_name(f"{stem.name}_mtv"))

    def save(self, weights: StateDict, folder: Path, progress: Progress) -> None:
        rows = f"| made of | `{portable(self.config.backbone)}` |\n| last stage | `{Path(self.config.output).name}` |"
        title, tags = "Audio-driven video on CogVideoX", "audio-driven-video, cogvideox"
        card = model_card(self.config, progress, title=title, tags=tags, use=USE, rows=rows)
        export_pipeline(self.pipeline(weights), folder, card, self.config.train)


def load_transformer(folder: str) -> Any:
    """Load the transformer of a folder; where torch's default device is meta, its shapes alone. UserError if it cannot
    be read."""
    kind = CogVideoXTransformer3DModel
    if torch.get_default_device().type == "meta":
        return initialise(kind.from_config(read_part(folder, "transformer/config.json")), Path(folder) / "transformer")
    transformer = load_library_model((kind,), folder, ("transformer",))
    check_weights(transformer, f"{folder}: transformer")
    return transformer


def load_components(config: BackboneConfig | CurriculumConfig, device: torch.device | str = "cpu") -> Components:
    """Load what is not trained of the folder `backbone`, and the encoders of tracks."""
    assert config.backbone is not None, "this adapter is that of a backbone"
    codec = CogVideoXVideoCodec.from_pretrained(codec_folder(config.backbone)).to(device)
    check_weights(codec, str(codec_folder(config.backbone)))
    sound: Any = NoSound(config.data.sample_rate)
    encoders = load_track_encoders(config.tracks.encoders, device)
    return Components(Codecs(codec, sound), LazyT5(config.backbone), encoders)
