"""CCLPipeline: text (and an image, a video or a sound) -> video and sound, in one diffusers pipeline."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from ccl.guidance import Guidance
from ccl.routing import Route, check_given, infer_task, parse_task
from ccl.sampler import Conditions, JointSampler
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.folder import CheckpointMixin, check_joint
from shared.checkpoint.lora import LoraMixin
from shared.checkpoint.offload import MemoryMixin
from shared.codecs import AudioCodec, VideoCodec, tensor_to_frames
from shared.codecs.base import bounded
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.nn.flow import u_grid
from shared.utils.errors import UserError
from shared.utils.finite import check_finite
from shared.utils.ranges import checked_fps
from shared.utils.rng import generator, seed_of_each

#: Called after each step: callback(pipeline, step, u, {"video": latents, "audio": latents}) -> the same dict or None.
StepCallback = Callable[[Any, int, float, dict[str, Tensor]], dict[str, Tensor] | None]
#: One for all that is made in a call, or one for each.
Prompts = str | TimedPrompts | Sequence[str | TimedPrompts]


@dataclass
class CCLOutput(BaseOutput):
    """What was made; None for a stream that was given or is not in the task."""

    video: np.ndarray | None  # [B, T, H, W, 3] uint8
    audio: np.ndarray | None  # [B, samples] float32 in [-1, 1]
    fps: float
    sample_rate: int


class Size(NamedTuple):
    """The sample to make: video frames, audio samples, pixels, frames a second, and the clocks of video and audio."""

    frames: int
    samples: int
    height: int
    width: int
    fps: float
    clocks: tuple[LatentClock, LatentClock]


class CCLPipeline(CheckpointMixin, LoraMixin, MemoryMixin, DiffusionPipeline):
    """Joint sampling with Unconditional Context Guidance.

    Args:
        transformer, video_codec, audio_codec, text_encoder: the model's parts.
        scheduler, audio_scheduler: one solver per stream; their `shift` is the one used in training.
        fps, height, width: of a video where a call does not say them: those the model was trained on.
        control, audio_encoder, effects_encoder, music_encoder: `mtv.pipeline.MTVPipeline`'s parts of the same folder.
            They are only kept, so that saving loses nothing; give None to leave them on the disk.

    A pipeline without some of these can be saved, not sampled from. LoRA weights are loaded by `LoraMixin`'s methods;
    `MemoryMixin.set_memory` chooses between speed and GPU memory.
    """

    _optional_components = ["control", "audio_encoder", "effects_encoder", "music_encoder"]  # noqa: RUF012
    unused_components = ("control", "audio_encoder", "effects_encoder", "music_encoder")
    model_cpu_offload_seq = "text_encoder->transformer->video_codec->audio_codec"

    def __init__(
        self, transformer: DualStreamTransformer, video_codec: VideoCodec, audio_codec: AudioCodec,
        text_encoder: TextEncoder, scheduler: Any, audio_scheduler: Any,
        fps: float = 16.0, height: int = 64, width: int = 64,
        control: Any = None, audio_encoder: Any = None, effects_encoder: Any = None, music_encoder: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_modules(
            transformer=transformer, video_codec=video_codec, audio_codec=audio_codec, text_encoder=text_encoder,
            scheduler=scheduler, audio_scheduler=audio_scheduler, control=control, audio_encoder=audio_encoder,
            effects_encoder=effects_encoder, music_encoder=music_encoder,
        )  # fmt: skip
        self.register_to_config(fps=fps, height=height, width=width)

    @classmethod
    def _check_parts(cls, parts: Mapping[str, Any], where: str) -> None:
        check_joint(parts, where)

    @torch.no_grad()
    def __call__(
        self, prompt: Prompts, audio_prompt: Prompts | None = None, negative_prompt: str = "", task: str = "auto",
        duration: float = 2.0, height: int | None = None, width: int | None = None, fps: float | None = None,
        num_inference_steps: int = 24, guidance: Guidance | None = None, seed: int | Sequence[int] = 0,
        image: Tensor | None = None, audio: Tensor | None = None, video: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
    ) -> CCLOutput:  # fmt: skip
        """Sample one clip per prompt.

        Args:
            prompt, audio_prompt: what to see, and to hear (default: the same). `TimedPrompts` change over time.
            negative_prompt, guidance: the text 0c of guidance; form and weights of UCG.
            task: t2av, t2v, t2a, a2v, v2a, or auto: by what is given.
            duration: seconds. height, width: pixels; default: as trained. fps: frames a second, also of a given video;
                default: the pipeline's. Its clock tells the transformer, which heeds it with `frame_rate`.
            seed: one per prompt, or one: prompt i draws from seed + i. Video and sound have noise of their own.
            image: [B or 1, 3, H, W] in [-1, 1], the first frame (i2av, i2v).
            audio: [B or 1, 1, samples], the sound to make a video for. video: [B or 1, 3, T, H, W] in [-1, 1].

        UserError for a size, duration, seed or given stream that does not fit, with what would; for a missing part; for
        one that makes NaN or infinity, with the step.
        """
        check_joint(self.components)
        prompts = _per_sample(prompt)
        chosen = infer_task(audio is not None, video is not None) if task == "auto" else parse_task(task)
        check_given(chosen, audio is not None, video is not None, image is not None)
        size = self._size(duration, height, width, fps)
        seeds = seed_of_each(seed, len(prompts))
        streams, first = self._encode_given(size, len(prompts), image, audio, video)
        encoded = {f"{name} codec": latents for name, latents in streams.items()}
        check_finite(encoded | ({} if first is None else {"video codec": first}), "in the latents of what is given")
        latents = self._noise(chosen.route, size, seeds)
        audio_prompts = prompts if audio_prompt is None else _per_sample(audio_prompt)
        if len(audio_prompts) != len(prompts):
            raise UserError(f"{len(audio_prompts)} audio prompts for {len(prompts)} prompts; give one for each")
        device, dtype = self._execution_device, self.transformer.dtype
        texts = Conditions.build(self.text_encoder, prompts, audio_prompts, negative_prompt, size.clocks, device, dtype)
        how = texts, size.clocks, guidance or Guidance(), streams, first
        sampler = JointSampler(self.transformer, chosen.route, *how)
        sampler.restore_clean(latents)
        self._solve(sampler, latents, num_inference_steps, callback_on_step_end)
        output = self._decode(chosen.route, size, latents)
        self.maybe_free_model_hooks()
        return output

    def _solve(
        self, sampler: JointSampler, latents: dict[str, Tensor], steps: int, callback: StepCallback | None
    ) -> None:
        """Bring the latents of the noisy streams, in their place, from noise to a sample."""
        if steps < 1:
            raise UserError(f"{steps} sampling steps; at least 1 is needed")
        solvers, grid = {"video": self.scheduler, "audio": self.audio_scheduler}, u_grid(steps)
        for solver in solvers.values():
            solver.set_timesteps(sigmas=grid.numpy(), device=self._execution_device)
            solver.set_begin_index(0)
        for step in self.progress_bar(range(steps)):
            velocity = sampler.velocity(latents, {name: float(s.sigmas[step]) for name, s in solvers.items()})
            for name, value in velocity.items():
                time = solvers[name].timesteps[step]
                latents[name] = solvers[name].step(value, time, latents[name], return_dict=False)[0]
            sampler.restore_clean(latents)
            if callback is not None:
                latents.update(callback(self, step, float(grid[step]), dict(latents)) or {})
            made = {f"{name} DiT": latents[name] for name in velocity}
            check_finite(made, f"in the latents at step {step + 1} of {steps}")

    def _size(self, duration: float, height: int | None, width: int | None, fps: float | None = None) -> Size:
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        fps = checked_fps(self.config.fps if fps is None else fps)
        frames = round(duration * fps) if math.isfinite(duration) else 0
        if frames < 1:
            raise UserError(f"duration {duration} s holds no frame at {fps} fps; give a positive duration")
        unit = self.video_codec.spatial_stride * self.transformer.config.video.get("patch_size", (1, 2, 2))[-1]
        if height % unit or width % unit or min(height, width) < unit:
            raise UserError(f"size {height}x{width} does not fit; height and width must be multiples of {unit}")
        samples = round(frames / fps * self.audio_codec.sample_rate)
        clocks = self.video_codec.clock(frames, fps), self.audio_codec.clock(samples)
        return Size(frames, samples, height, width, fps, clocks)

    def _noise(self, route: Route, size: Size, seeds: list[int]) -> dict[str, Tensor]:
        """Noise per noisy stream from its own generator: the other stream's size changes nothing."""
        stride, (video, audio), latents = self.video_codec.spatial_stride, size.clocks, {}
        sides = size.height // stride, size.width // stride
        for name, noisy, shape in (
            ("video", route.video_noisy, (self.video_codec.latent_channels, len(video), *sides)),
            ("audio", route.audio_noisy, (len(audio), self.audio_codec.latent_channels)),
        ):
            if noisy:
                drawn = [torch.randn(shape, generator=generator(seed, "sample", name)) for seed in seeds]
                latents[name] = torch.stack(drawn).to(self._execution_device)
        return latents

    def _encode_given(
        self, size: Size, batch: int, image: Tensor | None, audio: Tensor | None, video: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Latents of the given stream by its name, and of the first frame."""
        streams = {}
        if audio is not None:
            streams["audio"] = self.audio_codec.encode(self._fit("audio", audio, size, batch))
        if video is not None:
            streams["video"] = self.video_codec.encode(self._fit("video", video, size, batch))
        if image is None:
            return streams, None
        return streams, self.video_codec.encode(self._fit("image", image[:, :, None], size, batch))

    def _fit(self, name: str, given: Tensor, size: Size, batch: int) -> Tensor:
        """Trim dimension 2, one per prompt. What lacks up to a twentieth ends in silence, or in its last picture."""
        if name != "audio" and tuple(given.shape[-2:]) != (size.height, size.width):
            shape = "x".join(map(str, given.shape[-2:]))
            raise UserError(f"the {name} is {shape}; the sample is {size.height}x{size.width}: resize one of them")
        length = {"audio": size.samples, "video": size.frames, "image": 1}[name]
        missing, unit = length - given.shape[2], "samples" if name == "audio" else "frames"
        if missing > 0.05 * length:
            has = f"has {given.shape[2]} {unit}, the sample needs {length}"
            raise UserError(f"the given {name} {has}: lower the duration")
        if given.shape[0] not in (1, batch):
            raise UserError(f"{given.shape[0]} of the given {name} for {batch} prompts; give one, or one per prompt")
        given = given.to(self._execution_device, torch.float32)[:, :, :length]
        if missing > 0:
            last = given[:, :, -1:].repeat_interleave(missing, dim=2)
            given = torch.cat([given, torch.zeros_like(last) if name == "audio" else last], dim=2)
        return given.expand(batch, *given.shape[1:])

    def _decode(self, route: Route, size: Size, latents: dict[str, Tensor]) -> CCLOutput:
        video = audio = None
        if route.video_noisy:
            pixels = self.video_codec.decode(latents["video"].to(self.video_codec.dtype), size.frames)
            check_finite({"video codec": pixels}, "in what it decoded")
            video = tensor_to_frames(pixels.float()).cpu().numpy()
        if route.audio_noisy:
            sound = self.audio_codec.decode(latents["audio"].to(self.audio_codec.dtype), size.samples)
            audio = bounded(sound[:, 0].float(), "audio codec").cpu().numpy()
        return CCLOutput(video, audio, size.fps, self.audio_codec.sample_rate)


def _per_sample(prompt: Prompts) -> list[str | TimedPrompts]:
    return [prompt] if isinstance(prompt, str | TimedPrompts) else list(prompt)
