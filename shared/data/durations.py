"""When the streams of a file end: by its header where that is right, by its packets where it is absent or wrong.

A browser's recording and whatever was written into a pipe state no duration; a crashed or interrupted one states more
than there is. Nothing here decodes. A header is believed without reading a packet if the file's index reaches its end,
or if FFmpeg itself took the duration from the file's last packets.
"""

import os
import struct
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.stream import Disposition

from shared.data.containers import open_media
from shared.utils.errors import UserError

Ends = dict[int, float]
"""Seconds on the file's own clock at which a stream ends, by the stream's index."""

_TAIL = 1.0  # s before its stated end from which a file with an index of keyframes is read
_REORDERED = 4  # pictures by which decoding may run ahead of showing at the end of an index
_FASTEST = 500.0  # pictures a second; FFmpeg tells the ticks of the clock where a header has no rate
_SHORTEST, _LONGEST = 0.02, 0.25  # s: what a packet of sound counts as at least and at most
_ASF_PROPERTIES = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le
_FROM_PACKETS = {"mpegts", "mpeg", "ogg"}  # FFmpeg has measured what it says of these


class _Chunks(NamedTuple):
    """How a file of chunks is laid out; sizes in bytes."""

    first: int  # place of the first chunk
    head: struct.Struct  # name and size of a chunk
    counts_head: bool = False  # whether the size counts the head
    align: int = 1
    piped: int = 1 << 62  # from here on a size says that it was not known


#: Formats of which FFmpeg tells no size that it does not find.
_CHUNKS = {
    "wav": _Chunks(12, struct.Struct("<4sI"), align=2, piped=0x7FFFF000),
    "w64": _Chunks(40, struct.Struct("<16sQ"), counts_head=True, align=8),
    "caf": _Chunks(8, struct.Struct(">4sq")),
}


def stream_ends(path: Path, container: Any) -> Ends:
    """Tell the ends of all streams of the open `container` at `path`.

    A header is right if it and the packets differ by a picture and a sound packet at most. One that states less than
    there is, or nothing, gives way to the packets. UserError for a file that ends before its header says so.
    """
    declared, form = _declared(container), container.format.name
    if form in _CHUNKS and container.streams.audio and not container.streams.video:
        _check_pcm(path, container)
    elif form == "asf":
        _check_asf(path, container)
    if declared and (form in _FROM_PACKETS | _CHUNKS.keys() or _is_indexed(container, declared)):
        return declared
    stat = os.stat(path)
    return dict(_measured(path, stat.st_mtime_ns, stat.st_size))


def _declared(container: Any) -> Ends:
    """Tell what the header says of each stream, or else of all together; nothing where it says nothing."""
    ends = {}
    for stream in container.streams:
        if _has_own(stream, container):
            ends[stream.index] = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
            if container.format.name == "avi" and stream.type == "video":  # FFmpeg tells what the size allows
                ends[stream.index] = max(ends[stream.index], stream.frames / float(stream.average_rate or 25))
        elif container.duration is not None and not _is_left_open(stream):
            ends[stream.index] = ((container.start_time or 0) + container.duration) / av.time_base
    return ends


def _has_own(stream: Any, container: Any) -> bool:
    """Whether the header states a duration of `stream` itself. That of mkv and webm is one for the whole file."""
    return stream.duration is not None and "matroska" not in container.format.name and not _is_left_open(stream)


def _is_left_open(stream: Any) -> bool:
    """Whether the header has the number that writers leave in it until they know a better one."""
    return stream.frames >= 1 << 30 or stream.duration == 0xFFFFFFFF


def _is_indexed(container: Any, declared: Ends) -> bool:
    """Whether the index reaches the stated end of all pictures and sound, and what it lists lies inside the file."""
    for stream in _lasting(container):
        entries = stream.index_entries
        if not _has_own(stream, container) or len(entries) == 0 or (len(entries) == 1) > (stream.frames == 1):
            return False
        if entries[-1].pos + entries[-1].size > container.size:
            return False
        first, last = (float(entries[i].timestamp * stream.time_base) for i in (0, -1))
        step = (last - first) / max(1, len(entries) - 1)
        if len(entries) > 1 and abs(declared[stream.index] - last - step) > _REORDERED * step:
            return False
    return True


@lru_cache(maxsize=4096)
def _measured(path: Path, modified: int, size: int) -> tuple[tuple[int, float], ...]:
    """Tell the ends of the streams of a file as it was `modified`, of that `size`; see `stream_ends`."""
    with open_media(path) as container:
        stated = _stated(container)
        if stated is not None and "matroska" in container.format.name:
            try:
                container.seek(int(max(0.0, stated - _TAIL) * av.time_base))
                found, slack = _walk(container)
            except av.FFmpegError:  # where the end cannot be reached, all is read
                found, slack = {}, 0.0
            wanted = {stream.index for stream in _lasting(container)}
            if wanted <= found.keys() and max(found.values(), default=0.0) >= stated - slack:
                return tuple(_judged(path, container, found, slack).items())
    with open_media(path) as container:
        return tuple(_judged(path, container, *_walk(container)).items())


def _walk(container: Any) -> tuple[Ends, float]:
    """Tell the ends of the streams by the packets from here on, and a picture and a sound packet in seconds."""
    ends, packet_length = Ends(), _SHORTEST
    rates = {s.index: float(s.average_rate or s.guessed_rate or 25) for s in container.streams.video}
    pictures = {index: 1 / (rate if rate <= _FASTEST else 25) for index, rate in rates.items()}
    for packet in container.demux():
        if not packet.size or packet.is_discard:
            continue
        length = float((packet.duration or 0) * packet.time_base) or pictures.get(packet.stream_index, 0.0)
        if packet.stream.type == "audio":
            packet_length = min(max(packet_length, length), _LONGEST)
        ticks = packet.dts if packet.pts is None else packet.pts
        before = ends.get(packet.stream_index, 0.0)  # raw streams have no times
        end = length + (before if ticks is None else float(ticks * packet.time_base))
        ends[packet.stream_index] = max(end, ends.get(packet.stream_index, end))
    return ends, packet_length + max(pictures.values(), default=0.0)


def _judged(path: Path, container: Any, found: Ends, slack: float) -> Ends:
    """Tell what holds of the header and of the ends `found`. UserError if the file is not whole."""
    if not found:
        raise UserError(f"{path}: no packet can be read in it; a whole file is needed")
    declared, stated, ends = _declared(container), _stated(container), Ends()
    for stream in container.streams:
        end = found.get(stream.index, 0.0)
        said = declared.get(stream.index, end)
        own = stream in _lasting(container) and _has_own(stream, container) and not _is_guessed(container)
        if own and end < said - slack:
            raise _cut_off(path, end, said)
        ends[stream.index] = said if abs(said - end) <= slack else end
    if stated is not None and not _is_guessed(container) and max(found.values()) < stated - slack:
        raise _cut_off(path, max(found.values()), stated)
    return ends


def _lasting(container: Any) -> list[Any]:
    """Streams of moving pictures and of sound; the cover of a song is neither."""
    streams = (*container.streams.video, *container.streams.audio)
    return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]


def _stated(container: Any) -> float | None:
    """Where the header says that the file ends. Some count from zero, some from the first packet: the earlier holds."""
    if container.duration is None or any(map(_is_left_open, container.streams)):
        return None
    return (min(0, container.start_time or 0) + container.duration) / av.time_base


def _is_guessed(container: Any) -> bool:
    """Whether FFmpeg made the duration from the file's size and a bit rate, for want of a header that states it."""
    if container.duration is None or container.duration <= 0:
        return False
    rate = sum(stream.codec_context.bit_rate or 0 for stream in _lasting(container) if stream.codec_context is not None)
    return abs(rate * container.duration / av.time_base / 8 - container.size) < 0.02 * container.size


def _check_pcm(path: Path, container: Any) -> None:
    """Compare the size of the samples that the header states with the file's: FFmpeg tells only of what is there."""
    decoder, (at, size) = container.streams.audio[0].codec_context, _data_chunk(path, _CHUNKS[container.format.name])
    there, rate = container.size - at, ((decoder and decoder.bit_rate) or 0) / 8
    if not rate or size is None:
        return
    if there < size - _SHORTEST * rate:
        raise _cut_off(path, there / rate, size / rate)
    with open(path, "rb") as file:
        file.seek(at + size + size % 2)
        rest = file.read(8).ljust(8, b"\0")
    # what follows is another chunk, or the padding of a careless program; anything else is sound that is not counted
    is_chunk = at + size + 8 + struct.unpack("<I", rest[4:])[0] <= container.size or not rest.strip(b"\0")
    if container.format.name == "wav" and there > size + _SHORTEST * rate and not is_chunk:
        told = f"goes on for {(there - size) / rate:.2f} s after the {size / rate:.2f} s that its header says"
        raise UserError(f"{path}: {told}; write it again")


def _check_asf(path: Path, container: Any) -> None:
    """Compare the file's size with that in its header: where they differ, FFmpeg tells no duration. One that is being
    sent (its flag 1) states none."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or at + 92 > len(head):
        return
    (stated,), (flags,) = struct.unpack_from("<Q", head, at + 40), struct.unpack_from("<I", head, at + 88)
    if stated > container.size and not flags & 1:
        raise UserError(f"{path}: has {container.size} bytes, its header says {stated}; a whole file is needed")


def _data_chunk(path: Path, form: _Chunks) -> tuple[int, int | None]:
    """Tell where the samples begin, and their stated size in bytes; None where it is not stated, as from a pipe."""
    large = None
    with open(path, "rb") as file:
        file.seek(form.first)
        while len(head := file.read(form.head.size)) == form.head.size:
            name, size = form.head.unpack(head)
            size -= form.head.size if form.counts_head else 0
            place = file.tell()
            if name == b"ds64":  # RF64: sizes that 32 bits do not hold
                _, large = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
            if name.startswith(b"data"):
                stated = size if large is None else large
                return place, stated if 0 < stated < (form.piped if large is None else 1 << 62) else None
            if not 0 <= size < form.piped:
                break
            file.seek(place - (-size // form.align) * form.align)
    return 0, None


def _cut_off(path: Path, end: float, stated: float) -> UserError:
    return UserError(f"{path}: ends at {end:.2f} s, its header says {stated:.2f} s; a whole file is needed")
