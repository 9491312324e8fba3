"""CCLPipeline: text (and a given image, video, sound, or parts) -> video and sound, in one diffusers pipeline."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from ccl.calling import ARGUMENTS, Scales
from ccl.given import Encoded, Given, GivenEncoder, Size
from ccl.guidance import Guidance
from ccl.long_clip import LongClip
from ccl.parts import GivenTrack
from ccl.routing import Route
from ccl.sampler import STREAMS, Conditions, JointSampler
from ccl.spans import Span
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.folder import CheckpointMixin, check_joint
from shared.checkpoint.lora import LoraMixin
from shared.checkpoint.offload import MemoryMixin
from shared.codecs import AudioCodec, VideoCodec, tensor_to_frames
from shared.codecs.base import bounded
from shared.data.clip_output import ClipOutput, OutputType, checked_output_type
from shared.data.in_memory import ImageInput, SoundInput, VideoInput
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.few_steps import FewSteps
from shared.nn.flow import u_grid
from shared.utils.calling import (
    Generators,
    StepCallback,
    StepEnd,
    callback_names,
    chosen,
    refuse_unknown,
    repeated,
    seeds_of,
    with_arguments,
)
from shared.utils.errors import UserError
from shared.utils.finite import check_finite
from shared.utils.ranges import checked_fps
from shared.utils.rng import generator as named_generator

#: One for all that is made in a call, or one for each.
Prompts = str | TimedPrompts | Sequence[str | TimedPrompts]
STEPS = 24  # where a call and the model say nothing
_log = logging.getLogger(__name__)


@dataclass
class CCLOutput(ClipOutput):
    """What was made; None for a stream that was given or is not in the task."""

    kept: dict[str, list[Span]] | None = None  # seconds of "video" and "audio" that are the given ones, with `keep`


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
    @with_arguments(ARGUMENTS)
    def __call__(
        self, prompt: Prompts, audio_prompt: Prompts | None = None, negative_prompt: str | None = None,
        task: str = "auto", duration: float | None = None, num_frames: int | None = None,
        height: int | None = None, width: int | None = None, fps: float | None = None, frame_rate: float | None = None,
        num_inference_steps: int | None = None, guidance: Guidance | None = None,
        guidance_scale: float | None = None, audio_guidance_scale: float | None = None,
        modality_scale: float | None = None, audio_modality_scale: float | None = None,
        guidance_rescale: float | None = None, num_videos_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None, generator: Generators | None = None,
        image: ImageInput | None = None, audio: SoundInput | None = None, video: VideoInput | None = None,
        keep: Sequence[Span] | None = None, keep_audio: Sequence[Span] | None = None,
        given_speech: GivenTrack | None = None, given_effects: GivenTrack | None = None,
        output_type: str = "np", return_dict: bool = True, callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None, **unknown: Any,
    ) -> CCLOutput:  # fmt: skip
        """Sample one clip per prompt.

        {arguments}

        UserError for a size, duration, seed or given stream that does not fit, with what would; for a missing part; for
        one that makes NaN or infinity, with the step; for an unknown keyword, with the nearest.
        """
        refuse_unknown(unknown, type(self).__call__, {})
        check_joint(self.components)
        output_type, negative = checked_output_type(output_type), negative_prompt or ""
        scales = guidance_scale, audio_guidance_scale, modality_scale, audio_modality_scale, guidance_rescale
        guidance, fps = Scales(*scales).guidance(guidance), chosen("fps", fps, "frame_rate", frame_rate)
        names = callback_names(callback_on_step_end_tensor_inputs)
        prompts = repeated(_per_sample(prompt), num_videos_per_prompt)
        given = Given(image, audio, video, keep, keep_audio, given_speech, given_effects)
        task_chosen, few = given.task(task), FewSteps.of(self.transformer)
        if few is not None:
            made = {name: self._solvers[name] for name in STREAMS if task_chosen.route.is_noisy(name)}
            few.check(task_chosen.value, made, negative if guidance in (None, Guidance()) else "")
        size = self._size(given, duration, num_frames, height, width, fps)
        seeds = seeds_of(seed, generator, len(prompts))
        encoded = GivenEncoder(self.components, size, len(prompts), self._execution_device)(task_chosen, given)
        latents = self._noise(task_chosen.route, size, seeds)
        audio_prompts = prompts
        if audio_prompt is not None:
            audio_prompts = repeated(_per_sample(audio_prompt), num_videos_per_prompt)
        if len(audio_prompts) != len(prompts):
            raise UserError(f"{len(audio_prompts)} audio prompts for {len(prompts)} prompts; give one for each")
        device, dtype = self._execution_device, self.transformer.dtype
        texts = Conditions.build(self.text_encoder, prompts, audio_prompts, negative, size.clocks, device, dtype)
        how = texts, size.clocks, guidance or Guidance(), encoded.streams, encoded.clean, encoded.part
        sampler = JointSampler(self.transformer, task_chosen.route, *how)
        sampler.restore_clean(latents)
        steps = num_inference_steps if num_inference_steps is not None else few.steps if few else STEPS
        self._solve(sampler, latents, steps, few, StepEnd(callback_on_step_end, names))
        output = self._decode(task_chosen.route, size, latents, encoded, output_type)
        self.maybe_free_model_hooks()
        return output if return_dict else cast(Any, (output.frames, output.audio))

    @torch.no_grad()
    def stream(
        self, prompt: Prompts, audio_prompt: Prompts | None = None, window: int | None = None,
        overlap: int | None = None, **options: Any,
    ) -> Iterator[ClipOutput]:  # fmt: skip
        """Sample clips of any length window by window: yield what each adds, of frames and of sound.

        `window`: frames made at a time, best as trained (default: about 2 s); `overlap`: those it takes over from the
        one before, 1 + k·r at r frames per latent (default: three latents). `options`: as in a call; `TimedPrompts`
        change over the time of the whole clip. UserError as there, and for what does not go with windows.
        """
        refuse_unknown({n: v for n, v in options.items() if n not in CALLED}, type(self).__call__, {})
        prompts = _per_sample(prompt)
        heard = prompts if audio_prompt is None else _per_sample(audio_prompt)
        yield from LongClip(self, prompts, heard, window, overlap, options)

    @property
    def _solvers(self) -> dict[str, Any]:
        return {"video": self.scheduler, "audio": self.audio_scheduler}

    def _solve(
        self, sampler: JointSampler, latents: dict[str, Tensor], steps: int, few: FewSteps | None, end: StepEnd
    ) -> None:
        """Bring the latents of the noisy streams, in their place, from noise to a sample."""
        if steps < 1:
            raise UserError(f"{steps} sampling steps; at least 1 is needed")
        self._interrupt = False  # a callback may set it, as in diffusers' pipelines
        solvers, grid = self._solvers, u_grid(steps)
        for name, solver in solvers.items():
            solver.set_timesteps(sigmas=grid.numpy(), device=self._execution_device)
            solver.set_begin_index(0)
            if few is not None and name in latents:
                few.check_grid(name, solver)
        for step in self.progress_bar(range(steps)):
            now, then = ({name: float(s.sigmas[at]) for name, s in solvers.items()} for at in (step, step + 1))
            velocity = sampler.velocity(latents, now, None if few is None else then)
            for name, value in velocity.items():
                time = solvers[name].timesteps[step]
                latents[name] = solvers[name].step(value, time, latents[name], return_dict=False)[0]
            sampler.restore_clean(latents)
            end(self, step, float(grid[step]), latents)
            made = {f"{name} DiT": latents[name] for name in velocity}
            check_finite(made, f"in the latents at step {step + 1} of {steps}")
            if self._interrupt:
                return

    def _size(
        self, given: Given, duration: float | None, num_frames: int | None,
        height: int | None = None, width: int | None = None, fps: float | None = None,
    ) -> Size:  # fmt: skip
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        fps = checked_fps(self.config.fps if fps is None else fps)
        frames = given.frames(duration, num_frames, fps, self.audio_codec.sample_rate)
        unit = self.video_codec.spatial_stride * self.transformer.config.video.get("patch_size", (1, 2, 2))[-1]
        if height % unit or width % unit or min(height, width) < unit:
            raise UserError(f"size {height}x{width} does not fit; height and width must be multiples of {unit}")
        samples = round(frames / fps * self.audio_codec.sample_rate)
        clocks = self.video_codec.clock(frames, fps), self.audio_codec.clock(samples)
        return Size(frames, samples, height, width, fps, clocks, frames / fps)

    def _noise(self, route: Route, size: Size, seeds: list[int]) -> dict[str, Tensor]:
        """Noise per noisy stream from its own generator: the other stream's size changes nothing."""
        stride, (video, audio), latents = self.video_codec.spatial_stride, size.clocks, {}
        sides = size.height // stride, size.width // stride
        for name, noisy, shape in (
            ("video", route.video_noisy, (self.video_codec.latent_channels, len(video), *sides)),
            ("audio", route.audio_noisy, (len(audio), self.audio_codec.latent_channels)),
        ):
            if noisy:
                drawn = [torch.randn(shape, generator=named_generator(seed, "sample", name)) for seed in seeds]
                latents[name] = torch.stack(drawn).to(self._execution_device)
        return latents

    def _decode(
        self, route: Route, size: Size, latents: dict[str, Tensor], encoded: Encoded, output_type: OutputType
    ) -> CCLOutput:
        """Decode what was made; what is kept is put into it as it was given, not through a codec."""
        video = audio = None
        made = {name: latents[name] for name in STREAMS if route.is_noisy(name)}
        if "video" in made and output_type != "latent":
            pixels = self.video_codec.decode(made["video"].to(self.video_codec.dtype), size.frames)
            check_finite({"video codec": pixels}, "in what it decoded")
            video = tensor_to_frames(pixels.float()).cpu().numpy()
        if "audio" in made and output_type != "latent":
            sound = self.audio_codec.decode(made["audio"].to(self.audio_codec.dtype), size.samples)
            audio = bounded(sound[:, 0].float(), "audio codec").cpu().numpy()
        kept = encoded.kept
        if video is not None and "video" in kept:
            values, mask, _ = kept["video"]
            video[:, mask] = tensor_to_frames(values[:, :, mask.to(values.device)]).cpu().numpy()
        if audio is not None and "audio" in kept:
            values, mask, _ = kept["audio"]
            audio[:, mask] = values[:, 0].cpu()[:, mask].numpy()
        return CCLOutput(
            video, audio, size.fps, self.audio_codec.sample_rate,
            kept={name: one.spans for name, one in kept.items()} or None,
            given=encoded.as_arrays() or None,
            latents=made if output_type == "latent" else None,
            output_type=output_type,
        )  # fmt: skip


#: Arguments of a call by name.
CALLED = tuple(inspect.signature(CCLPipeline.__call__).parameters)


def _per_sample(prompt: Prompts) -> list[str | TimedPrompts]:
    return [prompt] if isinstance(prompt, str | TimedPrompts) else list(prompt)
