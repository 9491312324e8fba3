"""What `MTVPipeline` may be given in a call, in our names and in diffusers', and what it is here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from mtv.guidance import TrackGuidance
from mtv.tracks import TRACKS, Tracks, frames_of, read_tracks
from mtv.windows import WindowProgress, fitted_picture
from shared.data.in_memory import ImageInput, SoundInput, as_image
from shared.data.media import probe
from shared.data.media_write import written_rate
from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.calling import (
    Generators,
    StepCallback,
    StepEnd,
    asked_frames,
    callback_names,
    chosen,
    refuse_unknown,
    repeated,
    said_scales,
)
from shared.utils.errors import UserError
from shared.utils.ranges import checked_fps

#: One for all that is made in a call, or one for each.
Prompts = str | TimedPrompts | Sequence[str | TimedPrompts]
#: The speech of one person, or of each in the prompt's order; None: there and silent.
SpeechInput = SoundInput | list[SoundInput | None]

#: Keywords of other pipelines, and what is done in their place here.
ELSEWHERE = {
    "audio": "a mix has to be taken apart first, mtv.separation.demixer does; give speech, effects or music",
    "video": "no video is taken; give pictures as image and keyframes",
    "guidance_rescale": "guidance of tracks has none; leave it out",
    "modality_scale": "the sound's scales are speech_scale, effects_scale and music_scale",
}

#: What a call's arguments mean, for `help(pipe.__call__)`.
ARGUMENTS = """\
Args:
    prompt: what to see, one per sample. `TimedPrompts` change over the time of the whole video.
    speech, effects, music: what lips, events and mood follow; a track that is not given is silent. Each is a file of
        any kind with sound, (samples, rate), or a tensor [1, 1, N] at the audio encoder's rate; samples are [N] or
        [1, N] in [-1, 1]. Several speakers are a list, in the prompt's order; None is there and silent. Tracks begin
        together; shorter ones are filled with silence to the longest, with a warning.
    tracks: the same as `mtv.tracks.Tracks`, one for all samples, or a list of one for each.
    negative_prompt: the text 0c of guidance; default: none.
    duration: seconds; or num_frames. Default: as long as the tracks.
    height, width: pixels; default: as trained. fps, or frame_rate: frames a second; default: the pipeline's.
    num_inference_steps: solver steps per window. Default: 24, on CogVideoX 50, of a distilled model its own.
    guidance: form and scales, a `TrackGuidance`. Or by number: guidance_scale of the text (with MTV's public weights of
        text and tracks together), speech_scale, effects_scale, music_scale; 1 is none.
    num_videos_per_prompt: clips of each prompt.
    seed: one per prompt, or one (default: 0): clip i draws from seed + i, its first window as `CCLPipeline`'s video. No
        track or text changes the noise. generator: a torch.Generator or one per clip; manual_seed(n) is seed n.
    image, keyframes: the first frame; pictures by second, {2.5: "face.png"}. A file, PIL, [H, W, 3] or [B, H, W, 3] of
        uint8 or in [0, 1], or a tensor [3, H, W] or [B, 3, H, W] in [-1, 1]. Files and PIL are scaled and cut to the
        size.
    window, overlap: frames made at a time (default: about 2 s; best as trained), and those it shares with the last.
    callback_on_step_end: callback(pipeline, step, u, latents) -> the same dict or None; `step` counts on through the
        windows. Its latents are "video", or "latents" if callback_on_step_end_tensor_inputs says so. A callback that
        sets `pipeline._interrupt` ends the video with that window.
    progress: windows that an earlier call has made, with the same arguments; it is brought up to date.
"""


@dataclass(frozen=True)
class Call:
    """Arguments of `MTVPipeline`; `ARGUMENTS` has their meaning."""

    prompt: Prompts
    tracks: Tracks | Sequence[Tracks] | None = None
    speech: SpeechInput | None = None
    effects: SoundInput | None = None
    music: SoundInput | None = None
    negative_prompt: str | None = None
    duration: float | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    frame_rate: float | None = None
    num_inference_steps: int | None = None
    guidance: TrackGuidance | None = None
    guidance_scale: float | None = None
    speech_scale: float | None = None
    effects_scale: float | None = None
    music_scale: float | None = None
    num_videos_per_prompt: int = 1
    seed: int | Sequence[int] | None = None
    generator: Generators | None = None
    image: ImageInput | None = None
    keyframes: Mapping[float, ImageInput] | None = None
    window: int | None = None
    overlap: int = 5
    callback_on_step_end: StepCallback | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] | None = None
    progress: WindowProgress | None = None

    @classmethod
    def of(cls, arguments: Sequence[Any], options: Mapping[str, Any]) -> Self:
        """Take positional arguments and keywords. UserError for an unknown one."""
        names = {field.name for field in fields(cls)}
        refuse_unknown({name: value for name, value in options.items() if name not in names}, cls, ELSEWHERE)
        return cls(*arguments, **options)

    @property
    def end(self) -> StepEnd:
        """The callback, with the names that it wants."""
        return StepEnd(self.callback_on_step_end, callback_names(self.callback_on_step_end_tensor_inputs, ["video"]))

    def prompts(self) -> list[TimedPrompts]:
        """List the prompts of all clips."""
        texts = [self.prompt] if isinstance(self.prompt, str | TimedPrompts) else list(self.prompt)
        return [TimedPrompts.of(text) for text in repeated(texts, self.num_videos_per_prompt)]

    def frames_a_second(self, usual: float) -> float:
        """Choose the frame rate that is asked for, or the usual one."""
        asked = chosen("fps", self.fps, "frame_rate", self.frame_rate)
        return checked_fps(usual if asked is None else asked)

    def scales(self, together: bool) -> TrackGuidance | None:
        """Put the scales that were said into the default guidance; of a model that knows all tracks or none
        (`together`) guidance_scale is that of joint guidance. UserError beside `guidance`."""
        names = {"guidance_scale": "text"} | {f"{track}_scale": track for track in TRACKS}
        said: dict[str, Any] = said_scales({name: getattr(self, name) for name in names}, self.guidance)
        if together and list(said) == ["guidance_scale"]:
            return TrackGuidance(form="joint", scale=said["guidance_scale"])
        return TrackGuidance(**{names[name]: value for name, value in said.items()}) if said else self.guidance

    def given(self, rate: int, fps: float) -> list[Tracks]:
        """Read the sound of all clips, or of each, at `rate` Hz. UserError for none, or another number."""
        if self.tracks is None:
            return [self._read(rate, rate, fps)]
        if self._sounds:
            raise UserError("tracks and speech, effects or music say the same; leave one of them out")
        given = [self.tracks] if isinstance(self.tracks, Tracks) else list(self.tracks)
        clips = len(self.prompts()) // self.num_videos_per_prompt
        if clips == 0 or len(given) not in (1, clips):
            raise UserError(f"{len(given)} tracks for {clips} prompts; give one, or one per prompt")
        return given if len(given) == 1 else repeated(given, self.num_videos_per_prompt)

    def frames(self, tracks: list[Tracks], fps: float) -> int:
        """Count the frames of the video. Tracks that lack up to a twentieth of it end in silence."""
        frames = asked_frames(self.duration, self.num_frames, fps)
        if frames is None:
            counts = {frames_of(one, fps) for one in tracks}
            if len(counts) > 1:
                raise UserError(f"tracks of {sorted(counts)} frames in one batch; cut them, or give a duration")
            return counts.pop()
        shortest = min(one.seconds for one in tracks)
        if shortest < 0.95 * frames / fps:
            raise UserError(f"the tracks last {shortest:g} s, the sample {frames / fps:g} s: lower the duration")
        return frames

    def pictures(self, size: tuple[int, int], count: int) -> list[tuple[float, Tensor]]:
        """Read the given pictures with their times, [count, 3, H, W] of `size` (H, W)."""
        given = [] if self.image is None else [(0.0, as_image(self.image, size))]
        given += [(at, as_image(one, size, f"keyframe at {at:g} s")) for at, one in (self.keyframes or {}).items()]
        return [(at, fitted_picture(picture, at, size, count)) for at, picture in given]

    def heard(self, tracks: list[Tracks], seconds: float, fps: float) -> tuple[np.ndarray, int]:
        """Sum the tracks of each clip, or of all, [B or 1, N] of so many seconds, and their rate: the highest that they
        were given with."""
        own = tracks[0].rate
        rate = written_rate([_rate(one, own) for one in self._sounds] or [own])
        if rate != own and self.tracks is None:
            with warnings.catch_warnings(action="ignore"):  # they are told already
                tracks = [self._read(rate, own, fps)]
        samples = round(seconds * rate)
        mixes = [nn.functional.pad(one.mix()[0, :samples], (0, samples))[:samples] for one in tracks]
        return torch.stack(mixes).numpy(), tracks[0].rate

    @property
    def _voices(self) -> list[SoundInput | None]:
        return self.speech if isinstance(self.speech, list) else [] if self.speech is None else [self.speech]

    @property
    def _sounds(self) -> list[SoundInput]:
        return [one for one in (*self._voices, self.effects, self.music) if one is not None]

    def _read(self, rate: int, own: int, fps: float) -> Tracks:
        """Tracks at `rate`; tensors have their `own`."""
        frames = asked_frames(self.duration, self.num_frames, fps)
        end = None if frames is None else frames / fps if self.duration is None else self.duration
        speech, others = ([_with_rate(x, own) for x in some] for some in (self._voices, (self.effects, self.music)))
        return read_tracks(speech, *others, rate=rate, end=end)


def _with_rate(sound: SoundInput | None, own: int) -> SoundInput | None:
    return (sound.detach().float().cpu().numpy(), own) if isinstance(sound, Tensor) else sound


def _rate(sound: SoundInput, own: int) -> int:
    if isinstance(sound, str | Path):
        return probe(sound).rate or own
    return own if isinstance(sound, Tensor) else int(sound[1])
