"""MTVPipeline: speech, effects and music drive a video of any length, window by window, from the joint checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from diffusers import CogVideoXTransformer3DModel, DiffusionPipeline
from torch import Tensor

from mtv import windows
from mtv.calling import ARGUMENTS, ELSEWHERE, Call, Prompts, SpeechInput
from mtv.cogvideox.hooks import CogVideoXDenoiser
from mtv.cogvideox.image_to_video import ImageToVideoDenoiser, trained_size
from mtv.cogvideox.solvers import DIFFUSION, Solver, checked_steps
from mtv.control import MSTControlNet, TrackFeatures
from mtv.guidance import TrackGuidance
from mtv.mtvcraft import MTVCraftControl
from mtv.tracks import Tracks, features
from mtv.windows import LongVideo, WindowSampler
from shared.checkpoint.folder import CheckpointMixin, check_driven
from shared.checkpoint.lora import LoraMixin
from shared.checkpoint.offload import MemoryMixin
from shared.codecs import VideoCodec, keyframe_latents, tensor_to_frames
from shared.data.clip_output import ClipOutput, checked_output_type
from shared.data.in_memory import ImageInput, SoundInput
from shared.encoders import AudioFeatures, TextEncoder
from shared.nn.few_steps import FewSteps
from shared.utils.calling import Generators, StepCallback, refuse_unknown, seeds_of, with_arguments
from shared.utils.errors import UserError
from shared.utils.finite import check_finite
from shared.utils.rng import generator
from shared.utils.windows import SECONDS, plan, window_frames


@dataclass
class MTVOutput(ClipOutput):
    """The made video; its sound is the sum of the tracks that it was made for."""


class MTVPipeline(CheckpointMixin, LoraMixin, MemoryMixin, DiffusionPipeline):
    """Audio-driven video: the video stream alone, steered by an MST-ControlNet, with guidance per track.

    Args:
        transformer: a backbone with `denoise_video(latents, sigma, text, clock, control) -> velocity`; or diffusers'
            `CogVideoXTransformer3DModel`.
        video_codec, text_encoder, scheduler: of the video stream. With CogVideoX, one of its own two schedulers.
        control: the network that the tracks act through: ours, or MTV's public one with the CogVideoX of its weights.
        audio_encoder: features of speech, and of effects and music where these have no encoder of their own.
        audio_codec, audio_scheduler: `ccl.pipeline.CCLPipeline`'s parts, kept so that saving loses nothing.
        fps, height, width: of a video where a call does not say them: those the model was trained on.

    UserError without control or audio_encoder, or for a scheduler or a public control of another kind than the
    transformer's.
    """

    # the first two are needed: listed here, their absence is told in one line below, and not by diffusers
    _optional_components = [  # noqa: RUF012
        "control", "audio_encoder", "audio_codec", "audio_scheduler", "effects_encoder", "music_encoder",
    ]  # fmt: skip
    unused_components = ("audio_codec", "audio_scheduler")
    model_cpu_offload_seq = "text_encoder->transformer->video_codec"
    # they are called by other methods than `forward`, which is what offloading listens to
    _exclude_from_cpu_offload = ["control", "audio_encoder", "effects_encoder", "music_encoder"]  # noqa: RUF012
    _denoisers = ("transformer", "control")

    def __init__(
        self,
        transformer: Any,
        video_codec: VideoCodec,
        text_encoder: TextEncoder,
        scheduler: Any,
        control: MSTControlNet | MTVCraftControl,
        audio_encoder: AudioFeatures,
        audio_codec: Any = None,
        audio_scheduler: Any = None,
        effects_encoder: Any = None,
        music_encoder: Any = None,
        fps: float = 16.0,
        height: int = 64,
        width: int = 64,
    ) -> None:
        super().__init__()
        check_driven({"control": control, "audio_encoder": audio_encoder})
        if isinstance(control, MTVCraftControl):
            control.check_backbone(transformer)
        if isinstance(transformer, CogVideoXTransformer3DModel) != isinstance(scheduler, DIFFUSION):
            raise UserError(
                f"{type(transformer).__name__} with {type(scheduler).__name__}: a CogVideoX transformer needs one of "
                f"its schedulers, {' or '.join(kind.__name__ for kind in DIFFUSION)}, and another needs a flow solver"
            )
        self.register_modules(
            transformer=transformer, video_codec=video_codec, text_encoder=text_encoder, scheduler=scheduler,
            control=control, audio_encoder=audio_encoder, audio_codec=audio_codec, audio_scheduler=audio_scheduler,
            effects_encoder=effects_encoder, music_encoder=music_encoder,
        )  # fmt: skip
        self.register_to_config(fps=fps, height=height, width=width)

    @classmethod
    def _check_parts(cls, parts: Mapping[str, Any], where: str) -> None:
        check_driven(parts, where)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **parts: Any) -> Self:
        """Share the models, not copies, of a `CCLPipeline` or another; `parts` replace or complete them."""
        names, settings = cls._get_signature_keys(cls)
        components = {name: getattr(pipeline, name, None) for name in names}
        config = {name: pipeline.config[name] for name in settings if name in pipeline.config}
        return cls(**(components | config | parts))

    @torch.no_grad()
    @with_arguments(ARGUMENTS)
    def __call__(
        self, prompt: Prompts, tracks: Tracks | Sequence[Tracks] | None = None,
        speech: SpeechInput | None = None, effects: SoundInput | None = None, music: SoundInput | None = None,
        negative_prompt: str | None = None, duration: float | None = None, num_frames: int | None = None,
        height: int | None = None, width: int | None = None, fps: float | None = None, frame_rate: float | None = None,
        num_inference_steps: int | None = None, guidance: TrackGuidance | None = None,
        guidance_scale: float | None = None, speech_scale: float | None = None, effects_scale: float | None = None,
        music_scale: float | None = None, num_videos_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None, generator: Generators | None = None,
        image: ImageInput | None = None, keyframes: Mapping[float, ImageInput] | None = None,
        window: int | None = None, overlap: int = 5, callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        progress: windows.WindowProgress | None = None,
        output_type: str = "np", return_dict: bool = True, **unknown: Any,
    ) -> MTVOutput:  # fmt: skip
        """Sample one video per prompt, as long as its tracks, window by window.

        {arguments}
            output_type: np, pil, pt: what `MTVOutput.frames` holds; latent, of one window: nothing is decoded.
            return_dict: false: (frames, audio).

        UserError for what does not fit, with what would; for a part that makes NaN or infinity, with the step; for an
        unknown keyword, with the nearest.
        """
        refuse_unknown(unknown, type(self).__call__, ELSEWHERE)
        output_type = checked_output_type(output_type)
        call = Call(
            prompt, tracks, speech, effects, music, negative_prompt, duration, num_frames, height, width, fps,
            frame_rate, num_inference_steps, guidance, guidance_scale, speech_scale, effects_scale, music_scale,
            num_videos_per_prompt, seed, generator, image, keyframes, window, overlap, callback_on_step_end,
            callback_on_step_end_tensor_inputs, progress,
        )  # fmt: skip
        given, video = self._planned(call)
        frames = latents = None
        if output_type != "latent":
            frames = np.concatenate(list(self._windows(video)), axis=1)
        elif len(video.windows) > 1:
            most = f"{len(video.windows)} windows have latents of their own"
            raise UserError(f"output_type latent: {most}; give a window of {video.windows[-1].end} frames, or another")
        else:
            with self.progress_bar(total=video.steps) as bar:
                latents = {"video": self._sample(video, 0, None, bar)}
            self.maybe_free_model_hooks()
        seconds = (video.windows[-1].end if frames is None else frames.shape[1]) / video.fps
        sound, rate = call.heard(given, seconds, video.fps)
        sound = np.broadcast_to(sound, (len(video.prompts), sound.shape[1]))
        output = MTVOutput(frames, sound, video.fps, rate, latents=latents, output_type=output_type)
        return output if return_dict else cast(Any, (output.frames, output.audio))

    @torch.no_grad()
    def stream(self, *arguments: Any, **options: Any) -> Iterator[np.ndarray]:
        """Yield the new frames of one window after another, uint8 [B, t, H, W, 3], sampled when asked for.

        The arguments are those of a call, but for output_type and return_dict. Between windows the device keeps the
        last `overlap` frames, the texts and the given pictures, and the main memory the sound's features: nothing else
        grows with the length. UserError at once for what does not fit.
        """
        return self._windows(self._planned(Call.of(arguments, options))[1])

    def _planned(self, call: Call) -> tuple[list[Tracks], LongVideo]:
        """Read and check all that is given; the tracks, and what the windows share."""
        prompts, fps, end = call.prompts(), call.frames_a_second(self.config.fps), call.end
        settled = self._settled(call)
        size, stride = self._size(call.height, call.width), self.video_codec.temporal_stride
        given = call.given(self.audio_encoder.sample_rate, fps)
        frames = call.frames(given, fps)
        length = window_frames(SECONDS, fps, stride) if call.window is None else call.window
        planned = plan(frames, length, call.overlap, stride)
        pictures = call.pictures(size, len(prompts))
        different = list(dict.fromkeys(text for one in prompts for text in one.texts))
        return given, LongVideo(
            **settled,
            seeds=seeds_of(call.seed, call.generator, len(prompts)),
            keyframes=windows.place_keyframes([time for time, _ in pictures], planned, fps, stride),
            prompts=prompts,
            texts=dict(zip(different, self._encoded(different), strict=True)),
            negative=self._encoded([call.negative_prompt or ""]).expand(len(prompts), -1, -1),
            tracks=self._features(given, frames, fps, len(prompts)),
            fps=fps,
            windows=planned,
            pictures={time: picture.to(self._execution_device) for time, picture in pictures},
            size=size,
            end=end,
            progress=call.progress or windows.WindowProgress(),
        )

    def _settled(self, call: Call) -> dict[str, Any]:
        """Find guidance and steps of a call; a model of few steps says both where none are asked for. UserError for
        steps that there are not, and for another solver than Euler's of such a model."""
        together = self.control.drops_together
        few, steps = FewSteps.of(self.transformer), call.num_inference_steps
        asked = call.scales(together) or TrackGuidance(form="joint" if together else "separate")
        asked.check(together)
        if few is not None:
            negative = call.negative_prompt if asked == TrackGuidance() else None
            few.check("mtv", {"video": self.scheduler}, negative or "")
            steps = few.steps if steps is None else steps
        return {"guidance": asked.settled(few is not None), "steps": checked_steps(self.scheduler, steps)}

    @torch.no_grad()
    def _windows(self, video: LongVideo) -> Iterator[np.ndarray]:
        made, device = video.progress, self._execution_device
        with self.progress_bar(total=len(video.windows) * video.steps) as bar:
            bar.update(made.done * video.steps)
            for index, window in enumerate(video.windows[made.done :], start=made.done):
                latents = self._sample(video, index, None if made.last is None else made.last.to(device), bar)
                pixels = self.video_codec.decode(latents.to(self.video_codec.dtype), window.frames).float()
                check_finite({"video codec": pixels}, "in what it decoded")
                if not self._interrupt:
                    made.done, made.last = index + 1, None
                    if index + 1 < len(video.windows):  # a copy, so that it does not hold the whole window
                        made.last = pixels[:, :, -video.windows[index + 1].given :].clone()
                new = tensor_to_frames(pixels[:, :, window.given :]).cpu().numpy()
                del pixels
                yield new
                if self._interrupt:
                    break
        self.maybe_free_model_hooks()

    def _sample(self, video: LongVideo, index: int, last: Tensor | None, progress: Any) -> Tensor:
        """Latents [B, C, F, h, w] of a window, which goes on from `last`, the frames it shares."""
        self._interrupt = False  # a callback may set it, as in diffusers' pipelines
        window = video.windows[index]
        clock, model = self.video_codec.clock(window.frames, video.fps), self.transformer
        here, sound = slice(window.start, window.end), video.tracks
        tracks = TrackFeatures(sound.speech[:, :, here], sound.effects[:, here], sound.music[:, here], sound.speakers)
        text = windows.window_text(video.prompts, video.texts, clock.shifted(window.start / video.fps))
        clean = {} if last is None else dict(enumerate(self.video_codec.encode(last).unbind(2)))
        for latent, time in video.keyframes[index].items():
            clean[latent] = keyframe_latents(self.video_codec, video.pictures[time], latent == 0)[:, :, 0]
        for given in clean.values():
            check_finite({"video codec": given}, "in the latents of given frames")
        tracks = tracks.to(self._execution_device)
        sampler = WindowSampler(
            self._denoiser, self.control, tracks, text, video.negative, clock, clean, video.guidance
        )
        latents = sampler.restore_clean(self._noise(video, index))
        added = [generator(seed, "sample", "video", "steps", index) for seed in video.seeds]
        path = Solver(self.scheduler, video.steps, self._execution_device, added)
        few = FewSteps.of(model)
        if few is not None:
            few.check_grid("video", self.scheduler)
        for step, (u, sigma) in enumerate(path.levels):
            velocity = sampler.velocity(latents, sigma, None if few is None else path.level_after(step))
            now = {"video": sampler.restore_clean(path.step(step, velocity, latents))}
            video.end(self, index * video.steps + step, u, now)
            latents = now["video"]
            count = f"step {step + 1} of {video.steps}, window {index + 1} of {len(video.windows)}"
            check_finite({"video DiT with its control network": latents}, f"in the latents at {count}")
            progress.update()
            if self._interrupt:
                break
        return latents

    @property
    def _denoiser(self) -> Any:
        """What has `denoise_video`: the transformer, or around a CogVideoX that which its control asks for."""
        if not isinstance(self.transformer, CogVideoXTransformer3DModel):
            return self.transformer
        public = isinstance(self.control, MTVCraftControl)
        return ImageToVideoDenoiser(self.transformer) if public else CogVideoXDenoiser(self.transformer)

    def _noise(self, video: LongVideo, index: int) -> Tensor:
        """[B, C, F, h, w]; the first window's is `CCLPipeline`'s, and each window has its own."""
        names = ("sample", "video", index) if index else ("sample", "video")
        codec, sides = self.video_codec, [side // self.video_codec.spatial_stride for side in video.size]
        shape = (codec.latent_channels, codec.latent_frames(video.windows[index].frames), *sides)
        drawn = [torch.randn(shape, generator=generator(seed, *names)) for seed in video.seeds]
        return torch.stack(drawn).to(self._execution_device)

    def _encoded(self, texts: list[str]) -> Tensor:
        embedded = self.text_encoder.encode(texts).to(self._execution_device, self.transformer.dtype)
        check_finite({"text encoder": embedded}, "in the embedding of a prompt")
        return embedded

    def _features(self, tracks: list[Tracks], frames: int, fps: float, batch: int) -> TrackFeatures:
        """Of the whole sound, so that a window's ends keep their neighbours; one for all, or each its own."""
        if (voices := max(len(one.speech) for one in tracks)) > (most := self.control.config.speakers):
            raise UserError(f"{voices} speakers; this checkpoint knows {most} at most")
        tracks = [one.with_speakers(self.control.least_speakers) for one in tracks]
        own = {"speech": self.audio_encoder, "effects": self.effects_encoder, "music": self.music_encoder}
        encoders = {name: self.audio_encoder if encoder is None else encoder for name, encoder in own.items()}
        read = (features(one, encoders, frames, fps) for one in tracks)
        clips = [{name: x.cpu() for name, x in one.items()} for one in read]
        for one in clips:
            check_finite({f"encoder of {name}": values for name, values in one.items()}, "in the features of the sound")
        return TrackFeatures.of([clips[row % len(clips)] for row in range(batch)])

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        stream = self.transformer.config.get("video", self.transformer.config)
        patch = stream.get("patch_size", (1, 2, 2))
        unit = self.video_codec.spatial_stride * (patch if isinstance(patch, int) else patch[-1])
        if height % unit or width % unit or min(height, width) < unit:
            raise UserError(f"size {height}x{width} does not fit; height and width must be multiples of {unit}")
        bound = isinstance(self.transformer, CogVideoXTransformer3DModel)
        learned = trained_size(self.transformer, self.video_codec.spatial_stride) if bound else None
        if learned is not None and learned != (height, width):
            raise UserError(f"size {height}x{width}: this model has positions for {learned[0]}x{learned[1]} alone")
        return height, width
