"""Pictures and sound that a user gave, into a new mp4 as they are: their own packets, times, channels and level."""

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import dropwhile, pairwise, takewhile
from pathlib import Path
from typing import Any

from shared.data.channels import named_layout
from shared.data.media import read_channels, reading, timed_pictures, upright_picture
from shared.data.media_write import AAC_LAYOUTS, AAC_RATES, Source, add_video_stream, encoded, sound_source, video_frame
from shared.utils.errors import UserError

#: Codecs that are copied into an mp4, as players know them there; PCM only where AAC has not its rate or channels.
VIDEO_CODECS = {"h264", "hevc", "vvc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg"}
AUDIO_CODECS = {"aac", "mp3", "mp2", "ac3", "eac3", "alac", "flac", "opus", "dts", "vorbis"}
PCM_CODECS = {f"pcm_{form}{order}" for form in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")}
_TICK = Fraction(1, 90000)  # s, of pictures that are encoded again

_log = logging.getLogger(__name__)


def given_pictures(path: Path, end: float) -> Source:
    """Take the pictures of a file up to `end` seconds, each at its own time: copied, or else encoded again as H.264.

    Which it is, and why, is logged where they are encoded again. Errors as `read_video`.
    """

    def source(container: Any) -> Iterator[Any]:
        with reading(path) as file:
            stream = file.video
            if stream is None:
                raise UserError(f"{path}: has no video stream; a file with pictures is needed")
            codec = stream.codec_context.codec.canonical_name
            packets = _packets(file, stream, end)
            if codec in VIDEO_CODECS and packets is not None:
                return _copied(packets, stream, container)
            reason = "some need pictures behind the cut" if codec in VIDEO_CODECS else f"mp4 does not take {codec}"
            _log.warning("%s: its pictures are encoded again, at their own times: %s", path, reason)
            return _encoded_pictures(path, end, container)

    return source


def given_sound(path: Path, track: int | None, seconds: Fraction) -> Source:
    """Take the sound of a file up to `seconds`: copied, or else with its own channels and rate.

    `track`: see `choose_audio`. Errors as `read_audio`.
    """
    with reading(path, track) as file:
        if file.audio is None:
            raise UserError(f"{path}: has no audio stream; a file with sound is needed")
        codec, own, rate = file.audio.codec_context.codec.canonical_name, file.audio.layout.name, file.audio.rate
    layout = named_layout(own)
    as_aac = rate in AAC_RATES and layout in AAC_LAYOUTS
    if codec in AUDIO_CODECS or (codec in PCM_CODECS and own == layout and not as_aac):
        return partial(_copied_sound, path, track, float(seconds))
    samples, rate, own = read_channels(path, 0.0, float(seconds), track)
    if (layout := named_layout(own)) is None:
        raise UserError(f"{path}: its {len(samples)} channels have no names, which mp4 needs; give stereo or 5.1")
    return sound_source(samples, rate, layout, seconds)


def _copied_sound(path: Path, track: int | None, seconds: float, container: Any) -> Iterator[Any]:
    with reading(path, track) as file:
        packets = _packets(file, file.audio, seconds)
        if packets is None:
            raise UserError(f"{path}: packets of its sound are out of order; write it again, as wav or m4a")
        return _copied(packets, file.audio, container)


def _packets(file: Any, stream: Any, end: float) -> list[Any] | None:
    """Packets before `end` on the timeline, in decoding order; None if some of them cannot be decoded without others,
    or have no times."""
    packets = [packet for packet in file.container.demux(stream) if packet.size]
    packets = list(dropwhile(lambda packet: not packet.is_keyframe, packets))  # of a broadcast cut anywhere
    if any(packet.pts is None for packet in packets):
        return None
    base, zero = stream.time_base, round(Fraction(file.zero) / stream.time_base)
    last = round(Fraction(end) / base)
    usual = max(1, round(1 / (Fraction(file.fps).limit_denominator(1001) * base))) if stream.type == "video" else 1
    following = math.inf
    for packet in reversed(packets):  # mkv has no decoding times of the first pictures, ts no length of the last
        if packet.dts is None:
            packet.dts = int(min(packet.pts, following - usual))
        following = packet.dts
        packet.duration = packet.duration or usual
        packet.pts, packet.dts = packet.pts - zero, packet.dts - zero
    shown = [packet.pts < last for packet in packets]
    kept = packets[: len(shown) - shown[::-1].index(True)] if any(shown) else []
    if stream.type == "audio":  # one packet before the first is what its decoder starts from
        early = [packet for packet in kept if packet.pts + packet.duration <= 0]
        kept = kept[max(0, len(early) - 1) :]
    if not kept or not all(shown[: len(kept)]):
        return None
    if any(later.dts <= packet.dts for packet, later in pairwise(kept)):
        return None
    latest = max(kept, key=lambda packet: packet.pts)
    latest.duration = min(latest.duration, last - latest.pts)
    return kept


def _copied(packets: list[Any], stream: Any, container: Any) -> Iterator[Any]:
    decoder = stream.codec_context.codec
    # a decoder that is not FFmpeg's own has no encoder of its name, of which PyAV would make the stream
    opaque = True if decoder.name != decoder.canonical_name else None
    added = container.add_stream_from_template(stream, opaque)
    if decoder.canonical_name == "hevc":
        added.codec_context.codec_tag = "hvc1"  # Apple's players know no other; parameters stand in the header
    for packet in packets:
        packet.stream = added
    return iter(packets)


def _encoded_pictures(path: Path, end: float, container: Any) -> Iterator[Any]:
    with reading(path) as file:
        first = upright_picture(next(iter(timed_pictures(file, 0.0)))[0], None, file.video)
        speed = Fraction(file.fps).limit_denominator(1001)
    height, width = (side // 2 * 2 for side in first.shape[:2])  # H.264 asks for even sides
    stream = add_video_stream(container, height, width, speed)
    stream.time_base = stream.codec_context.time_base = _TICK
    stream.codec_context.max_b_frames = 0  # the last packet is then the last picture, and ends with the cut

    def frames() -> Iterator[Any]:
        with reading(path) as file:
            for frame, time, _ in takewhile(lambda timed: timed[1] < end, timed_pictures(file, 0.0)):
                picture = upright_picture(frame, None, file.video)[:height, :width]
                yield video_frame(picture, round(time / _TICK), _TICK)

    def packets() -> Iterator[Any]:
        for packet in encoded(stream, frames()):
            length = packet.duration or round(1 / (speed * packet.time_base))
            packet.duration = min(length, round((end - float(packet.pts * packet.time_base)) / packet.time_base))
            yield packet

    return packets()
