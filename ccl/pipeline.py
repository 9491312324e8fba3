"""CCLPipeline: text (and a given image, video, sound, or parts) -> video and sound, in one diffusers pipeline."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from ccl.given import Encoded, Given, Kept, with_first
from ccl.guidance import Guidance
from ccl.parts import GivenPart, GivenTrack, read_track
from ccl.routing import Route, Task
from ccl.sampler import STREAMS, Clean, Conditions, JointSampler
from ccl.spans import Span, in_clean_latents, joined, latents_inside, spans_of
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.folder import CheckpointMixin, check_joint
from shared.checkpoint.lora import LoraMixin
from shared.checkpoint.offload import MemoryMixin
from shared.codecs import AudioCodec, VideoCodec, tensor_to_frames
from shared.codecs.base import bounded
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.nn.few_steps import FewSteps
from shared.nn.flow import u_grid
from shared.utils.errors import UserError
from shared.utils.finite import check_finite
from shared.utils.ranges import checked_fps
from shared.utils.rng import generator, seed_of_each

#: Called after each step: callback(pipeline, step, u, {"video": latents, "audio": latents}) -> the same dict or None.
StepCallback = Callable[[Any, int, float, dict[str, Tensor]], dict[str, Tensor] | None]
#: One for all that is made in a call, or one for each.
Prompts = str | TimedPrompts | Sequence[str | TimedPrompts]
STEPS = 24  # where a call and the model say nothing
_log = logging.getLogger(__name__)


@dataclass
class CCLOutput(BaseOutput):
    """What was made; None for a stream that was given or is not in the task."""

    video: np.ndarray | None  # [B, T, H, W, 3] uint8
    audio: np.ndarray | None  # [B, samples] float32 in [-1, 1]
    fps: float
    sample_rate: int
    kept: dict[str, list[Span]] | None = None  # seconds of "video" and "audio" that are the given ones, with `keep`


class Size(NamedTuple):
    """The sample to make: video frames, audio samples, pixels, frames a second, and the clocks of video and audio."""

    frames: int
    samples: int
    height: int
    width: int
    fps: float
    clocks: tuple[LatentClock, LatentClock]
    seconds: float


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
        num_inference_steps: int | None = None, guidance: Guidance | None = None, seed: int | Sequence[int] = 0,
        image: Tensor | None = None, audio: Tensor | None = None, video: Tensor | None = None,
        keep: Sequence[Span] | None = None, keep_audio: Sequence[Span] | None = None,
        given_speech: GivenTrack | None = None, given_effects: GivenTrack | None = None,
        callback_on_step_end: StepCallback | None = None,
    ) -> CCLOutput:  # fmt: skip
        """Sample one clip per prompt.

        Args:
            prompt, audio_prompt: what to see, and to hear (default: the same). `TimedPrompts` change over time.
            num_inference_steps: solver steps. Default: 24, of a model that is distilled what its config says.
            negative_prompt, guidance: the text 0c of guidance; form and weights of UCG. Default: dual, of a model that
                is distilled none, which its weights have.
            task: t2av, t2v, t2a, a2v, v2a, part, or auto: by what is given.
            duration: seconds. height, width: pixels; default: as trained. fps: frames a second, also of a given video;
                default: the pipeline's. Its clock tells the transformer, which heeds it with `frame_rate`.
            seed: one per prompt, or one: prompt i draws from seed + i. Video and sound have noise of their own.
            image: [B or 1, 3, H, W] in [-1, 1], the first frame (i2av, i2v).
            audio: [B or 1, 1, samples], the sound to make a video for. video: [B or 1, 3, T, H, W] in [-1, 1].
            keep: spans, (from, to) in seconds, that stay of the given video and sound while the rest is made; what is
                given may end with the last of them. keep_audio: other spans of the sound.
            given_speech, given_effects: task part: a file, or (samples, rate), of which the mix and the video are made.

        UserError for a size, duration, seed or given stream that does not fit, with what would; for a missing part; for
        one that makes NaN or infinity, with the step.
        """
        check_joint(self.components)
        prompts = _per_sample(prompt)
        given = Given(image, audio, video, keep, keep_audio, given_speech, given_effects)
        chosen, few = given.task(task), FewSteps.of(self.transformer)
        if few is not None:
            made = {name: self._solvers[name] for name in STREAMS if chosen.route.is_noisy(name)}
            few.check(chosen.value, made, negative_prompt if guidance in (None, Guidance()) else "")
        size = self._size(duration, height, width, fps)
        seeds = seed_of_each(seed, len(prompts))
        encoded = self._encode_given(chosen, size, len(prompts), given)
        latents = self._noise(chosen.route, size, seeds)
        audio_prompts = prompts if audio_prompt is None else _per_sample(audio_prompt)
        if len(audio_prompts) != len(prompts):
            raise UserError(f"{len(audio_prompts)} audio prompts for {len(prompts)} prompts; give one for each")
        device, dtype = self._execution_device, self.transformer.dtype
        texts = Conditions.build(self.text_encoder, prompts, audio_prompts, negative_prompt, size.clocks, device, dtype)
        how = texts, size.clocks, guidance or Guidance(), encoded.streams, encoded.clean, encoded.part
        sampler = JointSampler(self.transformer, chosen.route, *how)
        sampler.restore_clean(latents)
        steps = num_inference_steps if num_inference_steps is not None else few.steps if few else STEPS
        self._solve(sampler, latents, steps, callback_on_step_end, few)
        output = self._decode(chosen.route, size, latents, encoded.kept)
        self.maybe_free_model_hooks()
        return output

    @property
    def _solvers(self) -> dict[str, Any]:
        return {"video": self.scheduler, "audio": self.audio_scheduler}

    def _solve(
        self, sampler: JointSampler, latents: dict[str, Tensor], steps: int, callback: StepCallback | None,
        few: FewSteps | None,
    ) -> None:  # fmt: skip
        """Bring the latents of the noisy streams, in their place, from noise to a sample."""
        if steps < 1:
            raise UserError(f"{steps} sampling steps; at least 1 is needed")
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
                drawn = [torch.randn(shape, generator=generator(seed, "sample", name)) for seed in seeds]
                latents[name] = torch.stack(drawn).to(self._execution_device)
        return latents

    def _encode_given(self, task: Task, size: Size, batch: int, given: Given) -> Encoded:
        """Encode what is given. UserError if the model cannot read it, or its latents are not finite."""
        kept, encoded = given.kept(task), Encoded({}, {}, None, {})
        if given.part is not None:
            encoded = encoded._replace(part=self._encode_part(*given.part, size, batch))
        for name in ("audio", "video"):
            if (values := getattr(given, name)) is None:
                continue
            if name in kept:
                by = "keep_audio" if name == "audio" and given.keep_audio is not None else "keep"
                encoded.kept[name], mask = self._keep(name, values, joined(kept[name], size.seconds, by), size, batch)
                encoded.clean[name] = Clean(self._encode(name, encoded.kept[name].values), mask)
            else:
                encoded.streams[name] = self._encode(name, self._fit(name, values, size, batch))
        if given.image is not None:
            first = self._encode("video", self._fit("image", given.image[:, :, None], size, batch))
            encoded.clean["video"] = with_first(first, encoded.clean.get("video"), len(size.clocks[0]))
        return encoded

    def _encode(self, name: str, values: Tensor) -> Tensor:
        latents: Tensor = getattr(self, f"{name}_codec").encode(values)
        check_finite({f"{name} codec": latents}, "in the latents of what is given")
        return latents

    def _encode_part(self, name: str, track: GivenTrack, size: Size, batch: int) -> GivenPart:
        parts = list(self.transformer.config.parts)
        if name not in parts:
            known = f"only {', '.join(parts)}" if parts else "no track"
            raise UserError(f"given_{name}: this model can be given {known}; train it with task part and model.parts")
        sound = self._fit(name, read_track(track, self.audio_codec.sample_rate, f"given_{name}"), size, batch)
        latents = self._encode("audio", sound)
        return GivenPart(latents, torch.full((batch,), parts.index(name), device=latents.device))

    def _keep(self, name: str, given: Tensor, asked: list[Span], size: Size, batch: int) -> tuple[Kept, Tensor]:
        """Find what stays of a stream, and the mask of its clean latents. A span that does not fill whole latents is
        narrowed to those, with a warning. UserError if nothing stays, or all."""
        clock, count, rate = size.clocks[1], size.samples, float(self.audio_codec.sample_rate)
        if name == "video":
            clock, count, rate = size.clocks[0], size.frames, size.fps
        mask = latents_inside(clock, asked, size.seconds)
        if not mask.any() or mask.all():
            hold = (
                "all of it; give it whole, as tasks v2a and a2v do" if mask.any() else "no whole latent; lengthen them"
            )
            raise UserError(f"spans that stay of the {name}, {_told(asked)} s, hold {hold}")
        kept = in_clean_latents(clock, mask, count, rate)
        spans = spans_of(kept, rate)
        if _told(spans) != _told(asked):
            what = "what is made widens to whole latents"
            _log.warning("of the %s %s s stay as given, of %s s asked for: %s", name, _told(spans), _told(asked), what)
        needed = int(kept.nonzero()[-1]) + 1
        return Kept(self._fit(name, given, size, batch, needed), kept, spans), mask

    def _fit(self, name: str, given: Tensor, size: Size, batch: int, needed: int | None = None) -> Tensor:
        """Trim dimension 2, one per prompt. What lacks up to a twentieth, or all after the first `needed`, ends in
        silence, or in its last picture."""
        pictures = name in ("video", "image")
        if pictures and tuple(given.shape[-2:]) != (size.height, size.width):
            shape = "x".join(map(str, given.shape[-2:]))
            raise UserError(f"the {name} is {shape}; the sample is {size.height}x{size.width}: resize one of them")
        length = {"video": size.frames, "image": 1}.get(name, size.samples)
        missing, unit = length - given.shape[2], "frames" if pictures else "samples"
        if needed is not None and given.shape[2] < needed:
            has = f"has {given.shape[2]} {unit}, and {needed} are to stay as they are"
            raise UserError(f"the given {name} {has}: keep less of it")
        if missing > 0.05 * length and needed is None:
            has = f"has {given.shape[2]} {unit}, the sample needs {length}"
            raise UserError(f"the given {name} {has}: lower the duration")
        if given.shape[0] not in (1, batch):
            raise UserError(f"{given.shape[0]} of the given {name} for {batch} prompts; give one, or one per prompt")
        given = given.to(self._execution_device, torch.float32)[:, :, :length]
        if missing > 0:
            last = given[:, :, -1:].repeat_interleave(missing, dim=2)
            given = torch.cat([given, last if pictures else torch.zeros_like(last)], dim=2)
        return given.expand(batch, *given.shape[1:])

    def _decode(self, route: Route, size: Size, latents: dict[str, Tensor], kept: dict[str, Kept]) -> CCLOutput:
        """Decode what was made; what is kept is put into it as it was given, not through a codec."""
        video = audio = None
        if route.video_noisy:
            pixels = self.video_codec.decode(latents["video"].to(self.video_codec.dtype), size.frames)
            check_finite({"video codec": pixels}, "in what it decoded")
            video = tensor_to_frames(pixels.float()).cpu().numpy()
        if route.audio_noisy:
            sound = self.audio_codec.decode(latents["audio"].to(self.audio_codec.dtype), size.samples)
            audio = bounded(sound[:, 0].float(), "audio codec").cpu().numpy()
        if video is not None and "video" in kept:
            values, mask, _ = kept["video"]
            video[:, mask] = tensor_to_frames(values[:, :, mask.to(values.device)]).cpu().numpy()
        if audio is not None and "audio" in kept:
            values, mask, _ = kept["audio"]
            audio[:, mask] = values[:, 0].cpu()[:, mask].numpy()
        spans = {name: one.spans for name, one in kept.items()} or None
        return CCLOutput(video, audio, size.fps, self.audio_codec.sample_rate, spans)


def _per_sample(prompt: Prompts) -> list[str | TimedPrompts]:
    return [prompt] if isinstance(prompt, str | TimedPrompts) else list(prompt)


def _told(spans: Sequence[Span]) -> str:
    return ", ".join(f"{round(start, 3):g} to {round(end, 3):g}" for start, end in spans)
