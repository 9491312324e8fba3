"""Media files in and out: mp4, mov, mkv, webm, wav and pictures, at any frame rate, size and sample rate.

All lives on one timeline in seconds. Its zero is the moment the first picture is shown (without pictures: the first
sample), so pictures and sound that are read separately with the same `start` and `end` are in sync.
Arrays: video uint8 [T, H, W, 3] RGB; audio float32 [channels, N] in [-1, 1].
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Disposition
from av.video.reformatter import Interpolation

from shared.data.colour import check_colours, matrix, plain, wide
from shared.data.containers import check_decoder, decode, open_media
from shared.data.images import read_image
from shared.data.media_write import EXACT, Audio, Video, audio_frame, write_audio, write_video
from shared.utils.errors import UserError
from shared.utils.levels import is_silent

__all__ = ["MediaInfo", "is_silent", "probe", "read_audio", "read_image", "read_video", "write_audio", "write_video"]

_PREROLL = 1.0  # s decoded before a cut, so that the decoder has settled when the cut begins
_GAP = 0.04  # s; time stamps of sound that disagree by less are rounding, by more a real gap
_LONGEST_GAP = 600.0  # s that a picture may stand, or sound may be missing, before the time stamps count as damaged
_CUT_OFF = 0.5  # s missing of what the header promises before a file counts as cut off
_LOUDEST = 10.0  # a float sample above this is an integer in disguise, not an overdriven recording


@dataclass(frozen=True)
class MediaInfo:
    """What a file's header says; seconds on this module's timeline; None where there is no such stream."""

    path: Path
    duration: float  # until the last stream ends
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    video_end: float | None = None
    rate: int | None = None
    channels: int | None = None
    colours: str | None = None  # of the pictures, if BT.709 cannot hold them: "HDR (PQ)", "HDR (HLG)", "BT.2020"
    audio_start: float | None = None  # negative: before the first picture
    audio_end: float | None = None

    @property
    def has_video(self) -> bool:
        return self.fps is not None

    @property
    def has_audio(self) -> bool:
        return self.rate is not None


def read_video(
    path: str | Path, fps: float, size: tuple[int, int] | None = None, start: float = 0.0, end: float | None = None
) -> Video:
    """Pictures between `start` and `end` seconds as uint8 [T, H, W, 3], T = round(duration * fps).

    Picture k is the source picture nearest to time start + k / fps; where the source is slower than `fps` or
    stands still, it is the one on show, and a change falls on the nearest k. `size` (H, W): scaled with its
    aspect kept (by area when shrinking, bicubic when enlarging) until it covers the size, then cut centrally.
    An `end` past the file's end means the file's end.
    Raises UserError if the file is missing, broken or cut off, has no pictures, or none after `start`.
    """
    path = Path(path)
    if not 0 < fps < math.inf:
        raise UserError(f"{path}: {fps} frames per second; a positive number is needed")
    limit = _checked_cut(path, start, end, fps)
    pictures: list[Video] = []

    def hold(frame: Any, until: float) -> None:
        """Show `frame` until there are so many pictures; one that is never shown is never converted."""
        missing = int(min(until, limit)) - len(pictures)
        _check_gap(path, missing / fps, "picture that stands still")
        if missing > 0:
            pictures.extend([_picture(frame, size, stream)] * missing)

    with _reading(path) as file:
        stream = file.video
        if stream is None:
            raise UserError(f"{path}: has no video stream; a file with pictures is needed")
        check_decoder(path, stream)
        shown, time, length = None, 0.0, 0.0
        for frame, frame_time, frame_length in _timed_pictures(file, start):
            if shown is not None:
                if frame_time > 0:  # else what comes before was never on show
                    _check_size(path, shown, frame, start + frame_time)
                # due half-way between two pictures, but at most half an output frame ahead of its time
                due = frame_time - 0.5 * min(1 / fps, frame_time - time)
                hold(shown, math.ceil((due - 1e-6) * fps))
            else:
                check_colours(path, frame)
            if len(pictures) == limit:
                return np.stack(pictures)
            shown, time, length = frame, frame_time, frame_length
        if shown is None or time + length <= 0:
            raise UserError(f"{path}: no pictures after {start} s; a start before the end of the file is needed")
        reached, promised = start + time + length, float((stream.duration or 0) * stream.time_base)
        if reached < promised - _CUT_OFF:
            raise UserError(f"{path}: pictures end at {reached:.2f} s of {promised:.2f} s; a whole file is needed")
        hold(shown, max(1, round((time + length) * fps)))
    return np.stack(pictures)


def read_audio(path: str | Path, rate: int, mono: bool = True, start: float = 0.0, end: float | None = None) -> Audio:
    """Sound between `start` and `end` seconds as float32 [1 or channels, N] at `rate` Hz; mono is their mean.

    Sound that begins after the first picture is preceded by silence; sound from before it is left out. Sound that stops
    before `end` comes back short: the caller decides what that means. Raises UserError if the file is missing or
    broken, has no sound, none after `start`, or holds NaN, infinity or values that cannot be samples.
    """
    path = Path(path)
    if rate <= 0:
        raise UserError(f"{path}: cannot be read at {rate} Hz; a positive sample rate is needed")
    _checked_cut(path, start, end, rate)
    with _reading(path) as file:
        samples, source_rate = _decode_audio(file, path, start, end)
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: the sound has NaN or infinity; finite samples in [-1, 1] are needed")
    if np.abs(samples).max() > _LOUDEST:
        raise UserError(f"{path}: a sample of {np.abs(samples).max():g}; float samples must lie in [-1, 1]")
    if mono:
        samples = samples.mean(axis=0, keepdims=True)
    return np.clip(_resample(samples, source_rate, rate), -1.0, 1.0)


def probe(path: str | Path) -> MediaInfo:
    """Read the header, decode nothing. Raises UserError if the file is missing, broken or empty."""
    path = Path(path)
    with _reading(path) as file:
        video, audio, found = file.video, file.audio, {}
        if video is not None:
            check_decoder(path, video)
            found = {"fps": file.fps, "width": video.width, "height": video.height}
            found |= {"video_end": _stream_end(file, video), "colours": wide(video.codec_context)}
        if audio is not None:
            check_decoder(path, audio)
            found |= {"rate": audio.rate, "channels": audio.channels, "audio_start": _stream_start(audio) - file.zero}
            found["audio_end"] = _stream_end(file, audio)
        if not found:
            raise UserError(f"{path}: neither pictures nor sound in it; a video or sound file is expected")
        return MediaInfo(path, max(found[end] for end in ("video_end", "audio_end") if end in found), **found)


class _File(NamedTuple):
    """An open file: its first stream of moving pictures (the cover art of a song is not one) and of sound, or None."""

    container: Any
    video: Any
    audio: Any
    zero: float  # of the timeline on the file's own clock: its first picture, or else its first sample
    fps: float  # on average, if there are pictures


@contextmanager
def _reading(path: Path) -> Iterator[_File]:
    """Open a container; whatever FFmpeg says against the file while it is read becomes a UserError."""
    with open_media(path) as container:
        moving = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        video, audio = next(moving, None), next(iter(container.streams.audio), None)
        fps = float((video and (video.average_rate or video.guessed_rate)) or 25)
        yield _File(container, video, audio, _stream_start(audio if video is None else video), fps)


def _checked_cut(path: Path, start: float, end: float | None, rate: float) -> float:
    """How many frames or samples the cut has at most."""
    if not 0 <= start < math.inf or (end is not None and not start < end < math.inf):
        raise UserError(f"{path}: cannot cut from {start} s to {end} s; 0 <= start < end is needed")
    limit = math.inf if end is None else round((end - start) * rate)
    if limit < 1:
        raise UserError(f"{path}: nothing between {start} s and {end} s at {rate} per second; a longer cut is needed")
    return limit


def _stream_start(stream: Any) -> float:
    return 0.0 if stream is None or stream.start_time is None else float(stream.start_time * stream.time_base)


def _stream_end(file: _File, stream: Any) -> float:
    if stream.duration is not None:
        return _stream_start(stream) + float(stream.duration * stream.time_base) - file.zero
    # mkv and webm state one duration for the whole file
    return float(((file.container.start_time or 0) + (file.container.duration or 0)) / av.time_base) - file.zero


def _decoded(file: _File, stream: Any, start: float) -> Iterator[Any]:
    """Frames of `stream` from some time before `start` on, or all of them where seeking overshoots."""
    container, zero = file.container, file.zero
    if start > _PREROLL:
        container.seek(int((zero + start - _PREROLL) * av.time_base))
        frames = decode(container, stream)
        first = next(frames, None)
        if first is not None and first.time is not None and first.time - zero <= start:
            yield first
            yield from frames
            return
        container.seek(int(min(0.0, zero) * av.time_base))
    yield from decode(container, stream)


def _timed_pictures(file: _File, start: float) -> Iterator[tuple[Any, float, float]]:
    """(frame, its time counted from `start`, its time on show) in order of presentation."""
    following = -start  # for pictures without a time stamp (raw streams)
    for frame in _decoded(file, file.video, start):
        time = following if frame.time is None else frame.time - file.zero - start
        length = float(frame.duration * frame.time_base) if frame.duration else 1 / file.fps
        following = time + length
        yield frame, time, length


def _check_gap(path: Path, seconds: float, what: str) -> None:
    if seconds > _LONGEST_GAP:
        told = f"a {what} for {seconds:.0f} s; up to {_LONGEST_GAP:.0f} s are read, its time stamps look damaged"
        raise UserError(f"{path}: {told}")


def _check_size(path: Path, before: Any, frame: Any, time: float) -> None:
    if (frame.width, frame.height) != (before.width, before.height):
        sizes = f"from {before.width}x{before.height} to {frame.width}x{frame.height} at {time:.2f} s"
        raise UserError(f"{path}: its pictures change {sizes}; one size is needed, cut or convert it")


def _picture(frame: Any, size: tuple[int, int] | None, stream: Any) -> Video:
    """RGB [H, W, 3], upright, with square pixels; see `read_video` for `size`."""
    turns, frame = round(frame.rotation / 90) % 4, plain(frame)  # counter-clockwise; a telephone held upright says so
    wide = float(stream.sample_aspect_ratio or 1) * frame.width
    rows, columns = (frame.height, round(wide)) if size is None else size if turns % 2 == 0 else size[::-1]
    scale = max(columns / wide, rows / frame.height)
    width, height = max(columns, round(wide * scale)), max(rows, round(frame.height * scale))
    method = Interpolation.AREA if height < frame.height else Interpolation.BICUBIC
    scaled = frame.reformat(
        width, height, "rgb24", src_colorspace=matrix(frame), interpolation=method | EXACT, threads=1
    ).to_ndarray()
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.rot90(scaled[top : top + rows, left : left + columns], turns)


def _decode_audio(file: _File, path: Path, start: float, end: float | None) -> tuple[Audio, int]:
    """[channels, n] at the file's own rate, laid on the timeline by time stamps, from `start` to `end`."""
    stream, zero = file.audio, file.zero
    if stream is None:
        raise UserError(f"{path}: has no audio stream; a file with sound is needed")
    check_decoder(path, stream)
    # what lies past the stream's stated end is the padding of the last AAC packet
    stated = math.inf if stream.duration is None else _stream_end(file, stream)
    rate, stop = stream.rate, min(math.inf if end is None else end, stated) - start
    pieces: list[tuple[int, Audio]] = []
    cursor = 0
    for frame in _decoded(file, stream, start):
        samples, rate = _float_samples(frame), frame.sample_rate
        at = cursor if frame.time is None else round((frame.time - zero - start) * rate)
        _check_gap(path, (at - cursor) / rate, "silence without samples")
        if pieces and abs(at - cursor) <= _GAP * rate:
            at = cursor
        if at >= stop * rate:
            break
        cursor = at + samples.shape[1]
        pieces.append((at, samples))
    count = cursor if math.isinf(stop) else min(cursor, round(stop * rate))
    if count <= 0:
        raise UserError(f"{path}: no sound after {start} s; a start before the end of the sound is needed")
    whole = np.zeros((len(pieces[0][1]), count), np.float32)
    for at, samples in pieces:
        inside = whole[:, max(0, at) : max(0, at + samples.shape[1])]
        inside[...] = samples[:, max(0, -at) :][:, : inside.shape[1]]
    return whole, rate


def _float_samples(frame: Any) -> Audio:
    """float32 [channels, n] of a decoded frame, whatever its sample format."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if raw.dtype.kind == "f":
        return raw.astype(np.float32)
    scale = 2.0 ** (8 * raw.dtype.itemsize - 1)
    return ((raw - (scale if raw.dtype.kind == "u" else 0.0)) / scale).astype(np.float32)


def _resample(samples: Audio, source: int, target: int) -> Audio:
    """Band-limited, [channels, n] -> [channels, round(n * target / source)]; sample 0 stays at time 0."""
    if source == target:
        return samples
    count = max(1, round(samples.shape[1] * target / source))
    result = np.zeros((len(samples), count), np.float32)
    for channel, output in zip(samples, result, strict=True):
        resampler = AudioResampler("fltp", "mono", target, options={"filter_size": "64"})
        frames = [*resampler.resample(audio_frame(channel[None], source, 0)), *resampler.resample(None)]
        joined = np.concatenate([frame.to_ndarray()[0] for frame in frames])[:count]
        output[: len(joined)] = joined
    return result
