"""Training of audio-driven video on CogVideoX alone: the epsilon objective for the trainer, and what it needs beside.

The joint model's training of the same control network is one task of `ccl.training.objective`, unknown here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import Tensor, nn
from tqdm import tqdm

from mtv.cogvideox.backbone import controlled, epsilon_loss
from mtv.control import MSTControlNet, TrackFeatures, trainable_backbone_parameters
from mtv.curriculum import BackboneConfig
from mtv.flops import cogvideox_flops, forward_flops
from mtv.pipeline import MTVPipeline
from mtv.tracks import clip_tracks, read_tracks
from shared.data.manifest import Clip
from shared.data.media import read_audio, write_video
from shared.encoders import TextEncoder
from shared.encoders.audio import FrameFeatures
from shared.encoders.cache import CachedText
from shared.nn.clock import LatentClock
from shared.nn.dit import Control
from shared.nn.flow import draw_noise
from shared.training.card import Progress
from shared.training.flops import Work, trained_share, training_work
from shared.training.log import LossRecord
from shared.training.trainer import StepOutput
from shared.utils.config import TrainConfig, dump_config
from shared.utils.distributed import World, barrier
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator


class Batch(Protocol):
    """What the objective reads of a micro-batch; `ccl.training.batches.JointBatches` makes such.

    Attributes:
        step, ids: key what is random. video: latents [B, C, F, h, w]. text: [B, L, D]. clean_frames: [B, F] bool,
            given latents. tracks: features of all samples.
    """

    step: int
    ids: list[str]
    video: Tensor
    text: Tensor
    clean_frames: Tensor
    tracks: TrackFeatures


class EpsilonObjective(nn.Module):
    """`objective(batch) -> StepOutput`: `mtv.cogvideox.backbone.epsilon_loss` of each sample, at a timestep of its own.

    The blocks are computed again in the backward pass (gradient checkpointing): at full size their activations are what
    fills the memory. So the hooks stay, and act by the control of the last forward pass.
    """

    def __init__(
        self, transformer: CogVideoXTransformer3DModel, control: MSTControlNet, scheduler: Any, seed: int
    ) -> None:
        super().__init__()
        self.transformer, self.control = transformer, control
        self.scheduler, self.seed = scheduler, seed
        self._act: Control | None = None
        self._trained = trained_share(transformer)
        self._backbone_flops = lru_cache(8)(partial(cogvideox_flops, transformer))
        self._control_flops = lru_cache(8)(partial(forward_flops, control))
        transformer.enable_gradient_checkpointing()
        self._hooks = ExitStack()
        self._hooks.enter_context(controlled(transformer, self._inject))

    def forward(self, batch: Batch) -> StepOutput:
        timesteps = draw_timesteps(self.seed, batch.step, batch.ids, self.scheduler.config.num_train_timesteps)
        timesteps = timesteps.to(batch.video.device)
        sigma = timesteps / 1000
        self._act = self.control(batch.tracks, torch.where(batch.clean_frames, 0.0, sigma[:, None]))
        noise = draw_noise(self.seed, batch.step, batch.ids, tuple(batch.video.shape[1:]), "video").to(batch.video)
        latents, noise = batch.video.transpose(1, 2), noise.transpose(1, 2)  # as the transformer has them
        work = self._work(tuple(latents.shape), batch.text.shape[1])
        loss = epsilon_loss(self.transformer, self.scheduler, latents, batch.text, timesteps, noise, batch.clean_frames)
        return StepOutput(loss.mean(), [LossRecord("video", "mtv", sigma, loss.detach(), work)])

    def _work(self, shape: tuple[int, ...], text: int) -> Work:
        """What a training step takes of latents of this shape [B, F, C, h, w]."""
        clips, frames, _, height, width = shape
        space = (height // self.transformer.config.patch_size) * (width // self.transformer.config.patch_size)
        forward = self._backbone_flops(shape[1:], text) + self._control_flops(frames, space)
        return training_work(clips * frames * space, clips * forward, self._trained, recomputed=True)

    def _inject(self, index: int, x: Tensor) -> Tensor:
        assert self._act is not None, "a block runs within a forward pass, or again after it"
        return self._act(index, x)


def draw_timesteps(seed: int, step: int, ids: list[str], count: int) -> Tensor:
    """[B] int64, uniform in 0 .. count − 1, keyed by (seed, step, sample id)."""
    drawn = [torch.randint(count, (), generator=generator(seed, "timestep", step, clip)) for clip in ids]
    return torch.stack(drawn)


class NoSound:
    """Stands for an audio codec where no model reads latents of the sound: they are one zero per clip."""

    def encode(self, audio: Tensor) -> Tensor:
        """[B, 1, N] -> zeros [B, 1, 1]."""
        return audio.new_zeros(len(audio), 1, 1)

    def clock(self, samples: int) -> LatentClock:
        return LatentClock.uniform(1, 1.0)


def control_for(
    transformer: CogVideoXTransformer3DModel,
    encoders: dict[str, FrameFeatures],
    settings: dict[str, Any],
    stride: int,
    seed: int,
) -> MSTControlNet:
    """A new control network for this backbone, these features by track and r = `stride` frames per latent.

    UserError for settings that are none of its own, or do not fit.
    """
    config = transformer.config
    torch.manual_seed(derive(seed, "control"))
    try:
        return MSTControlNet(
            backbone_dim=config.num_attention_heads * config.attention_head_dim,
            backbone_heads=config.num_attention_heads,
            num_blocks=config.num_layers,
            tracks={name: (e.window, e.layers, e.dim) for name, e in encoders.items()},
            temporal_stride=stride,
            **settings,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"control: {error}; see configs/model/puppets_control.yaml") from None


def freeze(transformer: nn.Module, control: MSTControlNet, trainable: Sequence[str]) -> None:
    """Only what `trainable` names learns: the control network or music's way through it, the transformer, or the
    latter's attention layers."""
    transformer.requires_grad_("transformer" in trainable)
    if "attention" in trainable:
        for parameter in trainable_backbone_parameters(transformer).values():
            parameter.requires_grad_(True)
    control.requires_grad_("control" in trainable)
    if "holistic" in trainable:
        for parameter in control.holistic_parameters():
            parameter.requires_grad_(True)


def encode_texts(encoder: TextEncoder, texts: set[str], folder: Path, world: World) -> CachedText:
    """All texts that training reads, in a cache on the disk, made by rank 0 on its device.

    The encoder then is on the CPU: it is as large as the transformer, which needs the room.
    """
    cached = CachedText(encoder, folder)
    if world.is_main:
        module: Any = encoder
        module.to(world.device)
        for text in tqdm(sorted(texts), desc="encoding texts", unit="text"):
            cached.encode([text])
        module.to("cpu")
    barrier()
    return cached


def sample_clips(pipeline: MTVPipeline, clips: list[Clip], config: TrainConfig, stem: Path) -> None:
    """STEM_I.mp4: each clip's own tracks drive its caption, for up to two seconds; the file carries its sound."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for index, clip in enumerate(clip for clip in clips if clip.tracks):
        rate, end = pipeline.audio_encoder.sample_rate, min(clip.end or math.inf, clip.start + 2)
        paths, others = clip_tracks(clip)
        tracks = read_tracks(paths, *others, fps=config.data.fps, rate=rate, start=clip.start, end=end)
        made = pipeline(clip.caption, tracks, seed=config.seed + index, num_inference_steps=config.validation.steps)
        assert clip.audio is not None, "a clip has a sound, its video's own if no other"
        sound = read_audio(clip.audio, rate, True, clip.start, end)
        write_video(stem.with_name(f"{stem.name}_{index}.mp4"), made.video[0], made.fps, sound, rate)


def model_card(config: BackboneConfig, progress: Progress) -> str:
    """Markdown: what the weights were trained from and on, for how long, from which code, with which configuration."""
    table = progress.table(
        config, f"| made of | `{config.backbone}` |", f", of the stage in `{Path(config.output).name}`"
    )
    manifests = "\n".join(f"- `{path}`" for path in config.data.manifests)
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
tags: [audio-driven-video, cogvideox]
---
# Audio-driven video on CogVideoX

Sample it with `python scripts/sample_mtv.py --checkpoint FOLDER`, or read it with
`MTVPipeline.from_pretrained(folder)`. The licence of the CogVideoX weights it was made of holds for it too.

{table}

Trained on:
{manifests}

## Configuration of the last stage

```yaml
{dump_config(config).strip()}
```
"""
