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
from av.stream import Disposition
from av.video.reformatter import Interpolation

from shared.data.audio_tracks import AudioTrack, audio_tracks, choose_audio
from shared.data.channels import downmix, loudest_dbfs, one_layout
from shared.data.clip_files import existing
from shared.data.colour import check_colours, matrix, plain, wide
from shared.data.containers import check_decoder, decode, open_media
from shared.data.durations import Ends, stream_ends
from shared.data.images import read_image
from shared.data.media_write import EXACT, Audio, Video, write_audio, write_video
from shared.data.samples import float_samples, resample
from shared.utils.errors import UserError
from shared.utils.levels import is_silent

__all__ = [
    "MediaInfo", "is_silent", "probe", "read_audio", "read_image", "read_mono", "read_video", "write_audio",
    "write_video",
]  # fmt: skip

_PREROLL = 1.0  # s decoded before a cut, so that the decoder has settled when the cut begins
_GAP = 0.04  # s; time stamps of sound that disagree by less are rounding, by more a real gap
_LONGEST_GAP = 600.0  # s that a picture may stand, or sound may be missing, before the time stamps count as damaged
_CUT_OFF = 0.5  # s of pictures that are in the file and cannot be decoded before it counts as broken
_LEAST_RATE = 1000  # Hz; below it is no sound, but the number of something else in a header
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
    layout: str | None = None  # of the channels, by FFmpeg's name
    track: int | None = None  # number of the one that is read, from 1
    tracks: tuple[AudioTrack, ...] = ()  # all that there are

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
            pictures.extend([upright_picture(frame, size, stream)] * missing)

    with reading(path) as file:
        stream = file.video
        if stream is None:
            raise UserError(f"{path}: has no video stream; a file with pictures is needed")
        check_decoder(path, stream)
        shown, time, length = None, 0.0, 0.0
        for frame, frame_time, frame_length in timed_pictures(file, start):
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
        reached, promised = start + time + length, file.ends[stream.index] - file.zero
        if reached < promised - _CUT_OFF:
            raise UserError(f"{path}: pictures end at {reached:.2f} s of {promised:.2f} s; a whole file is needed")
        hold(shown, max(1, round((time + length) * fps)))
    return np.stack(pictures)


def read_audio(
    path: str | Path, rate: int, mono: bool = True, start: float = 0.0, end: float | None = None,
    track: int | None = None,
) -> Audio:  # fmt: skip
    """Sound between `start` and `end` seconds as float32 [1 or channels, N] at `rate` Hz; mono is their `downmix`.

    Sound that begins after the first picture is preceded by silence; sound from before it is left out. Sound that stops
    before `end` comes back short: the caller decides what that means. `track`: see `choose_audio`. Raises UserError if
    the file is missing or broken, has no sound, none after `start`, or holds NaN, infinity or values that cannot be
    samples.
    """
    return _read_sound(Path(path), rate, mono, start, end, track)[0]


def read_mono(
    path: str | Path, rate: int, start: float = 0.0, end: float | None = None, track: int | None = None
) -> tuple[Audio, float]:
    """As `read_audio`, mono, and the level of the loudest of several channels: see `loudest_dbfs`."""
    return _read_sound(Path(path), rate, True, start, end, track)


def _read_sound(
    path: Path, rate: int, mono: bool, start: float, end: float | None, track: int | None
) -> tuple[Audio, float]:
    if rate <= 0:
        raise UserError(f"{path}: cannot be read at {rate} Hz; a positive sample rate is needed")
    _checked_cut(path, start, end, rate)
    samples, source_rate, layout = read_channels(path, start, end, track)
    loudest = -math.inf
    if mono:
        samples, loudest = downmix(samples, layout), loudest_dbfs(samples, layout)
    return np.clip(resample(samples, source_rate, rate), -1.0, 1.0), loudest


def read_channels(
    path: Path, start: float = 0.0, end: float | None = None, track: int | None = None
) -> tuple[Audio, int, str]:
    """As `read_audio`, but all channels at the file's own rate, which follows, and FFmpeg's name of their layout."""
    with reading(path, track) as file:
        samples, rate, layout = _decode_audio(file, path, start, end)
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: the sound has NaN or infinity; finite samples in [-1, 1] are needed")
    if np.abs(samples).max() > _LOUDEST:
        raise UserError(f"{path}: a sample of {np.abs(samples).max():g}; float samples must lie in [-1, 1]")
    return samples, rate, layout


def probe(path: str | Path, track: int | None = None) -> MediaInfo:
    """Read the header, decode nothing; `track` of sound: see `choose_audio`.

    Raises UserError if the file is missing, broken, cut off or empty.
    """
    path = Path(path)
    with reading(path, track) as file:
        video, audio, found = file.video, file.audio, dict[str, Any](tracks=audio_tracks(file.container))
        if video is not None:
            check_decoder(path, video)
            found |= {"fps": file.fps, "width": video.width, "height": video.height}
            found |= {"video_end": file.ends[video.index] - file.zero, "colours": wide(video.codec_context)}
        if audio is not None:
            check_decoder(path, audio)
            found |= {"rate": audio.rate, "channels": audio.channels, "audio_start": _stream_start(audio) - file.zero}
            found |= {"layout": audio.layout.name, "track": file.container.streams.audio.index(audio) + 1}
            found["audio_end"] = file.ends[audio.index] - file.zero
        if video is None and audio is None:
            raise UserError(f"{path}: neither pictures nor sound in it; a video or sound file is expected")
        return MediaInfo(path, max(found[end] for end in ("video_end", "audio_end") if end in found), **found)


class _File(NamedTuple):
    """An open file: its first stream of moving pictures (the cover art of a song is not one), one of sound, or None."""

    container: Any
    video: Any
    audio: Any
    zero: float  # of the timeline on the file's own clock: its first picture, or else its first sample
    fps: float  # on average, if there are pictures
    ends: Ends  # of its streams, on the file's own clock


@contextmanager
def reading(path: Path, track: int | None = None) -> Iterator[_File]:
    """Open a container; whatever FFmpeg says against the file while it is read becomes a UserError."""
    path = existing(path)
    with open_media(path) as container:
        moving = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        video, audio = next(moving, None), choose_audio(path, container, track)
        fps = float((video and (video.average_rate or video.guessed_rate)) or 25)
        zero = _stream_start(audio if video is None else video)
        yield _File(container, video, audio, zero, fps, stream_ends(path, container))


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


def timed_pictures(file: _File, start: float) -> Iterator[tuple[Any, float, float]]:
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


def upright_picture(frame: Any, size: tuple[int, int] | None, stream: Any) -> Video:
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


def _decode_audio(file: _File, path: Path, start: float, end: float | None) -> tuple[Audio, int, str]:
    """[channels, n] on the timeline by time stamps, from `start` to `end`; the file's own rate and layout."""
    stream, zero = file.audio, file.zero
    if stream is None:
        raise UserError(f"{path}: has no audio stream; a file with sound is needed")
    check_decoder(path, stream)
    # what lies past the stream's stated end is the padding of the last AAC packet
    stated = math.inf if stream.duration is None else file.ends[stream.index] - zero
    if stream.rate < _LEAST_RATE:
        raise UserError(f"{path}: sound at {stream.rate} Hz; at least {_LEAST_RATE} Hz are needed, write it again")
    rate, stop = stream.rate, min(math.inf if end is None else end, stated) - start
    pieces: list[tuple[int, Audio]] = []
    cursor, layouts = 0, []
    for frame in _decoded(file, stream, start):
        samples, rate = float_samples(frame), frame.sample_rate
        at = cursor if frame.time is None else round((frame.time - zero - start) * rate)
        _check_gap(path, (at - cursor) / rate, "silence without samples")
        if pieces and abs(at - cursor) <= _GAP * rate:
            at = cursor
        if at >= stop * rate:
            break
        cursor = at + samples.shape[1]
        pieces.append((at, samples))
        layouts.append(frame.layout.name)
    count = cursor if math.isinf(stop) else min(cursor, round(stop * rate))
    if count <= 0:
        raise UserError(f"{path}: no sound after {start} s; a start before the end of the sound is needed")
    pieces, layout = one_layout(path, pieces, layouts)
    whole = np.zeros((len(pieces[0][1]), count), np.float32)
    for at, samples in pieces:
        inside = whole[:, max(0, at) : max(0, at + samples.shape[1])]
        inside[...] = samples[:, max(0, -at) :][:, : inside.shape[1]]
    return whole, rate, layout
