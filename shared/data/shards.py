"""Latents, text embeddings and track features in WebDataset shards, read at random: the one store of training data.

docs/data.md has the format and the measurements.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from shared.data.shard_index import BrokenRecord, Record, Shard, read_members
from shared.utils.errors import UserError

Bucket = tuple[int, ...]
#: By clip id, the shard and its record there.
Places = Mapping[str, tuple[Shard, Record]]
_OPEN_FILES = 256


@dataclass(frozen=True)
class Latents:
    """One clip: float32 `video` [C, F, h, w] and `audio` [A, C], of so many `frames` and `samples`.

    A stream that the clip lacks is the encoding of zeros, with its `has_` flag False. `keyframe_latents` [C, F, h, w]:
    latent i as a keyframe, the encoding of one of its frames repeated; None where the record has none.
    """

    id: str
    video: Tensor
    audio: Tensor
    frames: int
    samples: int
    has_video: bool
    has_audio: bool
    caption: str
    audio_caption: str
    keyframe_latents: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """Why record `id` of `shard` is not read."""

    shard: str
    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}: clip {self.id!r}: {self.reason}"


class LatentShards:
    """Records by clip id, in the order of `places`; each is compared with its checksum when it is read.

    `captions`: of each clip, by stream; records of a run's own clips hold none, so that they may be edited.
    """

    advice = "run the same command again, which encodes what is damaged anew"

    def __init__(self, places: Places, captions: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.places, self.captions = dict(places), captions or {}
        self.records = {name: record for name, (_, record) in self.places.items()}
        self.problems: list[Problem] = []
        self.checks_records = True
        self._files: dict[Path, BinaryIO] = {}

    def __len__(self) -> int:
        return len(self.records)

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(F, A) of every clip: video latent frames and audio tokens."""
        return {name: (record.video[1], record.audio[0]) for name, record in self.records.items()}

    def token_shapes(self, patch: int = 1) -> dict[str, Bucket]:
        """(video tokens, A, F, h, w) of every clip: buckets by length and picture size, their tokens counted."""
        return {name: bucket(record, patch) for name, record in self.records.items()}

    def only(self, names: Collection[str]) -> Self:
        """Store of these clips alone, in the same files. Raises UserError if one is not in the index."""
        if absent := [name for name in names if name not in self.places]:
            missing = f"{len(absent)} of {len(names)} clips, {absent[0]!r} first"
            raise UserError(f"{missing}, are not in {self.where()}; encode them with scripts/encode.py")
        part = copy.copy(self)
        part.records = {name: self.records[name] for name in names if name in self.records}
        return part

    def get(self, name: str) -> Latents:
        """Latents of clip `name`. UserError if they are damaged."""
        try:
            return latents_of(self.records[name], self.member(name, "latents"), *self.captions.get(name, ("", "")))
        except BrokenRecord as error:
            raise self._damaged(name, "latents", error) from None

    def member(self, name: str, ending: str) -> dict[str, Tensor]:
        """Float32 tensors of one member of clip `name`: "latents", "texts" or "tracks". UserError if broken."""
        try:
            return as_float(self._contents(name, (ending,))[ending])
        except (BrokenRecord, SafetensorError) as error:
            raise self._damaged(name, ending, error) from None

    def damaged(self, names: Sequence[str]) -> list[str]:
        """Those of `names` whose record is not, in all its members, what the index says."""
        damaged = []
        for name in names:
            try:
                self._contents(name, tuple(self.records[name].members))
            except BrokenRecord:
                damaged.append(name)
        return damaged

    def hold(self) -> None:
        """Open the files, as many as may be, so that they can be read even if another run takes them away."""
        for path in list(dict.fromkeys(shard.path for shard, _ in self.places.values()))[:_OPEN_FILES]:
            self._file(path)

    def is_readable(self, name: str) -> bool:
        """Whether a record can be read; one of a run's own can, or was encoded again when the run began."""
        return name in self.records

    def where(self) -> str:
        """Name the folders, for messages."""
        return ", ".join(dict.fromkeys(str(shard.path.parent) for shard, _ in self.places.values()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def _contents(self, name: str, endings: Sequence[str]) -> dict[str, bytes]:
        """Members of a record. BrokenRecord if they are not what the index says."""
        path = self.places[name][0].path
        try:
            file = self._file(path)
        except OSError as error:
            raise BrokenRecord(f"cannot be read ({error.strerror})") from None
        return read_members(file.fileno(), self.records[name], endings, self.checks_records)

    def _file(self, path: Path) -> BinaryIO:
        if (file := self._files.get(path)) is None:
            while len(self._files) >= _OPEN_FILES:  # who still reads from it keeps it open
                self._files.pop(next(iter(self._files)))
            file = self._files[path] = open(path, "rb", buffering=0)  # noqa: SIM115  open until it is forgotten
        return file

    def _damaged(self, name: str, what: str, error: Exception) -> UserError:
        return UserError(f"{self.where()}: clip {name!r} has no readable {what} ({error}); {self.advice}")


def bucket(record: Record, patch: int = 1) -> Bucket:
    """Length and picture size of a clip, with its video tokens: (tokens, A, F, h, w)."""
    _, frames, height, width = record.video
    return frames * (height // patch) * (width // patch), record.audio[0], frames, height, width


def as_float(content: bytes) -> dict[str, Tensor]:
    """Float32 tensors of a member. SafetensorError if it holds none."""
    return {name: tensor.float() for name, tensor in safetensors.torch.load(content).items()}


def latents_of(record: Record, tensors: Mapping[str, Tensor], caption: str, audio_caption: str) -> Latents:
    """Clip of a record with these latents. BrokenRecord if they are not what the index says."""
    for part in ("video", "audio"):
        if part not in tensors:
            raise BrokenRecord(f"has no {part} latents")
        if tuple(tensors[part].shape) != getattr(record, part):
            raise BrokenRecord(f"{part} latents of shape {list(tensors[part].shape)}, not {getattr(record, part)}")
    about: dict[str, Any] = {"caption": caption, "audio_caption": audio_caption, **tensors}
    about |= {name: getattr(record, name) for name in ("id", "frames", "samples", "has_video", "has_audio")}
    return Latents(**about)
