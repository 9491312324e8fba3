"""The format of latent shards: what a record is and where it lies; indices and records read from the files.

A shard is a WebDataset tar. A record is KEY.json (the facts), KEY.latents.safetensors and, where it has them,
KEY.texts.safetensors and KEY.tracks.safetensors. Beside NNNNN.tar lies NNNNN.json: what an index says of the shard.
"""

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from shared.data.bad_clips import Problem
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.object_store import ObjectPath, Place, local_copy
from shared.utils.ranges import check_range
from shared.utils.text_files import MOST_OF_OURS

INDEX_NAME, EMPTY_NAME = "index.json", "empty_text.safetensors"
FORMAT = "latent-shards-2"
_ADVICE = "run scripts/encode.py again, which writes it anew"
#: In which a folder may differ from another with which it is read.
_OWN = ("sizes", "needs", "keyframe_latents", "part_latents", "tracks", "shard_clips", "latents_dtype")
#: What reading facts of another form raises.
BAD_FACTS = (KeyError, TypeError, AttributeError, ValueError, RecursionError)
#: What reading a file raises that is no tar, or a damaged one.
_BAD_TARS = (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError)
_LONGEST_FACTS = 2**24  # bytes of a record's JSON
LARGEST_INDEX = 2**32  # bytes: some 700 of a clip


class BrokenRecord(Exception):
    """A record that cannot be read; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Record:
    """One clip in a shard: `video` [C, F, h, w] and `audio` [A, C] are the sizes of its latents.

    `key`: the hash of what decides the record. `texts`: by stream, what it reads from which second on, as pairs of
    seconds and `text_key`; empty where texts are kept elsewhere. `tokens`: of every embedded text, by its key.
    `parts`: tracks whose latents it has beside the mix's, speech or effects. `members`: by ending ("json", "latents"
    ...) the offset in the shard, the bytes and their CRC-32. `fps`: the clip's own frame rate, where it kept that;
    others have that of the settings.
    """

    id: str
    key: str
    frames: int
    samples: int
    has_video: bool
    has_audio: bool
    video: tuple[int, int, int, int]
    audio: tuple[int, int]
    texts: dict[str, tuple[tuple[float, str], ...]]
    tokens: dict[str, int]
    subsets: tuple[str, ...]
    members: dict[str, tuple[int, int, int]]
    fps: int | None = None
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: dict[str, Any], members: dict[str, Any]) -> Self:
        """From a record's JSON. One of `BAD_FACTS` if that is something else."""
        video, audio = tuple(facts["video"]), tuple(facts["audio"])
        if len(video) != 4 or len(audio) != 2:
            raise ValueError(f"sizes {video} and {audio}")
        for name, numbers in (("video", video), ("audio", audio), ("frames", [facts["frames"], facts["samples"]])):
            _counts(name, numbers)
        for name, kind in (("id", str), ("key", str), ("has_video", bool), ("has_audio", bool)):
            if not isinstance(facts[name], kind):
                raise ValueError(f"{name} is {facts[name]!r:.80}")
        texts = {stream: tuple((at, key) for at, key in pairs) for stream, pairs in facts.get("texts", {}).items()}
        for at, key in (pair for pairs in texts.values() for pair in pairs):
            if not isinstance(at, int | float) or not isinstance(key, str):
                raise ValueError(f"a text is {[at, key]!r:.80}")
        rest: dict[str, Any] = {"tokens": facts.get("tokens", {}), "subsets": tuple(facts.get("subsets", ()))}
        rest["parts"] = _part_names(facts.get("parts", ()))
        rest |= {name: facts[name] for name in ("id", "key", "frames", "samples", "has_video", "has_audio")}
        _counts("tokens", rest["tokens"].values())
        if "fps" in facts:
            _counts("fps", [facts["fps"]])
            if facts["fps"] == 0:
                raise ValueError("fps has 0")
            rest["fps"] = facts["fps"]
        spans: Any = {name: tuple(span) for name, span in members.items()}
        for name, span in spans.items():
            if len(span) != 3:
                raise ValueError(f"{name} is at {span}")
            _counts(name, span)
        return cls(video=video, audio=audio, texts=texts, members=spans, **rest)

    def facts(self) -> dict[str, Any]:
        """Facts of the record's JSON, as far as the index has it."""
        kept = {name: value for name, value in asdict(self).items() if name != "members"}
        if self.fps is None:
            del kept["fps"]
        return kept


@dataclass(frozen=True)
class Shard:
    """One tar file as the index has it."""

    path: Place
    bytes: int
    sha256: str
    records: list[Record]

    def facts(self) -> dict[str, Any]:
        """Facts of the shard, for the index."""
        records = [record.facts() | {"members": record.members} for record in self.records]
        return {"name": self.path.name, "bytes": self.bytes, "sha256": self.sha256, "records": records}

    @classmethod
    def of(cls, facts: dict[str, Any], folder: Place) -> Self:
        """From what the index says of it; errors as those of `Record.of`."""
        records = [Record.of(record, record["members"]) for record in facts["records"]]
        _counts("bytes", [facts["bytes"]])
        for record in records:
            for name, (offset, size, _) in record.members.items():
                if offset + size > facts["bytes"]:
                    raise ValueError(f"{name} of {record.id!r} end at byte {offset + size} of {facts['bytes']}")
        return cls(folder / Path(facts["name"]).name, facts["bytes"], str(facts["sha256"]), records)

    @classmethod
    def scanned(cls, path: Path) -> Self:
        """From the file alone: its whole records, with the checksums of what is there."""
        return cls(path, path.stat().st_size, sha256_of(path), scan_shard(path))

    @property
    def is_whole(self) -> bool:
        """Whether the file is there, with the bytes that it had."""
        if isinstance(self.path, ObjectPath):
            return self.path.size() == self.bytes
        return self.path.is_file() and self.path.stat().st_size == self.bytes

    @property
    def is_intact(self) -> bool:
        """Whether the file is there as it was written, by its SHA-256; in an object store, by its size alone."""
        return self.is_whole and (isinstance(self.path, ObjectPath) or sha256_of(self.path) == self.sha256)


def scan_shard(shard: Place) -> list[Record]:
    """Find the records of a shard, those before a damage if there is one; none if it is no tar file at all, or holds a
    link, a device, a folder or a name with a path: encoding writes none, and nothing in such a file is trusted.
    UserError for an object store that cannot be reached."""
    members: dict[str, dict[str, tuple[int, int, int]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    gone, damaged = suppress(FileNotFoundError), suppress(*_BAD_TARS)
    with gone, local_copy(shard) as path, damaged, tarfile.open(path, "r:") as tar, open(path, "rb") as file:
        for member in tar:
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or "/" in member.name:
                return []
            key, _, ending = member.name.partition(".")
            if (checksum := _crc_of(file, member.offset_data, member.size)) is None:
                break  # cut off inside this member
            ending = ending.removesuffix(".safetensors")
            members.setdefault(key, {})[ending] = (member.offset_data, member.size, checksum)
            if ending == "json" and member.size <= _LONGEST_FACTS:
                file.seek(member.offset_data)
                facts[key] = json.loads(file.read(member.size))
    records = []
    for key, found in facts.items():
        with suppress(*BAD_FACTS):  # another program's
            records.append(Record.of(found, members[key]))
    return records


def _crc_of(file: BinaryIO, offset: int, size: int) -> int | None:
    """Checksum of a part of a file, read by the block; None if the file ends before it."""
    checksum = 0
    file.seek(offset)
    while size:
        if not (block := file.read(min(size, 2**20))):
            return None
        checksum, size = zlib.crc32(block, checksum), size - len(block)
    return checksum


def _part_names(names: Iterable[Any]) -> tuple[str, ...]:
    """Raise ValueError unless all are tracks whose latents a record may have."""
    for name in names:
        if name not in ("speech", "effects"):
            raise ValueError(f"latents of {name!r:.80}")
    return tuple(names)


def _counts(name: str, values: Iterable[Any]) -> None:
    """Raise ValueError unless all are whole numbers from 0 on."""
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} has {value!r:.80}")


def read_members(
    file: int | ObjectPath, record: Record, endings: Sequence[str], verify: bool = True
) -> dict[str, bytes]:
    """Members of a record, neighbours read at once. BrokenRecord if one is missing or, to `verify`, not as indexed.
    Of an object store the whole record is read at once, and kept on the disk if it is right; other errors as its
    `read`."""
    try:
        spans = [record.members[ending] for ending in endings]
    except KeyError as error:
        raise BrokenRecord(f"has no {error.args[0]}") from None
    needed = spans if isinstance(file, int) else list(record.members.values())
    first = min(offset for offset, _, _ in needed)
    count = max(offset + size for offset, size, _ in needed) - first

    def is_right(data: bytes) -> bool:
        return all(zlib.crc32(data[at - first : at - first + size]) == checksum for at, size, checksum in needed)

    data = os.pread(file, count, first) if isinstance(file, int) else file.read(first, count, is_right)
    contents = {}
    for ending, (offset, size, checksum) in zip(endings, spans, strict=True):
        content = contents[ending] = data[offset - first : offset - first + size]
        if len(content) < size or (verify and zlib.crc32(content) != checksum):
            raise BrokenRecord(f"its {ending} are not what the index says")
    return contents


def read_index(folder: Place) -> dict[str, Any]:
    """`index.json` of a folder. UserError if it is missing, damaged or of another kind."""
    path = folder / INDEX_NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file; a folder that scripts/encode.py has finished is needed")
    with local_copy(path) as file:
        index = read_json(file, f"{path}:", _ADVICE, LARGEST_INDEX, MOST_OF_OURS)
    parts = {"settings": dict, "fingerprints": dict, "text": dict, "shards": list, "failed": list}
    if wrong := [name for name, kind in parts.items() if not isinstance(index.get(name, kind()), kind)]:
        raise UserError(f"{path}: is damaged ({wrong[0]} is {index[wrong[0]]!r:.80}); {_ADVICE}")
    if index.get("format") != FORMAT or not {"settings", "fingerprints", "text", "shards", "failed"} <= index.keys():
        found = index.get("format")
        raise UserError(f"{path}: has the format {found!r}; {FORMAT!r}, of scripts/encode.py, is needed")
    words = index.get("words")  # older folders have none
    if not (words is None or (isinstance(words, list) and all(isinstance(word, str) for word in words))):
        raise UserError(f"{path}: is damaged (words is {words!r:.80}); {_ADVICE}")
    for name in ("dim", "max_length"):
        check_range(f"{path}: text.{name}", index["text"].get(name), 1, 2**20)
    return index


def shards_of(folder: Place, index: dict[str, Any]) -> tuple[list[Shard], list[Problem]]:
    """Shards of a folder, as its index has them; and those, with the reason, that it does not describe."""
    shards, problems = [], []
    for number, facts in enumerate(index["shards"]):
        try:
            shards.append(Shard.of(facts, folder))
        except BAD_FACTS as error:
            name = str(facts.get("name")) if isinstance(facts, dict) else f"shard {number}"
            records = facts.get("records") if isinstance(facts, dict) else None
            count = len(records) if isinstance(records, list) else "unknown"
            what = f"{folder / INDEX_NAME}: {name} is not described right ({type(error).__name__}: {error})"
            problems.append(Problem(name, f"{what}: all its clips ({count}) are left out"))
    return shards, problems


def common_settings(folders: Sequence[Place], indices: Sequence[dict[str, Any]]) -> tuple[Any, Any, Any]:
    """Find settings, fingerprints and text sizes of folders that are read together. UserError if these differ."""
    first = indices[0]
    for folder, index in zip(folders[1:], indices[1:], strict=True):
        for part in ("settings", "fingerprints", "text"):
            for name in sorted(index[part].keys() | first[part].keys()):
                here, there = index[part].get(name), first[part].get(name)
                if here != there and name not in _OWN:
                    raise UserError(f"{folder}: its {name} is {here}, that of {folders[0]} {there}; they must agree")
    return first["settings"], first["fingerprints"], first["text"]


def text_key(text: str) -> str:
    """Name under which the index knows a text."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def sha256_of(path: Place) -> str:
    """SHA-256 of a file's content. OSError as `open`."""
    with local_copy(path) as there, open(there, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
