"""Clips into latent shards, by any number of processes that share nothing but a folder.

A shard holds the clips k * n to (k + 1) * n - 1 of the manifest, and process p of P makes the shards p, p + P, ... For
each it writes 0000k.tar and then 0000k.json: what the index will say of it, and which clips failed. Whoever finds all
of them there writes `report.jsonl` and `index.json`. A shard whose clips, settings and components are as before is
kept, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from webdataset import TarWriter

from shared.data.clip_encoder import ClipEncoder, Parts, packed_text
from shared.data.manifest import Clip
from shared.data.shard_index import EMPTY_NAME, FORMAT, INDEX_NAME, Shard
from shared.utils.errors import UserError
from shared.utils.files import replacing

REPORT_NAME = "report.jsonl"


class ShardFolder:
    """The shards of one manifest in a folder: which are done, which are to be made, and the index of all."""

    def __init__(self, folder: Path, clips: Sequence[Clip], per_shard: int, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.parts = [clips[k : k + per_shard] for k in range(0, len(clips), per_shard)]

    def encode(self, encoder: ClipEncoder, part: int, parts: int, tick: Callable[[int], object]) -> None:
        """Make what is missing of this process's shards; `tick(n)` is called when n more clips are done.

        Raises UserError if the folder's shards were made with other components, or cannot be written.
        """
        made_by = encoder.fingerprints()
        self._check_components(made_by)
        self._write_empty_text(encoder)
        mine = {number: encoder.key(self.parts[number]) for number in range(part, len(self.parts), parts)}
        todo = [number for number, key in mine.items() if not self.kept(number, key)]
        for number in todo:
            self.done(number).unlink(missing_ok=True)  # of other clips: nobody may take it for this one's
        tick(sum(len(self.parts[number]) for number in mine if number not in todo))
        for number in todo:
            failed: list[dict[str, Any]] = []
            shard = write_shard(self.tar(number), self._records(encoder, number, failed, tick))
            size = encoder.text_encoder
            done = {
                "key": mine[number],
                "fingerprints": made_by,
                "text": {"dim": size.dim, "max_length": size.max_length},
                "sample_rate": encoder.data.sample_rate,
                "shard": shard.facts(),
                "failed": failed,
            }
            write_file(self.done(number), json.dumps(done).encode())

    def tar(self, number: int) -> Path:
        return self.folder / f"{number:05d}.tar"

    def done(self, number: int) -> Path:
        """The file that is there when the shard is."""
        return self.folder / f"{number:05d}.json"

    def kept(self, number: int, key: str | None) -> bool:
        """Whether a shard is there, whole, of these clips (any, without `key`), with no failure worth another try."""
        found = _read_done(self.done(number))
        if found is None or (key is not None and found["key"] != key):
            return False
        whole = self.tar(number).is_file() and self.tar(number).stat().st_size == found["shard"]["bytes"]
        return whole and (key is None or not any(failure["again"] for failure in found["failed"]))

    def finish(self) -> list[dict[str, Any]] | None:
        """Write report and index once all shards are there; the clips that failed, or None if others are at work.

        Without any record there is no index.
        """
        if not all(self.kept(number, None) for number in range(len(self.parts))):
            return None
        found = [_read_done(self.done(number)) or {} for number in range(len(self.parts))]
        failed = [failure for shard in found for failure in shard["failed"]]
        lines = []
        for clips, shard in zip(self.parts, found, strict=True):
            reasons = {failure["id"]: failure["reason"] for failure in shard["failed"]}
            records = {record["id"]: record for record in shard["shard"]["records"]}
            for clip in clips:
                lines.append(json.dumps(_line(clip.id, shard["shard"]["name"], records, reasons), ensure_ascii=False))
        write_file(self.folder / REPORT_NAME, ("\n".join(lines) + "\n").encode())
        index = {
            "format": FORMAT,
            "settings": self.settings | {"sample_rate": found[0]["sample_rate"]},
            "fingerprints": found[0]["fingerprints"],
            "text": found[0]["text"],
            "records": sum(len(shard["shard"]["records"]) for shard in found),
            "failed": [{"id": failure["id"], "reason": failure["reason"]} for failure in failed],
            "shards": [shard["shard"] for shard in found if shard["shard"]["records"]],
        }
        if index["shards"]:
            write_file(self.folder / INDEX_NAME, json.dumps(index).encode())
        return failed

    def clear(self) -> None:
        """Take away the index and what belongs to no shard of this manifest; one process does it, before the others."""
        (self.folder / INDEX_NAME).unlink(missing_ok=True)
        for path in [*self.folder.glob("[0-9]*.tar"), *self.folder.glob("[0-9]*.json")]:
            if path.stem.isdecimal() and int(path.stem) >= len(self.parts):
                path.unlink()

    def _records(
        self, encoder: ClipEncoder, number: int, failed: list[dict[str, Any]], tick: Callable[[int], object]
    ) -> Iterator[tuple[str, Parts]]:
        clips = self.parts[number]
        first = sum(len(part) for part in self.parts[:number])
        for i, (clip, sample) in enumerate(zip(clips, encoder.read(clips), strict=True)):
            try:
                if isinstance(sample, Exception):
                    raise sample
                record = encoder.record(clip, sample)
            except UserError as error:
                reason = str(error).removeprefix(f"clip {clip.id!r}: ")
                failed.append({"id": clip.id, "reason": reason, "again": False})
            except Exception as error:  # one clip must not cost hours of others; it is reported, and tried again
                failed.append({"id": clip.id, "reason": f"{type(error).__name__}: {error}", "again": True})
            else:
                yield f"{first + i:08d}", record
            tick(1)

    def _check_components(self, made_by: dict[str, str]) -> None:
        for number in range(len(self.parts)):
            found = (_read_done(self.done(number)) or {}).get("fingerprints", made_by)
            changed = [name for name in sorted(made_by.keys() | found) if made_by.get(name) != found.get(name)]
            if changed:
                names = ", ".join(changed)
                raise UserError(f"{self.folder}: holds shards made with another {names}; give a new folder")

    def _write_empty_text(self, encoder: ClipEncoder) -> None:
        rows = packed_text(encoder.text_encoder.encode([""])[0])
        write_file(self.folder / EMPTY_NAME, safetensors.torch.save({"text": rows}))


def write_shard(path: Path, records: Iterator[tuple[str, Parts]]) -> Shard:
    """A tar file of (key, record), complete or not there; the same records make the same bytes.

    Raises UserError if it cannot be written.
    """
    for old in path.parent.glob(f".{path.name}.*.part"):
        old.unlink(missing_ok=True)  # of a process that was killed: nobody else makes this shard
    try:
        with replacing(path) as part, open(part, "wb") as file:
            with TarWriter(file, user="", group="", encoder=False, mtime=0) as tar:
                for key, (about, members) in records:
                    tensors = {f"{name}.safetensors": safetensors.torch.save(held) for name, held in members.items()}
                    tar.write({"__key__": key, "json": json.dumps(about).encode(), **tensors})
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room, and run again") from error
    return Shard.scanned(path)


def write_file(path: Path, content: bytes) -> None:
    """Replace the file at `path` in one go. UserError if it cannot be written."""
    try:
        with replacing(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room, and run again") from error


def _line(name: str, shard: str, records: dict[str, Any], reasons: dict[str, str]) -> dict[str, Any]:
    """One clip in the report."""
    if name in reasons:
        return {"id": name, "status": "failed", "reason": reasons[name]}
    record = records[name]
    tokens = {text: count for text, (_, count) in record["texts"].items()}
    facts = {part: record[part] for part in ("frames", "samples", "video", "audio")}
    return {"id": name, "status": "ok", "shard": shard, **facts, "text_tokens": tokens}


def _read_done(path: Path) -> dict[str, Any] | None:
    """None if it is not there, or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    complete = (
        isinstance(found, dict) and {"key", "fingerprints", "text", "sample_rate", "shard", "failed"} <= found.keys()
    )
    return found if complete else None
