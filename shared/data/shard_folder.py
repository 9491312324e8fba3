"""The folder that scripts/encode.py fills, by any number of processes that share nothing but it.

A shard holds the clips k * n to (k + 1) * n - 1 of the manifest, and process p of P makes the shards p, p + P, ... For
each it writes 0000k.tar and then 0000k.json: what the index will say of it, and which clips failed. Whoever finds all
of them there writes `report.jsonl` and `index.json`. A shard whose clips, settings and components are as before is
kept, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from shared.data.manifest import Clip, claim_folder
from shared.data.shard_index import EMPTY_NAME, FORMAT, INDEX_NAME, Record, Shard
from shared.data.shard_writer import NewRecord, read_shard, write_file, write_shard
from shared.utils.errors import UserError

REPORT_NAME, SETTINGS_NAME = "report.jsonl", "encode.json"
#: What a shard's .json says besides the shard itself.
_FACTS = {"key", "fingerprints", "text", "sample_rate", "failed"}


class ShardFolder:
    """The shards of one manifest in a folder: which are done, which are to be made, and the index of all."""

    def __init__(self, folder: Path, clips: Sequence[Clip], settings: dict[str, Any]) -> None:
        size = settings["shard_clips"]
        self.folder, self.settings = folder, settings
        self.chunks = [clips[k : k + size] for k in range(0, len(clips), size)]

    def prepare(self) -> None:
        """Make the folder. UserError if it holds anything else, or shards of other settings."""
        claim_folder(self.folder, SETTINGS_NAME, self.settings, "shards", index=None)

    def clear(self) -> None:
        """Take away the index and what belongs to no shard of this manifest; one process does it, before the others."""
        (self.folder / INDEX_NAME).unlink(missing_ok=True)
        for path in [*self.folder.glob("[0-9]*.tar"), *self.folder.glob("[0-9]*.json")]:
            if path.stem.isdecimal() and int(path.stem) >= len(self.chunks):
                path.unlink()

    def encode(
        self,
        process: int,
        processes: int,
        made_by: dict[str, Any],
        empty_text: Tensor,
        key: Callable[[Clip], str],
        make: Callable[[Sequence[Clip], list[dict[str, Any]]], Iterable[NewRecord]],
        tick: Callable[[int], object],
    ) -> None:
        """Make what is missing of this process's shards; `tick(n)` is called when n more clips are kept.

        `made_by`: fingerprints of the components, and what the index says of texts and sound. `key(clip)`: what else
        decides its record. `make(clips, failed)`: their records; those that fail are added to `failed`.
        Raises UserError if the folder's shards were made with other components, or cannot be written.
        """
        self._check_components(made_by["fingerprints"])
        write_file(self.folder / EMPTY_NAME, safetensors.torch.save({"text": empty_text}))
        mine = {n: _joint_key(map(key, self.chunks[n])) for n in range(process, len(self.chunks), processes)}
        todo = [number for number, joint in mine.items() if not self.is_done(number, joint)]
        for number in todo:
            self.tar(number).with_suffix(".json").unlink(missing_ok=True)  # of other clips: nobody may take it for ours
        tick(sum(len(self.chunks[number]) for number in mine if number not in todo))
        for number in todo:
            failed: list[dict[str, Any]] = []
            write_shard(self.tar(number), make(self.chunks[number], failed), key=mine[number], failed=failed, **made_by)

    def tar(self, number: int) -> Path:
        return self.folder / f"{number:05d}.tar"

    def is_done(self, number: int, key: str | None) -> bool:
        """Whether a shard is there, whole, of these clips (any, without `key`), with no failure worth another try."""
        done = self._read(number)
        if done is None or not done[0].is_whole:
            return False
        about = done[1]
        return key is None or (about["key"] == key and not any(failure["again"] for failure in about["failed"]))

    def finish(self) -> list[dict[str, Any]] | None:
        """Write report and index once all shards are there; the clips that failed, or None if others are at work.

        Without any record there is no index.
        """
        if not all(self.is_done(number, None) for number in range(len(self.chunks))):
            return None
        shards = [done for number in range(len(self.chunks)) if (done := self._read(number))]
        failed = [failure for _, about in shards for failure in about["failed"]]
        lines = {f["id"]: {"id": f["id"], "status": "failed", "reason": f["reason"]} for f in failed}
        for shard, _ in shards:
            lines |= {record.id: _line(record, shard.path.name) for record in shard.records}
        report = [json.dumps(lines[clip.id], ensure_ascii=False) + "\n" for clips in self.chunks for clip in clips]
        write_file(self.folder / REPORT_NAME, "".join(report).encode())
        first = shards[0][1]
        index = {
            "format": FORMAT,
            "settings": self.settings | {"sample_rate": first["sample_rate"]},
            "fingerprints": first["fingerprints"],
            "text": first["text"],
            "records": sum(len(shard.records) for shard, _ in shards),
            "failed": [{"id": failure["id"], "reason": failure["reason"]} for failure in failed],
            "shards": [shard.facts() for shard, _ in shards if shard.records],
        }
        if index["shards"]:
            write_file(self.folder / INDEX_NAME, json.dumps(index).encode())
        return failed

    def _read(self, number: int) -> tuple[Shard, dict[str, Any]] | None:
        shard = read_shard(self.tar(number))
        return shard if shard is not None and shard[1].keys() >= _FACTS else None

    def _check_components(self, made_by: dict[str, str]) -> None:
        for number in range(len(self.chunks)):
            done = self._read(number)
            theirs = made_by if done is None else done[1]["fingerprints"]
            if changed := [name for name in sorted(made_by.keys() | theirs) if made_by.get(name) != theirs.get(name)]:
                names = ", ".join(changed)
                raise UserError(f"{self.folder}: holds shards made with another {names}; give a new folder")


def _joint_key(keys: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(keys).encode()).hexdigest()


def _line(record: Record, tar: str) -> dict[str, Any]:
    """One encoded clip in the report."""
    tokens = {stream: [record.tokens.get(key, 0) for _, key in texts] for stream, texts in record.texts.items()}
    facts = {part: getattr(record, part) for part in ("frames", "samples", "video", "audio")}
    return {"id": record.id, "status": "ok", "shard": tar, **facts, "text_tokens": tokens}
