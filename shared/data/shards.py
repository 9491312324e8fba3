"""Latents, text embeddings and track features in WebDataset shards, read at random (docs/data.md)."""

import copy
import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

from safetensors import SafetensorError
from torch import Tensor

from shared.data import shard_index
from shared.data.clip_texts import ClipTexts, texts_of_record
from shared.data.latents import Latents, as_float, latents_of
from shared.data.manifest import Problem, subset
from shared.data.shard_index import BAD_FACTS, BrokenRecord, Record, Shard
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint
from shared.utils.object_store import Ahead, ObjectPath, Place, place

Bucket = tuple[int, ...]
Verify = Literal["record", "shard", "none"]
_OPEN_FILES = 256
_log = logging.getLogger(__name__)


class LatentShards:
    """Records by clip id, in the order of `places`; each is compared with its checksum when it is read, but in a file
    that is `hold`'s still as it was.

    `captions`: texts of each clip; records of a run's own clips hold none, so that they may be edited.
    """

    advice = "run the same command again, which encodes what is damaged anew"

    def __init__(
        self, places: Mapping[str, tuple[Shard, Record]], captions: Mapping[str, ClipTexts] | None = None
    ) -> None:
        self.places, self.captions = dict(places), captions or {}
        self.records = {name: record for name, (_, record) in self.places.items()}
        self.problems: list[Problem] = []
        self.checks_records = True
        self._files: dict[Path, BinaryIO] = {}
        self._ahead = Ahead()
        self._held: dict[Path, tuple[int, int]] = {}  # size and time of files whose records were compared

    def __len__(self) -> int:
        return len(self.records)

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(F, A) of every clip: video latent frames and audio tokens."""
        return {name: (record.video[1], record.audio[0]) for name, record in self.records.items()}

    def token_shapes(self, patch: int = 1) -> dict[str, Bucket]:
        """(video tokens, A, F, h, w) of every clip: buckets by length and picture size, their tokens counted; and by
        frame rate where clips kept their own."""
        own = {name: () if record.fps is None else (record.fps,) for name, record in self.records.items()}
        return {name: (*bucket(record, patch), *own[name]) for name, record in self.records.items()}

    def only(self, names: Collection[str]) -> Self:
        """Store of these clips alone, in the same files. Raises UserError if one is not in the index."""
        if absent := [name for name in names if name not in self.places]:
            missing = f"{len(absent)} of {len(names)} clips, {absent[0]!r} first, are not in {self.where()}"
            raise UserError(f"{missing}; encode them with scripts/encode.py")
        part = copy.copy(self)
        part.records = {name: self.records[name] for name in names if name in self.records}
        return part

    def get(self, name: str) -> Latents:
        """Latents of clip `name`. UserError if they are damaged."""
        try:
            return latents_of(self.records[name], self.member(name, "latents"), self.captions.get(name, ClipTexts()))
        except BrokenRecord as error:
            raise self._damaged(name, "latents", error) from None

    def member(self, name: str, ending: str) -> dict[str, Tensor]:
        """Float32 tensors of one member of clip `name`: "latents", "texts" or "tracks". UserError if broken."""
        try:
            return as_float(self._contents(name, (ending,))[ending])
        except (BrokenRecord, SafetensorError) as error:
            raise self._damaged(name, ending, error) from None

    def is_damaged(self, name: str) -> bool:
        """Whether a record is not, in all its members, what the index says."""
        try:
            self._contents(name, tuple(self.records[name].members))
        except BrokenRecord:
            return True
        return False

    def read_ahead(self, names: Iterable[str]) -> None:
        """Begin to fetch what `get` of these clips will read; here all is at hand, and `names` is not looked at."""

    def hold(self) -> None:
        """Open the files, as many as may be, so that they can be read even if another run takes them away.

        Their records were all compared or made just now: that is not done again while a file stays as it is.
        """
        paths = dict.fromkeys(shard.path for shard, _ in self.places.values() if isinstance(shard.path, Path))
        self._held = {path: _size_and_time(os.stat(path)) for path in paths}
        for path in list(paths)[:_OPEN_FILES]:
            self._file(path)

    def is_readable(self, name: str) -> bool:
        """Whether a record can be read, as all of a run's own can: damaged ones were encoded again when it began."""
        return name in self.records

    def where(self) -> str:
        """Name the folders, for messages."""
        return ", ".join(dict.fromkeys(str(shard.path.parent) for shard, _ in self.places.values()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_ahead": Ahead()}

    def _contents(self, name: str, endings: Sequence[str]) -> dict[str, bytes]:
        try:
            path = self.places[name][0].path
            if isinstance(path, ObjectPath):
                self._ahead.wait(name)
                return shard_index.read_members(path, self.records[name], endings)
            file = self._file(path).fileno()
            verify = self.checks_records and self._held.get(path) != _size_and_time(os.fstat(file))
            return shard_index.read_members(file, self.records[name], endings, verify)
        except OSError as error:
            raise BrokenRecord(f"cannot be read ({error.strerror or error})") from None

    def _file(self, path: Path) -> BinaryIO:
        if (file := self._files.get(path)) is None:
            while len(self._files) >= _OPEN_FILES:  # who still reads from it keeps it open
                self._files.pop(next(iter(self._files)))
            file = self._files[path] = open(path, "rb", buffering=0)  # noqa: SIM115  open until it is forgotten
        return file

    def _damaged(self, name: str, what: str, error: Exception) -> UserError:
        return UserError(f"{self.where()}: clip {name!r} has no readable {what} ({error}); {self.advice}")


class ShardedLatents(LatentShards):
    """Folders that scripts/encode.py made, one or several.

    What cannot be read is left out, logged and listed in `problems`; all else is read. At the start: shards that are
    gone or have another size than the index says, and records without a stream that is needed or, with `tracks`,
    without tracks. Later, when it is read: a record that is damaged, in whose place `get` gives the next of its shape.

    `verify`: "record" compares the CRC-32 of each record with the index whenever it is read; "shard" the SHA-256 of a
    whole shard, once, before its first record is read; "none" neither.
    """

    advice = "encode again"

    def __init__(
        self, folders: str | Place | Sequence[str | Place], needs_video: bool = True, needs_audio: bool = True,
        tracks: bool = False, verify: Verify = "record", parts: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Read the indices; with `parts`, records that have one of them. UserError if an index is missing or damaged,
        folders do not fit together, or nothing is left."""
        super().__init__({})
        self.folders = [place(f) for f in ([folders] if isinstance(folders, str | Place) else folders)]
        self.verify, self.checks_records = verify, verify != "none"
        self._examined: set[Place] = set()
        self._instead: dict[str, str] = {}
        self._endings = ("json", "latents", "texts", *(("tracks",) if tracks else ()))
        wants = {"video": needs_video, "audio": needs_audio, "tracks": tracks, "part that sounds": parts}
        needed = [name for name, wanted in wants.items() if wanted]
        indices = [shard_index.read_index(folder) for folder in self.folders]
        self.settings, self.fingerprints, self.text = shard_index.common_settings(self.folders, indices)
        #: All words of the captions; None where a folder does not tell them.
        self.words: list[str] | None = None
        if all(index.get("words") is not None for index in indices):
            self.words = sorted({word for index in indices for word in index["words"]})
        for folder, index in zip(self.folders, indices, strict=True):
            shards, problems = shard_index.shards_of(folder, index)
            for problem in problems:
                self._note(problem)
            for shard in shards:
                self._add(shard, needed, parts)
        if not self.records:
            raise UserError(f"{', '.join(map(str, self.folders))}: nothing can be read: {self.summary()}")

    def only(self, names: Collection[str]) -> Self:
        """See `LatentShards.only`; what is found damaged in the part is the part's alone."""
        part = super().only(names)
        part._examined, part._instead = set(), {}
        return part

    def subset(self, include: Sequence[str] = (), exclude: Sequence[str] = ("conflict",)) -> Self:
        """Choose clips as `shared.data.manifest.subset` does; its errors too."""
        chosen: list[Any] = subset(list(self.records.values()), include, exclude)  # type: ignore[arg-type]
        return self.only([record.id for record in chosen])

    def check(self, **components: object) -> None:
        """Raise UserError unless these made the shards: both codecs, text_encoder; speech, effects, music."""
        for name, component in components.items():
            if self.fingerprints.get(name) != fingerprint(component):
                raise UserError(f"{self.where()}: encoded with another {name}; give that one, or encode again")

    def get(self, name: str) -> Latents:
        """Clip `name`, or in the place of a broken one the next of its shape. UserError if there is none."""
        while (clip := self.read(self._instead.get(name, name))) is None:
            self._instead[name] = self._next(name)
        return clip

    def read(self, name: str) -> Latents | None:
        """Clip `name`; None if it is broken, which is then among `problems`."""
        if name not in self.records:
            return None
        try:
            contents = self._contents(name, self._endings)
            facts = json.loads(contents["json"])
            if facts["id"] != name:
                raise BrokenRecord(f"clip {facts['id']!r} is in its place")
            return latents_of(self.records[name], as_float(contents["latents"]), texts_of_record(facts))
        except UserError:  # the store cannot be reached: nothing is known of the record
            raise
        except (BrokenRecord, SafetensorError, *BAD_FACTS) as error:
            self._drop(name, str(error))
            return None

    def read_ahead(self, names: Iterable[str]) -> None:
        """See `LatentShards.read_ahead`: what lies in an object store is brought to the disk, several clips at once."""
        if not any(isinstance(folder, ObjectPath) for folder in self.folders):
            return
        names = list(names)
        self._ahead.keep(names)
        for name in names:
            path = self.places[name][0].path
            if isinstance(path, ObjectPath) and name in self.records and path not in self._examined:
                self._ahead.fetch(name, partial(shard_index.read_members, path, self.records[name], self._endings))

    def is_readable(self, name: str) -> bool:
        """Whether the record can be read; a broken one is then among `problems`."""
        return self.read(name) is not None

    def note(self, problems: Sequence[Problem]) -> None:
        """Take over what another process found."""
        for problem in problems:
            if self.records.pop(problem.id, None) is not None:
                self.problems.append(problem)

    def summary(self) -> str:
        """One line: how many records are read, how many are left out, and why the first of them."""
        left_out = f"; {len(self.problems)} left out, first {self.problems[0]}" if self.problems else ""
        return f"{len(self.records)} records{left_out}"

    def _add(self, shard: Shard, needed: Sequence[str], parts: Collection[str]) -> None:
        for record in shard.records:
            if record.id in self.places:
                raise UserError(f"{shard.path}: clip id {record.id!r} occurs twice among the shards; ids must differ")
            self.records[record.id], self.places[record.id] = record, (shard, record)
        if not isinstance(shard.path, ObjectPath) and not shard.is_whole:
            self._examine(shard)
        for record in shard.records:
            has = {"video": record.has_video, "audio": record.has_audio, "tracks": "tracks" in record.members}
            has["part that sounds"] = not set(parts).isdisjoint(record.parts)
            for what in needed:
                if not has[what]:
                    self._drop(record.id, f"has no {what}, needed here")

    def _contents(self, name: str, endings: Sequence[str]) -> dict[str, bytes]:
        """Members of a record; where they are not what the index says, the whole shard is looked through, once."""
        shard, _ = self.places[name]
        if self.verify == "shard" and shard.path not in self._examined:
            if shard.path.is_file() and shard_index.sha256_of(shard.path) == shard.sha256:
                self._examined.add(shard.path)
            else:
                self._examine(shard)
        if shard.path not in self._examined:
            try:
                return super()._contents(name, endings)
            except BrokenRecord:
                self._examine(shard)
        if name not in self.records:
            raise BrokenRecord("was left out")
        return super()._contents(name, endings)

    def _examine(self, shard: Shard) -> None:
        """Look through a shard that is not as the index says: records are where they are, and what is broken goes."""
        self._examined.add(shard.path)
        if isinstance(shard.path, Path):
            self._files.pop(shard.path, None)
        why = "not in the shard, which is cut off or another" if shard.path.is_file() else "the shard is gone"
        before = len(self.problems)
        scanned = {record.id: record for record in shard_index.scan_shard(shard.path)}
        for record in shard.records:
            actual = scanned.get(record.id)
            if actual is None or not record.members.keys() <= actual.members.keys():
                self._drop(record.id, why, tell=False)
            elif any(actual.members[ending][1:] != span[1:] for ending, span in record.members.items()):
                self._drop(record.id, "damaged: its checksum is not what the index says", tell=False)
            elif record.id in self.records:
                self.records[record.id] = replace(record, members=actual.members)
        count = sum(record.id in self.records for record in shard.records)
        what = f"{shard.path} is not as its index says: {count} of {len(shard.records)} records are read"
        more = f"; of the others, the first: {self.problems[before].message}" if len(self.problems) > before else ""
        _log.warning("%s%s", what, more)

    def _drop(self, name: str, reason: str, tell: bool = True) -> None:
        if self.records.pop(name, None) is not None:
            self.problems.append(Problem(name, f"{self.places[name][0].path}: clip {name!r}: {reason}"))
            if tell:
                _log.warning("%s; it is left out", self.problems[-1])

    def _note(self, problem: Problem) -> None:
        self.problems.append(problem)
        _log.warning("%s", problem.message)

    def _next(self, name: str) -> str:
        """Clip that stands in for `name`: the next of its shape in the order of names, then from the first on."""
        wanted = self.places[name][1]
        alike = (bucket(wanted), wanted.fps)
        names = sorted(other for other, record in self.records.items() if (bucket(record), record.fps) == alike)
        if not names:
            raise UserError(f"{self.where()}: clip {name!r} and all others of its shape are broken; encode them again")
        return next((other for other in names if other > name), names[0])


def _size_and_time(file: os.stat_result) -> tuple[int, int]:
    return file.st_size, file.st_mtime_ns


def bucket(record: Record, patch: int = 1) -> Bucket:
    """Length and picture size of a clip, with its video tokens: (tokens, A, F, h, w)."""
    _, frames, height, width = record.video
    return frames * (height // patch) * (width // patch), record.audio[0], frames, height, width
