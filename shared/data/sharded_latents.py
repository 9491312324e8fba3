"""Folders of scripts/encode.py as training data: what cannot be read is left out, and all else is read."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from safetensors import SafetensorError

from shared.data.manifest import subset
from shared.data.shard_index import BrokenRecord, Shard, common_settings, read_index, scan_shard, sha256_of, shards_of
from shared.data.shards import Latents, LatentShards, Problem, as_float, bucket, latents_of
from shared.nn.fingerprint import fingerprint
from shared.utils.errors import UserError

Verify = Literal["record", "shard", "none"]
_log = logging.getLogger(__name__)


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
        self,
        folders: str | Path | Sequence[str | Path],
        needs_video: bool = True,
        needs_audio: bool = True,
        tracks: bool = False,
        verify: Verify = "record",
    ) -> None:
        """Read the indices. UserError if one is missing or damaged, folders do not fit together, or nothing is left."""
        super().__init__({})
        self.folders = [Path(f) for f in ([folders] if isinstance(folders, str | Path) else folders)]
        self.verify, self.checks_records = verify, verify != "none"
        self._examined: set[Path] = set()
        self._instead: dict[str, str] = {}
        self._endings = ("json", "latents", "texts", *(("tracks",) if tracks else ()))
        needed = [n for n, wanted in (("video", needs_video), ("audio", needs_audio), ("tracks", tracks)) if wanted]
        indices = [read_index(folder) for folder in self.folders]
        self.settings, self.fingerprints, self.text = common_settings(self.folders, indices)
        for folder, index in zip(self.folders, indices, strict=True):
            for shard in shards_of(folder, index):
                self._add(shard, needed)
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
        """Raise UserError unless these components made the shards: video_codec, audio_codec, text_encoder; speech,
        effects, music."""
        for name, component in components.items():
            if self.fingerprints.get(name) != fingerprint(component):
                raise UserError(f"{self.where()}: encoded with another {name}; give that one, or encode again")

    def get(self, name: str) -> Latents:
        """Clip `name`, or in the place of a broken one the next of its shape. UserError if there is none."""
        clip = self.read(self._instead.get(name, name))
        while clip is None:
            self._instead[name] = self._next(name)
            clip = self.read(self._instead[name])
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
            tensors = as_float(contents["latents"])
            return latents_of(self.records[name], tensors, facts["caption"], facts["audio_caption"])
        except (BrokenRecord, SafetensorError, ValueError, KeyError) as error:
            self._drop(name, str(error))
            return None

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
        count = len(self.problems)
        return f"{len(self.records)} records" + (f"; {count} left out, first {self.problems[0]}" if count else "")

    def _add(self, shard: Shard, needed: Sequence[str]) -> None:
        for record in shard.records:
            if record.id in self.places:
                raise UserError(f"{shard.path}: clip id {record.id!r} occurs twice among the shards; ids must differ")
            self.records[record.id], self.places[record.id] = record, (shard, record)
        if not shard.is_whole:
            self._examine(shard)
        for record in shard.records:
            has = {"video": record.has_video, "audio": record.has_audio, "tracks": "tracks" in record.members}
            for what in needed:
                if not has[what]:
                    self._drop(record.id, f"has no {what}, needed here")

    def _contents(self, name: str, endings: Sequence[str]) -> dict[str, bytes]:
        """Members of a record; where they are not what the index says, the whole shard is looked through, once."""
        shard, _ = self.places[name]
        if self.verify == "shard" and shard.path not in self._examined:
            if shard.path.is_file() and sha256_of(shard.path) == shard.sha256:
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
        self._files.pop(shard.path, None)
        exists = shard.path.is_file()
        why = "not in the shard, which is cut off or another" if exists else "the shard is gone"
        scanned = {record.id: record for record in (scan_shard(shard.path) if exists else [])}
        for record in shard.records:
            actual = scanned.get(record.id)
            if actual is None or not record.members.keys() <= actual.members.keys():
                self._drop(record.id, why)
            elif any(actual.members[ending][1:] != span[1:] for ending, span in record.members.items()):
                self._drop(record.id, "damaged: its checksum is not what the index says")
            elif record.id in self.records:
                self.records[record.id] = replace(record, members=actual.members)
        count = sum(record.id in self.records for record in shard.records)
        _log.warning("%s is not as its index says: %d of %d records are read", shard.path, count, len(shard.records))

    def _drop(self, name: str, reason: str) -> None:
        if self.records.pop(name, None) is not None:
            self.problems.append(Problem(str(self.places[name][0].path), name, reason))
            _log.warning("%s; it is left out", self.problems[-1])

    def _next(self, name: str) -> str:
        """Clip that stands in for `name`: the next of its shape in the order of names, then from the first on."""
        wanted = bucket(self.places[name][1])
        names = sorted(other for other, record in self.records.items() if bucket(record) == wanted)
        if not names:
            raise UserError(f"{self.where()}: clip {name!r} and all others of its shape are broken; encode them again")
        return next((other for other in names if other > name), names[0])
