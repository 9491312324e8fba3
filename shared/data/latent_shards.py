"""Latents, text embeddings and track features in WebDataset shards, read at random through their index.

A folder that scripts/encode.py wrote: 00000.tar, 00001.tar ..., `index.json` and `empty_text.safetensors`. A record is
KEY.json, KEY.latents.safetensors, KEY.texts.safetensors and, where it has tracks, KEY.tracks.safetensors. The index
says where each of them lies, so that a clip is one read; docs/data.md has the format and the measurements.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from shared.data.manifest import subset
from shared.data.shard_index import INDEX_NAME, Record, Shard, common_settings, read_index, scan_shard, sha256_of
from shared.encoders.base import TextEncoder
from shared.encoders.cache import fingerprint as text_fingerprint
from shared.training.latents import Latents
from shared.training.shards import fingerprint
from shared.utils.errors import UserError

Verify = Literal["record", "shard", "none"]
Bucket = tuple[int, ...]

_OPEN_FILES = 256
_MEMBER = {"text": "texts", "audio_text": "texts", "untold_text": "texts"} | dict.fromkeys(
    ("speech", "effects", "music"), "tracks"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """Why record `id` of `shard` is not read."""

    shard: str
    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}: clip {self.id!r}: {self.reason}"


class BrokenRecord(Exception):
    """A record that cannot be read; the message is the reason."""


class ShardedLatents:
    """A store of clips like `shared.training.latents.LatentStore`, in one folder of shards or in several.

    What cannot be read is left out, logged and listed in `problems`; all else is read. At the start: shards that are
    gone or have another size than the index says, and records without a stream that is needed or, with `tracks`,
    without tracks. Later, when it is read: a record that is damaged, in whose place `get` gives the next of its shape.

    `verify`: "record" compares the CRC-32 of each record with the index whenever it is read; "shard" the SHA-256 of a
    whole shard, once, before its first record is read; "none" neither.
    """

    def __init__(
        self,
        folders: str | Path | Sequence[str | Path],
        needs_video: bool = True,
        needs_audio: bool = True,
        tracks: bool = False,
        verify: Verify = "record",
    ) -> None:
        """Raises UserError if an index is missing or damaged, folders do not fit together, or nothing is left."""
        self.folders = [Path(f) for f in ([folders] if isinstance(folders, str | Path) else folders)]
        self.verify = verify
        self.problems: list[Problem] = []
        self.records: dict[str, Record] = {}
        self._all: dict[str, tuple[Shard, Record]] = {}
        self._examined: set[Path] = set()
        self._instead: dict[str, str] = {}
        self._files: dict[Path, BinaryIO] = {}
        self._endings = ("json", "latents", "texts", *(("tracks",) if tracks else ()))
        needed = [n for n, wanted in (("video", needs_video), ("audio", needs_audio), ("tracks", tracks)) if wanted]
        indices = [read_index(folder) for folder in self.folders]
        self.settings, self.fingerprints, self.text = common_settings(self.folders, indices)
        for folder, index in zip(self.folders, indices, strict=True):
            for facts in index["shards"]:
                self._add(folder, facts, needed)
        if not self.records:
            raise UserError(f"{self._place()}: nothing can be read: {self.summary()}")

    def __len__(self) -> int:
        return len(self.records)

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(F, A) of every clip: video latent frames and audio tokens."""
        return {name: (record.video[1], record.audio[0]) for name, record in self.records.items()}

    def token_shapes(self, patch: int = 1) -> dict[str, Bucket]:
        """(video tokens, A, F, h, w) of every clip: buckets by length and picture size, their tokens counted."""
        return {name: _bucket(record, patch) for name, record in self.records.items()}

    def only(self, names: Collection[str]) -> Self:
        """The same files, seen as a store of these clips alone. Raises UserError if one is not in the index."""
        if absent := [name for name in names if name not in self._all]:
            raise UserError(
                f"{len(absent)} of {len(names)} clips, {absent[0]!r} first, are not in {self._place()}; "
                "encode them with scripts/encode.py"
            )
        part = copy.copy(self)
        part.records = {name: self.records[name] for name in names if name in self.records}
        part._examined, part._instead = set(), {}
        return part

    def subset(self, include: Sequence[str] = (), exclude: Sequence[str] = ("conflict",)) -> Self:
        """The clips that `shared.data.manifest.subset` chooses; its errors too."""
        chosen: list[Any] = subset(list(self.records.values()), include, exclude)  # type: ignore[arg-type]
        return self.only([record.id for record in chosen])

    def check(self, fps: float, sample_rate: int, **components: object) -> None:
        """Raise UserError unless the shards have these rates and were made by these components.

        `components`: video_codec, audio_codec, text_encoder; speech, effects, music. A str is a fingerprint itself.
        """
        for name, wanted in (("fps", fps), ("sample_rate", sample_rate)):
            if self.settings[name] != wanted:
                raise UserError(f"{self._place()}: encoded at {name} {self.settings[name]}, not {wanted}; encode again")
        for name, component in components.items():
            made = text_fingerprint(component) if isinstance(component, TextEncoder) else fingerprint(component)
            if self.fingerprints.get(name) != (component if isinstance(component, str) else made):
                raise UserError(f"{self._place()}: encoded with another {name}; give that one, or encode again")

    def get(self, name: str) -> Latents:
        """Clip `name`, or in the place of a broken one the next of its shape. UserError if there is none."""
        found = self.read(self._instead.get(name, name))
        while found is None:
            self._instead[name] = self._next(name)
            found = self.read(self._instead[name])
        return found

    def read(self, name: str) -> Latents | None:
        """Clip `name`; None if it is broken, which is then among `problems`."""
        if name not in self.records:
            return None
        try:
            parts = self._whole(name, self._endings)
            about, tensors = json.loads(parts["json"]), safetensors.torch.load(parts["latents"])
            return _latents(self.records[name], about, tensors)
        except (BrokenRecord, SafetensorError, ValueError, KeyError) as error:
            self._drop(name, str(error))
            return None

    def tensor(self, name: str, part: str) -> Tensor:
        """Tensor `part` of clip `name`, float32: "video", "audio", "stills", a text or a track. UserError if broken."""
        member = _MEMBER.get(part, "latents")
        try:
            return safetensors.torch.load(self._whole(name, (member,))[member])[part].float()
        except (BrokenRecord, SafetensorError, KeyError) as error:
            raise UserError(f"{self._place()}: clip {name!r} has no readable {part} ({error}); encode again") from None

    def note(self, problems: Sequence[Problem]) -> None:
        """Take over what another process found."""
        for problem in problems:
            if self.records.pop(problem.id, None) is not None:
                self.problems.append(problem)

    def summary(self) -> str:
        """One line: how many records are read, how many are left out, and why the first of them."""
        count = len(self.problems)
        return f"{len(self.records)} records" + (f"; {count} left out, first {self.problems[0]}" if count else "")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def _add(self, folder: Path, facts: dict[str, Any], needed: Sequence[str]) -> None:
        try:
            shard = Shard.of(facts, folder)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            wanted = "run scripts/encode.py again, which writes it anew"
            raise UserError(f"{folder / INDEX_NAME}: is damaged ({error!r}); {wanted}") from None
        for record in shard.records:
            if record.id in self._all:
                raise UserError(f"{shard.path}: clip id {record.id!r} occurs twice among the shards; ids must differ")
            self.records[record.id], self._all[record.id] = record, (shard, record)
        if not shard.path.is_file() or shard.path.stat().st_size != shard.bytes:
            self._examine(shard)
        for record in shard.records:
            for what in needed:
                if record.without()[what]:
                    self._drop(record.id, f"has no {what}, needed here")

    def _whole(self, name: str, endings: Sequence[str]) -> dict[str, bytes]:
        """Members of a record; where they are not what the index says, the whole shard is looked through, once."""
        shard, _ = self._all[name]
        if self.verify == "shard" and shard.path not in self._examined:
            if shard.path.is_file() and sha256_of(shard.path) == shard.sha256:
                self._examined.add(shard.path)
            else:
                self._examine(shard)
        if shard.path not in self._examined:
            try:
                return self._members(shard, self.records[name], endings)
            except BrokenRecord:
                self._examine(shard)
        if name not in self.records:
            raise BrokenRecord("was left out")
        return self._members(shard, self.records[name], endings)

    def _members(self, shard: Shard, record: Record, endings: Sequence[str]) -> dict[str, bytes]:
        """One read, since members are neighbours; each is compared with its checksum."""
        try:
            spans = [record.members[ending] for ending in endings]
            first = spans[0][0]
            data = os.pread(self._file(shard.path).fileno(), spans[-1][0] + spans[-1][1] - first, first)
        except KeyError as error:
            raise BrokenRecord(f"has no {error.args[0]}") from None
        except OSError as error:
            raise BrokenRecord(f"cannot be read ({error.strerror})") from None
        parts = {}
        for ending, (offset, size, checksum) in zip(endings, spans, strict=True):
            part = parts[ending] = data[offset - first : offset - first + size]
            if len(part) < size or (self.verify != "none" and zlib.crc32(part) != checksum):
                raise BrokenRecord(f"its {ending} are not what the index says")
        return parts

    def _examine(self, shard: Shard) -> None:
        """Look through a shard that is not as the index says: records are where they are, and what is broken goes."""
        self._examined.add(shard.path)
        self._files.pop(shard.path, None)
        there = shard.path.is_file()
        found = {record.id: record for record in (scan_shard(shard.path) if there else [])}
        for record in shard.records:
            here = found.get(record.id)
            if here is None or not record.members.keys() <= here.members.keys():
                self._drop(record.id, "not in the shard, which is cut off or another" if there else "the shard is gone")
            elif any(here.members[ending][1:] != span[1:] for ending, span in record.members.items()):
                self._drop(record.id, "damaged: its checksum is not what the index says")
            elif record.id in self.records:
                self.records[record.id] = replace(record, members=here.members)
        kept = sum(record.id in self.records for record in shard.records)
        _log.warning("%s is not as its index says: %d of %d records are read", shard.path, kept, len(shard.records))

    def _drop(self, name: str, reason: str) -> None:
        if self.records.pop(name, None) is not None:
            self.problems.append(Problem(str(self._all[name][0].path), name, reason))
            _log.warning("%s; it is left out", self.problems[-1])

    def _next(self, name: str) -> str:
        """The clip that stands in for `name`: the next of its shape in the order of names, then from the first on."""
        wanted = _bucket(self._all[name][1])
        names = sorted(other for other, record in self.records.items() if _bucket(record) == wanted)
        if not names:
            raise UserError(f"{self._place()}: clip {name!r} and all others of its shape are broken; encode them again")
        return next((other for other in names if other > name), names[0])

    def _file(self, path: Path) -> BinaryIO:
        file = self._files.get(path)
        if file is None:
            while len(self._files) >= _OPEN_FILES:  # who still reads from it keeps it open
                self._files.pop(next(iter(self._files)))
            file = self._files[path] = open(path, "rb", buffering=0)  # noqa: SIM115  open until it is forgotten
        return file

    def _place(self) -> str:
        return ", ".join(map(str, self.folders))


def _bucket(record: Record, patch: int = 1) -> Bucket:
    _, frames, height, width = record.video
    return frames * (height // patch) * (width // patch), record.audio[0], frames, height, width


def _latents(record: Record, about: dict[str, Any], tensors: dict[str, Tensor]) -> Latents:
    """BrokenRecord if it is another clip's, or not what the index says."""
    if about["id"] != record.id:
        raise BrokenRecord(f"clip {about['id']!r} is in its place")
    for part in ("video", "audio"):
        if part not in tensors:
            raise BrokenRecord(f"has no {part} latents")
        if tuple(tensors[part].shape) != getattr(record, part):
            raise BrokenRecord(f"{part} latents of shape {list(tensors[part].shape)}, not {getattr(record, part)}")
    stills = tensors.get("stills")
    return Latents(
        id=record.id,
        video=tensors["video"].float(),
        audio=tensors["audio"].float(),
        frames=record.frames,
        samples=record.samples,
        has_video=record.has_video,
        has_audio=record.has_audio,
        caption=about["caption"],
        audio_caption=about["audio_caption"],
        stills=None if stills is None else stills.float(),
    )
