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

from shared.data.manifest import Clip
from shared.data.shard_index import EMPTY_NAME, FORMAT, INDEX_NAME, Record, Shard
from shared.data.shard_writer import NewRecord, read_shard, write_file, write_shard
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

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
        """Make the folder. Refuse one that holds anything else, or shards of other settings."""
        marker, settings = self.folder / SETTINGS_NAME, self.settings
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; give a folder")
        try:
            if marker.is_file():
                earlier = json.loads(marker.read_text(encoding="utf-8"))
                changed = [f"{name} {earlier.get(name)}" for name in settings if earlier.get(name) != settings[name]]
                if changed:
                    other = ", ".join(changed)
                    raise UserError(f"{self.folder}: holds shards of other settings ({other}); give a new folder")
                return
            paths = self.folder.iterdir() if self.folder.is_dir() else ()
            if any(path.name != marker.name for path in paths if not path.name.startswith(".")):
                raise UserError(f"{self.folder}: holds other files; give a new or empty folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(marker, json.dumps(settings))
        except UserError:
            raise
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder}: cannot be used ({error}); give a folder that can be written") from error

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
        mine = {
            number: _joint_key(map(key, self.chunks[number])) for number in range(process, len(self.chunks), processes)
        }
        todo = [number for number, joint in mine.items() if not self.is_done(number, joint)]
        for number in todo:
            self.tar(number).with_suffix(".json").unlink(missing_ok=True)  # of other clips: nobody may take it for ours
        tick(sum(len(self.chunks[number]) for number in mine if number not in todo))
        for number in todo:
            failed: list[dict[str, Any]] = []
            records = make(self.chunks[number], failed)
            write_shard(self.tar(number), records, key=mine[number], failed=failed, **made_by)

    def tar(self, number: int) -> Path:
        return self.folder / f"{number:05d}.tar"

    def is_done(self, number: int, key: str | None) -> bool:
        """Whether a shard is there, whole, of these clips (any, without `key`), with no failure worth another try."""
        done = self._read(number)
        if done is None or (key is not None and done[1]["key"] != key):
            return False
        shard, about = done
        return shard.is_whole and (key is None or not any(failure["again"] for failure in about["failed"]))

    def finish(self) -> list[dict[str, Any]] | None:
        """Write report and index once all shards are there; the clips that failed, or None if others are at work.

        Without any record there is no index.
        """
        if not all(self.is_done(number, None) for number in range(len(self.chunks))):
            return None
        shards = [done for number in range(len(self.chunks)) if (done := self._read(number))]
        failed = [failure for _, about in shards for failure in about["failed"]]
        lines = []
        for clips, (shard, about) in zip(self.chunks, shards, strict=True):
            reasons = {failure["id"]: failure["reason"] for failure in about["failed"]}
            records = {record.id: record for record in shard.records}
            for clip in clips:
                line = _line(clip.id, shard, records, reasons)
                lines.append(json.dumps(line, ensure_ascii=False))
        write_file(self.folder / REPORT_NAME, ("\n".join(lines) + "\n").encode())
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
            changed = [name for name in sorted(made_by.keys() | theirs) if made_by.get(name) != theirs.get(name)]
            if changed:
                names = ", ".join(changed)
                raise UserError(f"{self.folder}: holds shards made with another {names}; give a new folder")


def _joint_key(keys: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(keys).encode()).hexdigest()


def _line(name: str, shard: Shard, records: dict[str, Record], reasons: dict[str, str]) -> dict[str, Any]:
    """One clip in the report."""
    if name in reasons:
        return {"id": name, "status": "failed", "reason": reasons[name]}
    record = records[name]
    tokens = {stream: [record.tokens.get(key, 0) for _, key in texts] for stream, texts in record.texts.items()}
    facts = {part: getattr(record, part) for part in ("frames", "samples", "video", "audio")}
    return {"id": name, "status": "ok", "shard": shard.path.name, **facts, "text_tokens": tokens}
