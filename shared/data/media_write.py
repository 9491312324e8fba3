"""mp4, mkv and wav out, with exact durations; `shared.data.media`, the door to this file, says what the arrays are."""

import math
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, starmap
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from shared.utils.errors import UserError
from shared.utils.files import replacing

Video = npt.NDArray[np.uint8]
Audio = npt.NDArray[np.float32]

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

FLAC_CHANNELS = 8
AAC_LAYOUTS = ("mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "5.0", "5.1")  # that come back by name

# Without these swscale rounds down and drops half of the colour samples: 10 dB on smooth pictures.
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


Source = Callable[[Any], Iterator[Any]]
"""What adds its stream to a container that is being written, and gives the packets of it."""


def written_rate(rates: Iterable[int]) -> int:
    """Choose the rate of a sum of sounds of these rates: the highest, or, if AAC has not that, 48 kHz."""
    return rate if (rate := max(rates)) in AAC_RATES else 48000


def write_video(
    path: str | Path, frames: Video, fps: float, audio: Audio | None = None, rate: int | None = None
) -> None:
    """Write `frames` uint8 [T, H, W, 3] as H.264 (yuv420p, crf 14) with AAC sound, if any, in an mp4.

    `audio`, float [1 or 2, N] at `rate` Hz, is cut or filled with silence to round(T / fps * rate) samples, so both
    streams last T / fps seconds; values outside [-1, 1] are clipped. The file appears when it is complete.
    Raises UserError if an array or the file name cannot become such a file.
    """
    path = Path(path)
    pictures, speed = picture_source(path, frames, fps)
    sources = [pictures]
    if audio is not None:
        audio, rate = _checked_samples(path, audio, rate)
        if rate not in AAC_RATES or len(audio) > 2:
            raise UserError(f"{path}: {len(audio)} channels at {rate} Hz; AAC takes 1 or 2 at one of {AAC_RATES} Hz")
        sources.append(sound_source(audio, rate, "mono" if len(audio) == 1 else "stereo", len(frames) / speed))
    write_streams(path, sources, rate)


def write_lossless(
    path: str | Path, frames: Video, fps: float, audio: Audio, rate: int, layout: str | None = None
) -> None:
    """Write as `write_video` does, but as FFV1 and FLAC in an mkv, of pictures of any size and up to 8 channels of a
    `layout`, by default mono or stereo: `read_video` returns the frames to the bit, `read_audio` sound of up to 24
    bits, and other sound to half of one least bit of them.
    """
    path = Path(path)
    pictures, speed = picture_source(path, frames, fps, lossless=True)
    audio, rate = _checked_samples(path, audio, rate)
    layout = layout or {1: "mono", 2: "stereo"}.get(len(audio))
    if layout is None or len(audio) > FLAC_CHANNELS:
        raise UserError(f"{path}: {len(audio)} channels; 1 or 2 are written, or up to {FLAC_CHANNELS} of a layout")
    write_streams(path, [pictures, _flac_source(audio, rate, layout, len(frames) / speed)], rate, ".mkv")


def write_streams(path: Path, sources: Sequence[Source], rate: int | None = None, suffix: str = ".mp4") -> None:
    """Write a file, mp4 or mkv by its `suffix`, with a stream of each of `sources`. In an mp4 durations are told in
    units of the sound's `rate`."""
    # the default of 1000 ticks per second would round the sound's duration to milliseconds
    options = {"movflags": "+faststart", "movie_timescale": str(rate or 90000)} if suffix == ".mp4" else {}
    form = {".mp4": "mp4", ".mkv": "matroska"}[suffix]
    with _replacing(path, suffix) as part, av.open(str(part), "w", format=form, options=options) as container:
        streams = [source(container) for source in sources]  # all are there before the first packet is written
        for packets in streams:
            for packet in packets:
                container.mux(packet)


def picture_source(path: Path, frames: Video, fps: float, lossless: bool = False) -> tuple[Source, Fraction]:
    """H.264 of `frames`, and their rate as it is written; see `write_video`, its errors name `path`. `lossless`: FFV1,
    in RGB as they are."""
    if not 0 < fps < math.inf:
        raise UserError(f"{path}: {fps} frames per second; a positive number is needed")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise UserError(f"{path}: frames are {frames.dtype} {list(frames.shape)}; uint8 [T, H, W, 3] is needed")
    _, height, width, _ = frames.shape
    if not lossless and (height % 2 or width % 2):
        raise UserError(f"{path}: pictures of {height} x {width}; H.264 needs an even height and an even width")
    speed = Fraction(fps).limit_denominator(1001)

    def source(container: Any) -> Iterator[Any]:
        stream = add_video_stream(container, height, width, speed, lossless)
        return encoded(stream, _video_frames(frames, speed, lossless))

    return source, speed


def sound_source(audio: Audio, rate: int, layout: str, seconds: Fraction) -> Source:
    """AAC of float [channels, N], cut or filled with silence to `seconds`; PCM where AAC has not the rate or layout."""
    count = round(seconds * rate)
    audio = np.pad(audio[:, :count], ((0, 0), (0, max(0, count - audio.shape[1]))))
    codec = "aac" if rate in AAC_RATES and layout in AAC_LAYOUTS else "pcm_f32le"

    def source(container: Any) -> Iterator[Any]:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if codec == "aac":
            # 128 kbit/s per channel, or the most AAC holds at this rate: 6144 bits per channel and 1024 samples
            stream.bit_rate = min(128_000, 6 * rate) * len(audio)
        size = stream.codec_context.frame_size or 1024
        parts = ((audio[:, at : at + size], rate, at, layout) for at in range(0, audio.shape[1], size))
        return encoded(stream, starmap(audio_frame, parts))

    return source


def _flac_source(audio: Audio, rate: int, layout: str, seconds: Fraction) -> Source:
    """FLAC of float [channels, N] in 24 bits, cut or filled with silence to `seconds`."""
    count = round(seconds * rate)
    audio = np.pad(audio[:, :count], ((0, 0), (0, max(0, count - audio.shape[1]))))
    integers = _integers(audio, 24) << 8  # in the upper bits of 32

    def frame(at: int, size: int) -> Any:
        part = np.ascontiguousarray(integers[at : at + size].reshape(1, -1))
        made = av.AudioFrame.from_ndarray(part, "s32", layout)
        made.sample_rate, made.pts, made.time_base = rate, at, Fraction(1, rate)
        return made

    def source(container: Any) -> Iterator[Any]:
        stream = container.add_stream("flac", rate=rate, layout=layout)
        stream.codec_context.format = "s32"  # of which FLAC takes 24 bits
        size = stream.codec_context.frame_size or 4096
        return encoded(stream, (frame(at, size) for at in range(0, count, size)))

    return source


def _integers(audio: Audio, bits: int) -> npt.NDArray[np.int32]:
    """Round float [channels, N] to samples [N, channels] of so many bits."""
    full = 2 ** (bits - 1)
    return np.clip(np.rint(audio.T.astype(np.float64) * full), -full, full - 1).astype(np.int32)


def encoded(stream: Any, frames: Iterable[Any]) -> Iterator[Any]:
    """Packets of the frames, encoded in `stream`."""
    for frame in chain(frames, [None]):  # None: flush
        yield from stream.encode(frame)


def write_audio(path: str | Path, samples: Audio, rate: int) -> None:
    """Write float [channels, N] as a 16-bit PCM wav; `read_audio` returns it to half of one least bit.

    Values outside [-1, 1] are clipped. The file appears when it is complete. Raises UserError as `write_video`.
    """
    path = Path(path)
    samples, rate = _checked_samples(path, samples, rate)
    integers = _integers(samples, 16).astype("<i2")
    with _replacing(path, ".wav") as part, wave.open(str(part), "wb") as file:
        file.setparams((len(samples), 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(integers.tobytes())


def audio_frame(samples: Audio, rate: int, at: int, layout: str | None = None) -> Any:
    """Make an av.AudioFrame of float [channels, n] whose first sample is number `at`; mono or stereo by default."""
    layout = layout or ("mono" if len(samples) == 1 else "stereo")
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


@contextmanager
def _replacing(path: Path, suffix: str) -> Iterator[Path]:
    """Give a temporary name in the same folder that becomes `path` only if the body succeeds."""
    if path.suffix.lower() != suffix:
        raise UserError(f"{path}: cannot write {path.suffix or 'without an ending'!r}; the name must end in {suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); a writable folder is needed") from error


def _checked_samples(path: Path, samples: Audio, rate: int | None) -> tuple[Audio, int]:
    if samples.ndim != 2 or 0 in samples.shape or samples.dtype.kind != "f":
        raise UserError(f"{path}: sound is {samples.dtype} {list(samples.shape)}; float [channels, N] is needed")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: the sound to write has NaN or infinity; finite samples in [-1, 1] are needed")
    if rate is None or rate <= 0:
        raise UserError(f"{path}: sound at {rate} Hz; a positive sample rate is needed")
    return np.clip(samples, -1.0, 1.0).astype(np.float32), rate


def add_video_stream(container: Any, height: int, width: int, fps: Fraction, lossless: bool = False) -> Any:
    """Add a stream to a container that is being written: H.264 in yuv420p, or FFV1 in RGB."""
    # chromaloc=1: swscale puts a colour sample in the middle of its four pixels; H.264's default is the left
    # mbtree=0: with AVX-512 x264's macroblock tree makes other bytes of the same pictures, a time in fifteen
    options = {"crf": "14", "preset": "medium", "x264-params": "chromaloc=1:mbtree=0"}
    codec, pixels = "libx264", "yuv420p"
    if lossless:
        codec, pixels, options = "ffv1", "bgr0", {"level": "3", "coder": "1", "context": "1", "slicecrc": "1"}
    stream = container.add_stream(codec, rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, pixels
    context = stream.codec_context
    stream.time_base = context.time_base = 1 / fps
    if height * width <= 256 * 256:
        context.thread_count = 1  # threads cost more than they give, and small clips are written in parallel
    if not lossless:
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _video_frames(frames: Iterable[Video], fps: Fraction, lossless: bool) -> Iterator[Any]:
    for index, picture in enumerate(frames):
        if not lossless:
            yield video_frame(picture, index, 1 / fps)
            continue
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame.pts, frame.time_base = index, 1 / fps
        yield frame


def video_frame(picture: Video, pts: int, time_base: Fraction) -> Any:
    """Make an av.VideoFrame, yuv420p, of RGB [H, W, 3]."""
    colours = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    frame = frame.reformat(format="yuv420p", interpolation=Interpolation.BICUBIC | EXACT, threads=1, **colours)
    frame.pts, frame.time_base = pts, time_base
    return frame
