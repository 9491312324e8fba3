"""Clips into a folder of shards, before any training: several processes, each with its own codecs and encoders.

They share nothing but the folder. A shard holds the clips k * n to (k + 1) * n - 1 of the manifest; process p of P
makes the shards p, p + P, ... For each it writes 0000k.tar and then 0000k.json: what the index will say of it, and
which clips failed. Whoever finds all of them there writes `report.jsonl` and `index.json`. A shard whose clips,
settings and components are as before is kept.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from shared.checkpoint.registry import ComponentSource, load_component
from shared.codecs.base import Codecs
from shared.data.clip_key import clip_key
from shared.data.clip_texts import audio_text, video_text
from shared.data.dataset import ClipDataset, Sample, check_clip, read_ahead
from shared.data.encode_clip import encode_clip
from shared.data.manifest import Clip, claim_folder
from shared.data.media import read_video
from shared.data.shard_index import EMPTY_NAME, FORMAT, INDEX_NAME, Shard, text_key
from shared.data.shard_writer import NewRecord, read_shard, write_file, write_shard
from shared.encoders.audio import load_track_encoders
from shared.encoders.cache import pack_text
from shared.encoders.text import MOST_WORDS, words_of
from shared.utils.cli import device as parse_device
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint
from shared.utils.locks import FILLS, LOCK_NAME, locked
from shared.utils.object_store import ObjectPath, local_copy
from shared.utils.parallel import process_pool, start_method
from shared.utils.portable import portable
from shared.utils.progress import bar as progress_bar

#: features(clip, frames, fps=..., encoders=...): features by track (`mtv.tracks.clip_features`).
TrackFeatures = Callable[..., dict[str, Tensor]]
#: parts(clip, frames, fps=..., rate=...): sounds of the tracks that are parts (`mtv.tracks.clip_parts`).
PartSounds = Callable[..., dict[str, Tensor]]
REPORT_NAME, SETTINGS_NAME = "report.jsonl", "encode.json"
#: What a shard's .json says besides the shard itself.
_FACTS = {"key", "fingerprints", "text", "sample_rate", "failed"}


@dataclass(frozen=True)
class EncodeJob:
    """All that a process needs to know.

    `settings`, kept in the folder, decide the records: fps, keep_fps (there where clips keep their own frame rates),
    sizes (a clip takes that whose aspect ratio is nearest to its own), duration, needs, keyframe_latents, tracks
    (encoders by track, or None), text_dtype, latents_dtype, low_memory, shard_clips; and part_latents, where those of
    the tracks that `parts` reads are wanted. With tracks, `features` makes what is kept of them, and the captions
    `without_speaker` are embedded, too. `upload`: where each finished shard is put too, the index last.
    `workers`: processes of this rank; `threads` decode ahead in each.
    """

    output: Path
    clips: list[Clip]
    sources: dict[str, ComponentSource]
    settings: dict[str, Any]
    features: TrackFeatures
    without_speaker: Callable[[str], str]
    parts: PartSounds
    upload: ObjectPath | None = None
    device: str = "auto"
    workers: int = 1
    threads: int = 4

    @property
    def folder(self) -> ShardFolder:
        return ShardFolder(self.output, self.clips, portable(self.settings), self.upload)

    @property
    def processes(self) -> int:
        """Number of the processes of all ranks."""
        return self.workers * int(os.environ.get("WORLD_SIZE", 1))


def encode(job: EncodeJob) -> list[dict[str, Any]] | None:
    """Make this rank's share: the clips that failed, None while others work. UserError for parts that do not fit."""
    folder, rank = job.folder, int(os.environ.get("RANK", 0))
    with locked(job.output / (f"{LOCK_NAME}{rank}" if rank else LOCK_NAME), *FILLS):
        folder.prepare()
        if rank == 0:
            folder.clear()
        mine = range(rank * job.workers, (rank + 1) * job.workers)
        count = sum(len(clips) for number, clips in enumerate(folder.chunks) if number % job.processes in mine)
        with progress_bar(total=count, unit="clip", desc=str(job.output), disable=rank > 0) as bar:
            if len(mine) == 1:
                encode_part(job, rank, bar.update)
            else:
                _spread(job, mine, bar.update)
        return folder.finish()


def encode_part(job: EncodeJob, part: int, tick: Callable[[int], object]) -> None:
    """Make one process's shards, from loading the components on."""
    device = parse_device(job.device)
    local = job.workers * int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes that share cores and devices
    if device.type == "cuda" and device.index is None:
        number = int(os.environ.get("LOCAL_RANK", 0)) * job.workers + part % job.workers
        device = torch.device("cuda", number % torch.cuda.device_count())
    if device.type == "cpu" and local > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local))  # otherwise they spin against each other
    job.folder.encode(part, job.processes, ClipEncoder(job, device), tick)


class ClipEncoder:
    """One process's codecs and encoders, which turn clips into records."""

    def __init__(self, job: EncodeJob, device: torch.device) -> None:
        """Load the components. UserError if one cannot be read, or a size does not suit the video codec."""
        self.job, self.device, settings = job, device, job.settings
        how = {"text_encoder": {"torch_dtype": torch.bfloat16}} if settings["text_dtype"] == "bf16" else {}
        self.components: dict[str, Any] = {
            name: load_component(source, **how.get(name, {})).to(device) for name, source in job.sources.items()
        }
        self.codecs = Codecs(self.components["video_codec"], self.components["audio_codec"])
        self.text_encoder = self.components["text_encoder"]
        if settings["low_memory"] and hasattr(self.codecs.video, "low_memory"):
            self.codecs.video.low_memory()
        self.track_encoders = load_track_encoders(settings["tracks"] or {}, device)
        stride = self.codecs.video.spatial_stride
        for height, width in settings["sizes"]:
            if height % stride or width % stride:
                raise UserError(f"--size {height} {width}: both sides must be multiples of the codec's {stride} pixels")

    def made_by(self) -> dict[str, Any]:
        """Fingerprints of all that makes the records, and what an index says of texts and sound."""
        fingerprints = {name: fingerprint(part) for name, part in (self.components | self.track_encoders).items()}
        text = {"dim": self.text_encoder.dim, "max_length": self.text_encoder.max_length}
        return {"fingerprints": fingerprints, "text": text, "sample_rate": self.codecs.audio.sample_rate}

    def embed(self, text: str) -> Tensor:
        """Embedding of a text, as a record holds it."""
        return pack_text(self.text_encoder.encode([text])[0])

    def key(self, clip: Clip) -> str:
        """Hash of all that decides a clip's record but the components."""
        deciding = [portable(self.job.settings), self._texts(clip), clip.caption, clip.audio_caption, clip.subsets]
        deciding += [clip.prompts, clip.audio_prompts] if clip.prompts or clip.audio_prompts else []
        tracks = sorted(clip.tracks)
        return clip_key(clip, [clip.video, clip.audio, *map(clip.tracks.get, tracks)], [json.dumps(deciding), *tracks])

    def records(
        self, clips: Sequence[Clip], failed: list[dict[str, Any]], tick: Callable[[int], object]
    ) -> Iterator[NewRecord]:
        """Make the records of the clips that can be encoded; the others are added to `failed`."""
        for clip, sample in zip(clips, read_ahead(self._attempt, clips, self.job.threads), strict=True):
            try:
                record = self._record(clip, sample)
            except Exception as error:  # one clip must not cost hours of others; what nobody foresaw is tried again
                known = isinstance(error, UserError)
                reason = str(error).removeprefix(f"clip {clip.id!r}: ") if known else f"{type(error).__name__}: {error}"
                failed.append({"id": clip.id, "reason": reason, "again": not known})
            else:
                yield record
            tick(1)

    def _record(self, clip: Clip, sample: Sample | Exception) -> NewRecord:
        if isinstance(sample, Exception):
            raise sample
        settings = self.job.settings
        check_clip(sample, settings["needs"] != "audio", settings["needs"] != "video")
        fps, dtype = settings["fps"], getattr(torch, settings["latents_dtype"])
        rate = sample.fps or fps
        features = partial(self.job.features, clip, fps=rate, encoders=self.track_encoders)
        parts = partial(self.job.parts, clip, fps=rate, rate=self.codecs.audio.sample_rate)
        tracks = features if settings["tracks"] else None, parts if settings.get("part_latents") else None
        more = settings["keyframe_latents"], *tracks
        members, facts = encode_clip(sample, self.codecs, fps, self.device, dtype, *more)
        texts = {text_key(text): self.embed(text) for text in self._texts(clip)}
        facts |= {"key": self.key(clip)} | clip.model_dump(include={"caption", "audio_caption", "subsets", "speakers"})
        facts |= {name: pairs for name in ("prompts", "audio_prompts") if (pairs := getattr(clip, name))}
        facts["texts"] = {
            stream: [[at, text_key(text)] for at, text in zip(timed.times, timed.texts, strict=True)]
            for stream, timed in (("video", video_text(clip)), ("audio", audio_text(clip)))
        }
        facts["tokens"] = {key: len(embedded) for key, embedded in texts.items()}
        return members | {"texts": texts}, facts

    def _texts(self, clip: Clip) -> list[str]:
        """Texts of a clip that are embedded: equal texts once, the empty one apart."""
        texts = [*video_text(clip).texts, *audio_text(clip).texts]
        texts += map(self.job.without_speaker, video_text(clip).texts) if self.job.settings["tracks"] else []
        return [text for text in dict.fromkeys(texts) if text]

    def _attempt(self, clip: Clip) -> Sample | Exception:
        fps, duration, rate = self.job.settings["fps"], self.job.settings["duration"], self.codecs.audio.sample_rate
        try:
            keeps = self.job.settings.get("keep_fps", False)
            return ClipDataset([clip], fps, self._size(clip), rate, duration, keeps)[0]
        except Exception as error:
            return error

    def _size(self, clip: Clip) -> tuple[int, int]:
        """Choose the size of the aspect ratio nearest to that of the clip's pictures as shown: one is decoded."""
        sizes = [(height, width) for height, width in self.job.settings["sizes"]]
        if len(sizes) == 1 or clip.video is None:
            return sizes[0]
        _, height, width, _ = read_video(clip.video, 1.0, None, clip.start, clip.start + 1.0).shape
        wanted = height / width
        return min(sizes, key=lambda size: max(wanted * size[1] / size[0], size[0] / size[1] / wanted))


class ShardFolder:
    """The shards of one manifest in a folder: which are done, which are to be made, and the index of all."""

    def __init__(
        self, folder: Path, clips: Sequence[Clip], settings: dict[str, Any], upload: ObjectPath | None = None
    ) -> None:
        size = settings["shard_clips"]
        self.folder, self.settings, self.upload = folder, settings, upload
        self.chunks = [clips[k : k + size] for k in range(0, len(clips), size)]

    def prepare(self) -> None:
        """Make the folder. UserError if it holds anything else, or shards of other settings."""
        claim_folder(self.folder, SETTINGS_NAME, self.settings, "shards", index=None)

    def clear(self) -> None:
        """Take away the index and what belongs to no shard of this manifest; one process does it, before the others."""
        (self.folder / INDEX_NAME).unlink(missing_ok=True)
        if self.upload is not None:
            (self.upload / INDEX_NAME).remove()
        for path in [*self.folder.glob("[0-9]*.tar"), *self.folder.glob("[0-9]*.json")]:
            if path.stem.isdecimal() and int(path.stem) >= len(self.chunks):
                path.unlink()

    def encode(self, process: int, processes: int, encoder: ClipEncoder, tick: Callable[[int], object]) -> None:
        """Make this process's missing shards; `tick(n)`: n more are kept or made. UserError for other components."""
        made_by = encoder.made_by()
        for number in range(len(self.chunks)):
            theirs, ours = (self._read(number) or (None, made_by))[1]["fingerprints"], made_by["fingerprints"]
            if changed := ", ".join(name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)):
                raise UserError(f"{self.folder}: holds shards made with another {changed}; give a new folder")
        write_file(self.folder / EMPTY_NAME, safetensors.torch.save({"text": encoder.embed("")}))
        mine, todo = dict[int, str](), []  # the shards' keys, and which of them are to be made
        for number in range(process, len(self.chunks), processes):
            joint = mine[number] = hashlib.sha256(
                "\x1f".join(map(encoder.key, self.chunks[number])).encode()
            ).hexdigest()
            shard, about = self._read(number) or (None, {})
            if (
                shard is None
                or not shard.is_intact
                or about["key"] != joint
                or any(f["again"] for f in about["failed"])
            ):
                todo.append(number)  # the .json of other clips goes: nobody may take it for ours
                self._tar(number).with_suffix(".json").unlink(missing_ok=True)
        tick(sum(len(self.chunks[number]) for number in mine if number not in todo))
        for number in todo:
            failed: list[dict[str, Any]] = []
            records = encoder.records(self.chunks[number], failed, tick)
            write_shard(self._tar(number), records, key=mine[number], failed=failed, **made_by)
            self._upload_shard(number)

    def finish(self) -> list[dict[str, Any]] | None:
        """Write report and index (if there is a record) once all shards are there: failed clips; None until then."""
        shards = [done for number in range(len(self.chunks)) if (done := self._read(number)) and done[0].is_whole]
        if len(shards) < len(self.chunks):
            return None
        failed = [failure for _, about in shards for failure in about["failed"]]
        lines = {f["id"]: {"id": f["id"], "status": "failed", "reason": f["reason"]} for f in failed}
        for shard, _ in shards:
            for record in shard.records:
                texts = record.texts.items()
                facts = {part: getattr(record, part) for part in ("frames", "samples", "video", "audio")}
                facts["text_tokens"] = {stream: [record.tokens.get(k, 0) for _, k in pairs] for stream, pairs in texts}
                lines[record.id] = {"id": record.id, "status": "ok", "shard": shard.path.name} | facts
        report = [json.dumps(lines[clip.id], ensure_ascii=False) + "\n" for clips in self.chunks for clip in clips]
        write_file(self.folder / REPORT_NAME, "".join(report).encode())
        first = shards[0][1]
        index: dict[str, Any] = {"format": FORMAT, "settings": self.settings | {"sample_rate": first["sample_rate"]}}
        index |= {"fingerprints": first["fingerprints"], "text": first["text"], "words": self._words()}
        index["records"] = sum(len(shard.records) for shard, _ in shards)
        index["failed"] = [{"id": failure["id"], "reason": failure["reason"]} for failure in failed]
        index["shards"] = [shard.facts() for shard, _ in shards if shard.records]
        if index["shards"]:
            write_file(self.folder / INDEX_NAME, json.dumps(index).encode())
        if self.upload is not None:
            for number in range(len(self.chunks)):
                self._upload_shard(number)
            for name in (EMPTY_NAME, SETTINGS_NAME, REPORT_NAME, *([INDEX_NAME] if index["shards"] else [])):
                (self.upload / name).upload(self.folder / name)
        return failed

    def _words(self) -> list[str] | None:
        """List the words of all captions, so that training knows them; None: too many to keep."""
        clips = [clip for chunk in self.chunks for clip in chunk]
        texts = {text for clip in clips for timed in (video_text(clip), audio_text(clip)) for text in timed.texts}
        words = {word for text in texts for word in words_of(text)}
        return sorted(words) if len(words) <= MOST_WORDS else None

    def _upload_shard(self, number: int) -> None:
        """Put a shard into the object store, then its .json, unless both are there as they are here."""
        if self.upload is None:
            return
        tar = self._tar(number)
        about = tar.with_suffix(".json")
        with suppress(FileNotFoundError), local_copy(self.upload / about.name) as there:
            same = there.read_bytes() == about.read_bytes()
            if same and (self.upload / tar.name).size() == tar.stat().st_size:
                return
        for path in (tar, about):
            (self.upload / path.name).upload(path)

    def _tar(self, number: int) -> Path:
        return self.folder / f"{number:05d}.tar"

    def _read(self, number: int) -> tuple[Shard, dict[str, Any]] | None:
        shard = read_shard(self._tar(number))
        return shard if shard is not None and shard[1].keys() >= _FACTS else None


def _spread(job: EncodeJob, parts: range, tick: Callable[[int], object]) -> None:
    method = start_method() if parse_device(job.device).type == "cpu" else "spawn"
    with multiprocessing.get_context(method).Manager() as manager, process_pool(len(parts), method) as pool:
        done_clips = manager.Queue()
        waiting = {pool.submit(encode_part, job, part, done_clips.put) for part in parts}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2)
                while not done_clips.empty():
                    tick(done_clips.get())
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            text = f"{job.output}: a process was killed; run again to go on, with fewer --workers if memory is short"
            raise UserError(text) from error
