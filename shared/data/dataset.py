"""Clips as training samples: pictures and sound of the same span, at one size and sample rate, and at one frame rate
or each at its own."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shared.data.bad_clips import Problem, attempt, noted, refuse
from shared.data.clip_texts import ClipTexts, Pairs
from shared.data.manifest import Clip
from shared.data.media import probe, read_mono, read_video
from shared.utils.errors import UserError
from shared.utils.levels import why_silent

SHORT_SOUND = 0.25  # s of sound that may be missing at the end of the picture; it is filled with silence
MOVING = (1, 240)  # frame rates that a clip may keep
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sample:
    """One clip, decoded. A stream the clip lacks is zeros of the right shape, with its `has_` flag False."""

    id: str
    video: Tensor  # float32 [3, T, H, W] in [-1, 1]
    audio: Tensor  # float32 [1, N] in [-1, 1], N = round(T / fps * sample_rate)
    caption: str
    audio_caption: str
    has_video: bool
    has_audio: bool
    loudest: float = -math.inf  # dBFS RMS of the loudest of several channels that `audio` was mixed of
    fps: float | None = None  # frame rate of the clip, where it kept its own
    prompts: Pairs = ()  # texts over time, as the manifest has them
    audio_prompts: Pairs = ()

    @property
    def why_silent(self) -> str:
        """Reason why its sound is none to train on, or nothing."""
        return why_silent(self.audio.numpy(), self.loudest)


class ClipDataset(Dataset[Sample]):
    """Decodes `clips`; sample i is clip i.

    T = round(duration * fps) pictures of `size` (H, W), where the duration is the clip's own, or with `duration` the
    first so many seconds of it. Sound is mono at `sample_rate` and as long as the picture: longer sound is cut, sound
    up to 0.25 s short is filled with silence. With `keep_fps` a clip with pictures keeps its `own_fps`. UserError names
    a clip that is broken or too short, or its sound.
    """

    def __init__(
        self, clips: Sequence[Clip], fps: float, size: tuple[int, int], sample_rate: int,
        duration: float | None = None, keep_fps: bool = False,
    ) -> None:  # fmt: skip
        if duration is not None and round(duration * fps) < 1:
            raise UserError(f"a duration of {duration} s holds no frame at {fps} fps; at least {1 / fps:g} s is needed")
        self.clips = list(clips)
        self.fps, self.size, self.sample_rate, self.duration = fps, size, sample_rate, duration
        self.keep_fps = keep_fps

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        clip = self.clips[index]
        try:
            return self._read(clip)
        except UserError as error:
            raise UserError(f"clip {clip.id!r}: {error}") from error

    def _read(self, clip: Clip) -> Sample:
        ends = [clip.end, None if self.duration is None else clip.start + self.duration]
        end = min((time for time in ends if time is not None), default=None)
        pictures = sound = own = None
        loudest, track = -math.inf, clip.audio_track
        if clip.video is not None:
            own = own_fps(clip.video) if self.keep_fps else None
            pictures = read_video(clip.video, own or self.fps, self.size, clip.start, end)
        fps = own or self.fps
        assert clip.audio is not None  # Clip guarantees it
        if clip.audio != clip.video or probe(clip.audio, track).has_audio:  # a file of its own must have sound
            sound, loudest = read_mono(clip.audio, self.sample_rate, clip.start, end, track)
        frames = self._frames(clip, pictures, sound, fps)
        video, count = torch.zeros(3, frames, *self.size), round(frames / fps * self.sample_rate)
        if pictures is not None:
            video = torch.from_numpy(pictures).permute(3, 0, 1, 2).float().div_(127.5).sub_(1.0).contiguous()
        if sound is None:
            audio = torch.zeros(1, count)
        elif (missing := count - sound.shape[1]) > SHORT_SOUND * self.sample_rate:
            raise UserError(
                f"{clip.audio}: sound lasts {sound.shape[1] / self.sample_rate:.2f} s, the picture "
                f"{count / self.sample_rate:.2f} s; at most {SHORT_SOUND} s may be missing"
            )
        else:
            audio = torch.from_numpy(np.pad(sound[:, :count], ((0, 0), (0, max(0, missing)))))
        has = pictures is not None, sound is not None
        texts = ClipTexts.of(clip)
        return Sample(clip.id, video, audio, *texts[:2], *has, loudest, own, *texts[2:])

    def _frames(self, clip: Clip, pictures: np.ndarray | None, sound: np.ndarray | None, fps: float) -> int:
        frames = 0 if pictures is None else len(pictures)
        if sound is not None and pictures is None:
            frames = max(1, round(sound.shape[1] / self.sample_rate * fps))
        wanted = self.duration if self.duration is not None else clip.end and clip.end - clip.start
        if wanted is not None and frames < round(wanted * fps):
            raise UserError(
                f"{clip.video or clip.audio}: {frames / fps:.2f} s after start {clip.start} s, not "
                f"the {wanted} s wanted; a longer clip or a shorter duration is needed"
            )
        return frames


def own_fps(path: Path) -> int:
    """Frame rate of a file with pictures, to the next whole number: so clips of one rate and length share batches.

    UserError for a rate that is none of moving pictures."""
    fps = probe(path).fps or 0.0
    if not MOVING[0] <= round(fps) <= MOVING[1]:
        told = f"{path}: {fps:g} pictures a second, which cannot be kept"
        raise UserError(f"{told}; from {MOVING[0]} to {MOVING[1]} are, or resample it")
    return round(fps)


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Results of `read` in the items' order; `threads` threads work some items ahead."""
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def check_clip(sample: Sample, needs_video: bool, needs_audio: bool) -> None:
    """Raise UserError with id and reason if a sample cannot train its task (docs/design.md, section 4)."""
    if needs_video and not sample.has_video:
        raise UserError(f"clip {sample.id!r}: has no video, which its task needs; give it one or leave the clip out")
    if needs_audio and not sample.has_audio:
        raise UserError(f"clip {sample.id!r}: has no sound track, which its task needs; add one or leave the clip out")
    for name, values in (("video", sample.video), ("audio", sample.audio)):
        if not torch.isfinite(values).all():
            raise UserError(f"clip {sample.id!r}: NaN or infinity in its {name}; finite values are needed")
    if needs_audio and (reason := sample.why_silent):
        raise UserError(f"clip {sample.id!r}: {reason}")


def survey(clips: Sequence[Clip], needs_video: bool, needs_audio: bool, duration: float | None = None) -> None:
    """Raise one UserError, naming the bad clips, unless all headers show streams and length that suffice."""
    refuse(header_problems(clips, needs_video, needs_audio, duration), len(clips))


def header_problems(
    clips: Sequence[Clip], needs_video: bool, needs_audio: bool, duration: float | None = None
) -> list[Problem]:
    """Tell which clips lack, by their headers, a stream that is needed or the length of `data.duration`."""
    return _problems(clips, lambda clip: check_headers(clip, needs_video, needs_audio, duration))


def decode_problems(dataset: ClipDataset, needs_video: bool = True, needs_audio: bool = True) -> list[Problem]:
    """Decode all clips, and tell which of them cannot train."""
    numbers = {clip.id: number for number, clip in enumerate(dataset.clips)}
    return _problems(dataset.clips, lambda clip: check_clip(dataset[numbers[clip.id]], needs_video, needs_audio))


def _problems(clips: Sequence[Clip], check: Callable[[Clip], None]) -> list[Problem]:
    problems: list[Problem] = []
    with ThreadPoolExecutor(8) as pool:
        for clip, error in zip(clips, pool.map(attempt(check), clips), strict=True):
            with noted(problems, clip.id):
                if error is not None:
                    raise error
    return problems


def check_headers(clip: Clip, needs_video: bool, needs_audio: bool, duration: float | None = None) -> None:
    """Raise UserError unless the headers of a clip show streams and length that suffice."""
    if needs_video and clip.video is None:
        raise UserError("has no video, which the tasks need")
    end = clip.start + duration if duration is not None else clip.end or clip.start
    why = f" by data.duration {duration:g}" if duration is not None else " by the clip's end"
    paths = {"video": clip.video, "audio": clip.audio if needs_audio or clip.audio != clip.video else None}
    for name, path in ((name, path) for name, path in paths.items() if path is not None):
        info = probe(path, clip.audio_track if path == clip.audio else None)
        lasts, tolerance, wanted = info.audio_end, SHORT_SOUND, "sound"
        if name == "video":
            lasts, tolerance, wanted = info.video_end, 0.5 / (info.fps or 1), "pictures"
        if lasts is None:
            raise UserError(f"{path}: has no {name} stream; a file with {wanted} is needed")
        if end > lasts + tolerance:
            raise UserError(f"{path}: {name} lasts {lasts:.2f} s, but {end:.2f} s are needed{why}")
