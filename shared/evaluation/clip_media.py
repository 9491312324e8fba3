"""A clip as metrics see it: its files decoded once, at their own rate and size, and whatever is made of them."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from shared.data.channels import downmix
from shared.data.manifest import Clip
from shared.data.media import MediaInfo, probe, read_channels, read_video
from shared.data.media_write import EXACT
from shared.data.samples import resample

Frames = NDArray[np.uint8]
Sound = NDArray[np.float32]


class FileMedia:
    """Implements `shared.evaluation.metrics.base.ClipMedia` on the files of a manifest's clip, between its start and
    end. Pictures of a varying rate are read at their average. Raises UserError as `shared.data.media`."""

    def __init__(self, clip: Clip, text: str | None = None) -> None:
        self._clip, self.text = clip, text
        self._frames: dict[tuple[float, tuple[int, int] | None], Frames] = {}
        self._sounds: dict[int, Sound] = {}

    @cached_property
    def _picture(self) -> MediaInfo | None:
        info = probe(self._clip.video) if self._clip.video else None
        return info if info is not None and info.has_video else None

    @cached_property
    def _sound(self) -> MediaInfo | None:
        info = probe(self._clip.audio, self._clip.audio_track) if self._clip.audio else None
        return info if info is not None and info.has_audio else None

    def has(self, need: str) -> bool:
        """Whether there is "video", "audio", "text" or "speech"; a "reference" is no matter of one clip."""
        there = {"video": self._picture, "audio": self._sound, "text": self.text, "speech": self._speech_tracks}
        return bool(there.get(need, True))

    @property
    def fps(self) -> float:
        """Frames per second of the file; 0 without pictures."""
        return (self._picture.fps or 0.0) if self._picture else 0.0

    @property
    def duration(self) -> float:
        """Seconds of the pictures, or of the sound where there are none."""
        ends = [self._picture.video_end if self._picture else None, self._sound.audio_end if self._sound else None]
        end = next((end for end in ends if end is not None), 0.0)
        return min(end, self._clip.end or math.inf) - self._clip.start

    @cached_property
    def _decoded(self) -> Frames:
        assert self._clip.video is not None, "who asks for frames needs video"
        return read_video(self._clip.video, self.fps, None, self._clip.start, self._clip.end)

    def frames(self, fps: float | None = None, size: tuple[int, int] | None = None) -> Frames:
        """Pictures uint8 [T, H, W, 3] as `read_video` gives them at `fps` (default: the file's) and `size` (H, W)."""
        key = (fps or self.fps, size)
        if key not in self._frames:
            chosen = (
                self._decoded if key[0] == self.fps else self._decoded[shown_at(len(self._decoded), self.fps, key[0])]
            )
            self._frames[key] = chosen if size is None else np.stack([covering(frame, size) for frame in chosen])
        return self._frames[key]

    @cached_property
    def _heard(self) -> tuple[Sound, int]:
        assert self._clip.audio is not None, "who asks for sound needs audio"
        clip = self._clip
        samples, rate, layout = read_channels(self._clip.audio, clip.start, clip.end, clip.audio_track)
        return downmix(samples, layout), rate

    def audio(self, rate: int) -> Sound:
        """Sound float32 [N] as `read_audio` gives it at `rate` Hz, mono."""
        if rate not in self._sounds:
            samples, own = self._heard
            self._sounds[rate] = np.clip(resample(samples, own, rate)[0], -1.0, 1.0)
        return self._sounds[rate]

    @property
    def _speech_tracks(self) -> list[str]:
        return [name for name in self._clip.tracks if name.startswith("speech")]

    def speech(self, rate: int) -> Sound | None:
        """Sum of the clip's tracks of speech at `rate` Hz, float32 [N], as long as the longest; None without any."""
        tracks = []
        for name in self._speech_tracks:
            samples, own, layout = read_channels(self._clip.tracks[name], self._clip.start, self._clip.end)
            tracks.append(resample(downmix(samples, layout), own, rate)[0])
        if not tracks:
            return None
        mixed = np.zeros(max(map(len, tracks)), np.float32)
        for track in tracks:
            mixed[: len(track)] += track
        return np.clip(mixed, -1.0, 1.0)


def shown_at(count: int, source: float, target: float) -> NDArray[np.int_]:
    """Numbers of the pictures, of `count` at `source` per second, that are on show at `target` per second: as
    `read_video` holds them, each due half-way from the one before, but at most half an output frame early."""
    due = (np.arange(count) / source - 0.5 * min(1 / target, 1 / source) - 1e-6) * target
    outputs = max(1, round(count / source * target))
    return np.maximum(0, np.searchsorted(np.ceil(due), np.arange(outputs), side="right") - 1)


def covering(frame: Frames, size: tuple[int, int]) -> Frames:
    """Scale a picture [H, W, 3] with its aspect kept until it covers `size` (H, W), and cut it centrally; by area when
    it shrinks, bicubic when it grows, as `read_video` does."""
    rows, columns = frame.shape[:2]
    scale = max(size[0] / rows, size[1] / columns)
    height, width = max(size[0], round(rows * scale)), max(size[1], round(columns * scale))
    method = Interpolation.AREA if height < rows else Interpolation.BICUBIC
    source = VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
    scaled = source.reformat(width, height, "rgb24", interpolation=method | EXACT, threads=1).to_ndarray()
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return scaled[top : top + size[0], left : left + size[1]]
