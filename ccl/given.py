"""What a user gives `CCLPipeline` beside texts: whole streams, a first frame, spans that stay, a track of the sound."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccl.parts import GivenPart, GivenTrack, read_track
from ccl.routing import GivenKinds, Task
from ccl.sampler import STREAMS, Clean, Tensors
from ccl.spans import Span, in_clean_latents, joined, latents_inside, spans_of
from shared.codecs import tensor_to_frames
from shared.data.in_memory import (
    ImageInput,
    SoundInput,
    VideoInput,
    as_image,
    as_sound,
    as_video,
    seconds_of_sound,
    seconds_of_video,
)
from shared.nn.clock import LatentClock
from shared.utils.calling import asked_frames
from shared.utils.errors import UserError
from shared.utils.finite import check_finite

_log = logging.getLogger(__name__)


class Size(NamedTuple):
    """The sample to make: video frames, audio samples, pixels, frames a second, and the clocks of video and audio."""

    frames: int
    samples: int
    height: int
    width: int
    fps: float
    clocks: tuple[LatentClock, LatentClock]
    seconds: float


class Kept(NamedTuple):
    """Frames, [B, 3, T, H, W], or samples, [B, 1, N], that the output has as they are where `mask` [T] or [N]; `spans`
    are the seconds of these."""

    values: Tensor
    mask: Tensor
    spans: list[Span]


class Encoded(NamedTuple):
    """The same as the model reads it: latents of whole streams, of parts of streams, and of a track; what of the
    output is not made; and the whole streams themselves, [B, 3, T, H, W] and [B, 1, N]."""

    streams: Tensors
    clean: dict[str, Clean]
    part: GivenPart | None
    kept: dict[str, Kept]
    whole: Tensors

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Whole streams that were given, in the forms of `CCLOutput`."""
        arrays = {}
        if "video" in self.whole:
            arrays["video"] = tensor_to_frames(self.whole["video"]).cpu().numpy()
        if "audio" in self.whole:
            arrays["audio"] = self.whole["audio"][:, 0].cpu().numpy()
        return arrays


class Given(NamedTuple):
    """Arguments of `CCLPipeline`, as they are told there."""

    image: ImageInput | None = None
    audio: SoundInput | None = None
    video: VideoInput | None = None
    keep: Sequence[Span] | None = None
    keep_audio: Sequence[Span] | None = None
    speech: GivenTrack | None = None
    effects: GivenTrack | None = None

    @property
    def part(self) -> tuple[str, GivenTrack] | None:
        """Name and sound of the given track. UserError for two."""
        if self.speech is not None and self.effects is not None:
            raise UserError("given_speech and given_effects: a sample has one given track; leave one out")
        if self.effects is not None:
            return "effects", self.effects
        return None if self.speech is None else ("speech", self.speech)

    def frames(self, duration: float | None, num_frames: int | None, fps: float, rate: int) -> int:
        """How many frames the sample has: as asked for, in seconds or in frames; otherwise as many as there are of what
        is given (sound of no own rate at `rate`), or 2 s. UserError for both, and for none."""
        asked = asked_frames(duration, num_frames, fps)
        if asked is not None:
            return asked
        lengths = [seconds_of_sound(self.audio, rate)] if self.audio is not None else []
        lengths += [seconds_of_video(self.video, fps)] if self.video is not None else []
        lengths += [seconds_of_sound(self.part[1], rate, f"given_{self.part[0]}")] if self.part is not None else []
        # a frame that the given stream does not fill is not begun
        return max(1, math.floor(max(lengths) * fps + 1e-6)) if lengths else max(1, round(2 * fps))

    def read(self, size: Size, rate: int) -> Tensors:
        """Read files, PIL pictures and arrays as tensors, of the sample's size and rates, by name."""
        sides, values = (size.height, size.width), dict[str, Tensor]()
        if self.audio is not None:
            values["audio"] = as_sound(self.audio, rate, size.seconds)
        if self.video is not None:
            values["video"] = as_video(self.video, size.fps, sides, size.seconds)
        if self.image is not None:
            values["image"] = as_image(self.image, sides)
        return values

    @property
    def kinds(self) -> GivenKinds:
        """Which of them there are. UserError for two given tracks."""
        there = {name: getattr(self, name) is not None for name in ("audio", "video", "image", "keep", "keep_audio")}
        return GivenKinds(part=self.part is not None, **there)

    def task(self, name: str) -> Task:
        """Find the task called `name`; see `GivenKinds.task`."""
        return self.kinds.task(name)

    def kept(self, task: Task) -> dict[str, Sequence[Span]]:
        """Spans of each stream that the task makes and of which something is given; see `GivenKinds.kept`."""
        spans = {"video": self.keep, "audio": self.keep if self.keep_audio is None else self.keep_audio}
        return {name: spans[name] or [] for name in self.kinds.kept(task)}


class GivenEncoder:
    """Encodes what is given for a batch of samples of one size, by the codecs among the `components` of a pipeline."""

    def __init__(self, components: Mapping[str, Any], size: Size, batch: int, device: torch.device) -> None:
        self.size, self.batch, self.device = size, batch, device
        self.codecs = {name: components[f"{name}_codec"] for name in STREAMS}
        self.rate = int(self.codecs["audio"].sample_rate)
        self.parts = list(components["transformer"].config.parts)

    def __call__(self, task: Task, given: Given) -> Encoded:
        """Encode what is given. UserError if the model cannot read it, or its latents are not finite."""
        kept, encoded = given.kept(task), Encoded({}, {}, None, {}, {})
        if given.part is not None:
            encoded = encoded._replace(part=self._encode_part(*given.part))
        read = given.read(self.size, self.rate)
        image = read.pop("image", None)
        for name, values in read.items():
            if name in kept:
                by = "keep_audio" if name == "audio" and given.keep_audio is not None else "keep"
                encoded.kept[name], mask = self._keep(name, values, joined(kept[name], self.size.seconds, by))
                encoded.clean[name] = Clean(self._encode(name, encoded.kept[name].values), mask)
            else:
                encoded.whole[name] = self._fit(name, values)
                encoded.streams[name] = self._encode(name, encoded.whole[name])
        if image is not None:
            first = self._encode("video", self._fit("image", image[:, :, None]))
            encoded.clean["video"] = with_first(first, encoded.clean.get("video"), len(self.size.clocks[0]))
        return encoded

    def _encode(self, name: str, values: Tensor) -> Tensor:
        latents: Tensor = self.codecs[name].encode(values)
        check_finite({f"{name} codec": latents}, "in the latents of what is given")
        return latents

    def _encode_part(self, name: str, track: GivenTrack) -> GivenPart:
        parts = list(self.parts)
        if name not in parts:
            known = f"only {', '.join(parts)}" if parts else "no track"
            raise UserError(f"given_{name}: this model can be given {known}; train it with task part and model.parts")
        sound = self._fit(name, read_track(track, self.rate, f"given_{name}"))
        latents = self._encode("audio", sound)
        return GivenPart(latents, torch.full((self.batch,), parts.index(name), device=latents.device))

    def _keep(self, name: str, given: Tensor, asked: list[Span]) -> tuple[Kept, Tensor]:
        """Find what stays of a stream, and the mask of its clean latents. A span that does not fill whole latents is
        narrowed to those, with a warning. UserError if nothing stays, or all."""
        clock, count, rate = self.size.clocks[1], self.size.samples, float(self.rate)
        if name == "video":
            clock, count, rate = self.size.clocks[0], self.size.frames, self.size.fps
        mask = latents_inside(clock, asked, self.size.seconds)
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
        return Kept(self._fit(name, given, needed), kept, spans), mask

    def _fit(self, name: str, given: Tensor, needed: int | None = None) -> Tensor:
        """Trim dimension 2, one per prompt. What lacks up to a twentieth, or all after the first `needed`, ends in
        silence, or in its last picture."""
        pictures = name in ("video", "image")
        if pictures and tuple(given.shape[-2:]) != (self.size.height, self.size.width):
            shape = "x".join(map(str, given.shape[-2:]))
            raise UserError(
                f"the {name} is {shape}; the sample is {self.size.height}x{self.size.width}: resize one of them"
            )
        length = {"video": self.size.frames, "image": 1}.get(name, self.size.samples)
        missing, unit = length - given.shape[2], "frames" if pictures else "samples"
        if needed is not None and given.shape[2] < needed:
            has = f"has {given.shape[2]} {unit}, and {needed} are to stay as they are"
            raise UserError(f"the given {name} {has}: keep less of it")
        if missing > 0.05 * length and needed is None:
            has = f"has {given.shape[2]} {unit}, the sample needs {length}"
            raise UserError(f"the given {name} {has}: lower the duration")
        if given.shape[0] not in (1, self.batch):
            raise UserError(
                f"{given.shape[0]} of the given {name} for {self.batch} prompts; give one, or one per prompt"
            )
        given = given.to(self.device, torch.float32)[:, :, :length]
        if missing > 0:
            last = given[:, :, -1:].repeat_interleave(missing, dim=2)
            given = torch.cat([given, last if pictures else torch.zeros_like(last)], dim=2)
        return given.expand(self.batch, *given.shape[1:])


def with_first(first: Tensor, clean: Clean | None, frames: int) -> Clean:
    """`first` [B, C, 1, H, W] as the clean latent 0 of so many, beside others. UserError if that is kept already."""
    if clean is None:
        others, mask = first.new_zeros(*first.shape[:2], frames - 1, *first.shape[3:]), torch.zeros(frames - 1).bool()
    elif clean.mask[0]:
        raise UserError("image and keep both give the first frame; leave the image out, or keep a later span")
    else:
        others, mask = clean.latents[:, :, 1:], clean.mask[1:]
    return Clean(torch.cat([first, others.to(first)], dim=2), torch.cat([torch.ones(1, dtype=torch.bool), mask]))


def _told(spans: Sequence[Span]) -> str:
    return ", ".join(f"{round(start, 3):g} to {round(end, 3):g}" for start, end in spans)
