"""CCLPipeline: text (and an image, a video or a sound) -> video and sound, in one diffusers pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from ccl.guidance import Guidance
from ccl.routing import Route, Task, check_given, infer_task, parse_task
from ccl.sampler import Conditions, JointSampler
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.folder import CheckpointMixin, check_joint
from shared.checkpoint.lora import LoraMixin
from shared.checkpoint.offload import MemoryMixin
from shared.codecs import AudioCodec, VideoCodec, tensor_to_frames
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.nn.flow import u_grid
from shared.utils.errors import UserError
from shared.utils.rng import generator

#: Called after each step: callback(pipeline, step, u, {"video": latents, "audio": latents}) -> the same dict or None.
StepCallback = Callable[[Any, int, float, dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass
class CCLOutput(BaseOutput):
    """What was made; None for a stream that was given or is not in the task.

    Attributes:
        video: [B, T, H, W, 3] uint8. audio: [B, samples] float32 in [-1, 1].
        fps, sample_rate: of the two.
    """

    video: np.ndarray | None
    audio: np.ndarray | None
    fps: float
    sample_rate: int


@dataclass(frozen=True)
class Size:
    """The sample to make: video frames and audio samples of one duration, and their clocks."""

    frames: int
    samples: int
    height: int
    width: int
    video_clock: LatentClock
    audio_clock: LatentClock

    @property
    def clocks(self) -> tuple[LatentClock, LatentClock]:
        return self.video_clock, self.audio_clock


class CCLPipeline(CheckpointMixin, LoraMixin, MemoryMixin, DiffusionPipeline):
    """Joint sampling with Unconditional Context Guidance.

    Args:
        transformer, video_codec, audio_codec, text_encoder: the model's parts.
        scheduler, audio_scheduler: one solver per stream; their `shift` is the one used in training.
        fps, height, width: the video the model was trained on.
        control, audio_encoder, effects_encoder, music_encoder: `mtv.pipeline.MTVPipeline`'s parts of the same folder.
            They are only kept, so that saving loses nothing; give None to leave them on the disk.

    LoRA weights are loaded by `shared.checkpoint.lora.LoraMixin`'s methods;
    `shared.checkpoint.offload.MemoryMixin.set_memory` chooses between speed and GPU memory.

    A pipeline without some of these can be saved, not sampled from.
    """

    _optional_components = ["control", "audio_encoder", "effects_encoder", "music_encoder"]  # noqa: RUF012
    model_cpu_offload_seq = "text_encoder->transformer->video_codec->audio_codec"

    def __init__(
        self,
        transformer: DualStreamTransformer,
        video_codec: VideoCodec,
        audio_codec: AudioCodec,
        text_encoder: TextEncoder,
        scheduler: Any,
        audio_scheduler: Any,
        fps: float = 16.0,
        height: int = 64,
        width: int = 64,
        control: Any = None,
        audio_encoder: Any = None,
        effects_encoder: Any = None,
        music_encoder: Any = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            video_codec=video_codec,
            audio_codec=audio_codec,
            text_encoder=text_encoder,
            scheduler=scheduler,
            audio_scheduler=audio_scheduler,
            control=control,
            audio_encoder=audio_encoder,
            effects_encoder=effects_encoder,
            music_encoder=music_encoder,
        )
        self.register_to_config(fps=fps, height=height, width=width)

    @classmethod
    def _check_parts(cls, parts: Mapping[str, Any], where: str) -> None:
        check_joint(parts, where)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | TimedPrompts | Sequence[str | TimedPrompts],
        audio_prompt: str | TimedPrompts | Sequence[str | TimedPrompts] | None = None,
        negative_prompt: str = "",
        task: str = "auto",
        duration: float = 2.0,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 24,
        guidance: Guidance | None = None,
        seed: int | Sequence[int] = 0,
        image: Tensor | None = None,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
    ) -> CCLOutput:
        """Sample one clip per prompt.

        Args:
            prompt, audio_prompt: what to see and what to hear; the latter defaults to the former. `TimedPrompts` change
                over time.
            negative_prompt: the text 0c of guidance.
            task: t2av, t2v, t2a, a2v, v2a, or auto: by what is given.
            duration: seconds.
            guidance: form and weights of UCG.
            seed: one, or one per prompt. Prompt i of a list draws from seed + i when one is given. Video and sound
                have noise of their own.
            image: [B or 1, 3, H, W] in [-1, 1], the first frame (i2av, i2v).
            audio: [B or 1, 1, samples], the sound to make a video for. video: [B or 1, 3, T, H, W] in [-1, 1].

        Raises:
            UserError: a size, duration, seed or given stream that does not fit, with what would; a missing part.
        """
        check_joint(self.components)
        prompts = _per_sample(prompt)
        chosen = infer_task(audio is not None, video is not None) if task == "auto" else parse_task(task)
        check_given(chosen, audio is not None, video is not None, image is not None)
        size = self._size(duration, height, width)
        seeds = _seeds(seed, len(prompts))
        given = self._encode_given(chosen, size, len(prompts), image, audio, video)
        latents = self._noise(chosen.route, size, seeds)
        audio_prompts = _audio_prompts(audio_prompt, prompts)
        device, dtype = self._execution_device, self.transformer.dtype
        conditions = Conditions.build(
            self.text_encoder, prompts, audio_prompts, negative_prompt, size.clocks, device, dtype
        )
        sampler = JointSampler(
            self.transformer, chosen.route, conditions, size.clocks, guidance or Guidance(), given.streams, given.first
        )
        sampler.restore_clean(latents)
        self._set_timesteps(num_inference_steps)
        grid = u_grid(num_inference_steps)
        for step in self.progress_bar(range(num_inference_steps)):
            solvers = {"video": self.scheduler, "audio": self.audio_scheduler}
            velocity = sampler.velocity(latents, {name: float(s.sigmas[step]) for name, s in solvers.items()})
            for name, value in velocity.items():
                time = solvers[name].timesteps[step]
                latents[name] = solvers[name].step(value, time, latents[name], return_dict=False)[0]
            sampler.restore_clean(latents)
            if callback_on_step_end is not None:
                latents.update(callback_on_step_end(self, step, float(grid[step]), dict(latents)) or {})
        made = self._decode(chosen.route, size, latents)
        self.maybe_free_model_hooks()
        return made

    def _size(self, duration: float, height: int | None, width: int | None) -> Size:
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        frames = round(duration * self.config.fps) if math.isfinite(duration) else 0
        if frames < 1:
            raise UserError(f"duration {duration} s holds no frame at {self.config.fps} fps; give a positive duration")
        unit = self.video_codec.spatial_stride * self.transformer.config.video.get("patch_size", (1, 2, 2))[-1]
        if height % unit or width % unit or min(height, width) < unit:
            raise UserError(f"size {height}x{width} does not fit; height and width must be multiples of {unit}")
        samples = round(frames / self.config.fps * self.audio_codec.sample_rate)
        video_clock = self.video_codec.clock(frames, self.config.fps)
        return Size(frames, samples, height, width, video_clock, self.audio_codec.clock(samples))

    def _noise(self, route: Route, size: Size, seeds: list[int]) -> dict[str, Tensor]:
        """Noise per noisy stream from its own generator: the other stream's size changes nothing."""
        stride = self.video_codec.spatial_stride
        height, width = size.height // stride, size.width // stride
        shapes: dict[str, tuple[int, ...]] = {}
        if route.video_noisy:
            shapes["video"] = (self.video_codec.latent_channels, len(size.video_clock), height, width)
        if route.audio_noisy:
            shapes["audio"] = (len(size.audio_clock), self.audio_codec.latent_channels)
        return {
            name: torch.stack([torch.randn(shape, generator=generator(s, "sample", name)) for s in seeds]).to(
                self._execution_device
            )
            for name, shape in shapes.items()
        }

    def _encode_given(
        self, task: Task, size: Size, batch: int, image: Tensor | None, audio: Tensor | None, video: Tensor | None
    ) -> _Given:
        device, streams, first = self._execution_device, {}, None
        if audio is not None:
            audio = _fit(audio.to(device, torch.float32), size.samples, "audio", "samples")
            streams["audio"] = self.audio_codec.encode(_per_prompt(audio, batch, "audio"))
        if video is not None:
            _check_picture(video, size, "video")
            video = _fit(video.to(device, torch.float32), size.frames, "video", "frames")
            streams["video"] = self.video_codec.encode(_per_prompt(video, batch, "video"))
        if image is not None:
            _check_picture(image, size, "image")
            frame = image.to(device, torch.float32)[:, :, None]
            first = self.video_codec.encode(_per_prompt(frame, batch, "image"))
        return _Given(streams, first)

    def _set_timesteps(self, steps: int) -> None:
        if steps < 1:
            raise UserError(f"{steps} sampling steps; at least 1 is needed")
        for scheduler in (self.scheduler, self.audio_scheduler):
            scheduler.set_timesteps(sigmas=u_grid(steps).numpy(), device=self._execution_device)
            scheduler.set_begin_index(0)

    def _decode(self, route: Route, size: Size, latents: dict[str, Tensor]) -> CCLOutput:
        video = audio = None
        if route.video_noisy:
            pixels = self.video_codec.decode(latents["video"].to(self.video_codec.dtype), size.frames)
            video = tensor_to_frames(pixels.float()).cpu().numpy()
        if route.audio_noisy:
            sound = self.audio_codec.decode(latents["audio"].to(self.audio_codec.dtype), size.samples)
            audio = sound[:, 0].float().clamp(-1, 1).cpu().numpy()
        return CCLOutput(video, audio, self.config.fps, self.audio_codec.sample_rate)


@dataclass(frozen=True)
class _Given:
    streams: dict[str, Tensor]
    first: Tensor | None


def _per_sample(prompt: str | TimedPrompts | Sequence[str | TimedPrompts]) -> list[str | TimedPrompts]:
    return [prompt] if isinstance(prompt, str | TimedPrompts) else list(prompt)


def _audio_prompts(
    given: str | TimedPrompts | Sequence[str | TimedPrompts] | None, prompts: list[str | TimedPrompts]
) -> list[str | TimedPrompts]:
    audio_prompts = prompts if given is None else _per_sample(given)
    if len(audio_prompts) != len(prompts):
        raise UserError(f"{len(audio_prompts)} audio prompts for {len(prompts)} prompts; give one for each")
    return audio_prompts


def _seeds(seed: int | Sequence[int], count: int) -> list[int]:
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise UserError(f"{len(seeds)} seeds for {count} prompts; give one seed, or one per prompt")
    return seeds


def _check_picture(picture: Tensor, size: Size, name: str) -> None:
    if tuple(picture.shape[-2:]) != (size.height, size.width):
        shape = "x".join(map(str, picture.shape[-2:]))
        raise UserError(f"the {name} is {shape}; the sample is {size.height}x{size.width}: resize one of them")


def _per_prompt(given: Tensor, batch: int, name: str) -> Tensor:
    if given.shape[0] not in (1, batch):
        raise UserError(f"{given.shape[0]} of the given {name} for {batch} prompts; give one, or one per prompt")
    return given.expand(batch, *given.shape[1:])


def _fit(given: Tensor, length: int, name: str, unit: str) -> Tensor:
    """Trim dimension 2 to `length`. What lacks up to a twentieth ends in silence, or in its last picture."""
    missing = length - given.shape[2]
    if missing > 0.05 * length:
        raise UserError(f"the given {name} has {given.shape[2]} {unit}, the sample needs {length}: lower the duration")
    if missing <= 0:
        return given[:, :, :length]
    last = given[:, :, -1:].repeat_interleave(missing, dim=2)
    return torch.cat([given, torch.zeros_like(last) if name == "audio" else last], dim=2)
