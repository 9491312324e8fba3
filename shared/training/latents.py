"""Latents of every clip, encoded once and kept in shards beside the run."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from shared.codecs.base import AudioCodec, VideoCodec
from shared.config import Data
from shared.data.dataset import ClipDataset, Sample, check_clip
from shared.data.manifest import Clip
from shared.errors import UserError
from shared.training.distributed import World, barrier

SHARD = 256  # clips per file


@dataclass(frozen=True)
class Latents:
    """One clip: float32 `video` [C, F, h, w] and `audio` [A, C], of so many `frames` and `samples`.

    A stream that the clip lacks is the encoding of zeros, with its `has_` flag False.
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


class LatentStore:
    """Latents in `folder`/*.safetensors (float16), keyed by codec weights, data options and the clips' files.

    `encode` fills in what is missing; a clip whose file, codec or options changed is encoded again. Captions
    come from the manifest as it is now.
    """

    def __init__(
        self,
        folder: str | Path,
        clips: Sequence[Clip],
        data: Data,
        video_codec: VideoCodec,
        audio_codec: AudioCodec,
    ) -> None:
        """Raises `UserError` if two clips have the same id."""
        self.folder, self.data = Path(folder), data
        self.codecs = (video_codec, audio_codec)
        self.clips = {clip.id: clip for clip in clips}
        if len(self.clips) < len(clips):
            ids = [clip.id for clip in clips]
            twice = next(name for name in ids if ids.count(name) > 1)
            raise UserError(f"clip id {twice!r} occurs twice among the manifests; ids must differ")
        options = data.model_dump_json(include={"fps", "size", "sample_rate", "duration"})
        common = [options, *(_fingerprint(codec) for codec in self.codecs)]
        self.keys = {clip.id: _clip_key(clip, common) for clip in clips}
        self._open()

    def __len__(self) -> int:
        return len(self.about)

    def encode(self, world: World, needs_video: bool = True, needs_audio: bool = True, workers: int = 4) -> None:
        """Encode the clips that are missing, each rank its part; decoding runs in `workers` threads.

        Raises `UserError` naming the clip that cannot be read, lacks a stream that is needed, or is silent.
        """
        missing = [clip for name, clip in self.clips.items() if name not in self.about]
        stale = [path for path in self.folder.glob("*.safetensors") if path not in self.files]
        barrier()  # every rank has seen the same files
        if world.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in stale:
                path.unlink()
        barrier()
        mine = missing[world.rank :: world.size]
        shard: dict[str, dict[str, Any]] = {}
        samples = _read_ahead(
            ClipDataset(mine, self.data.fps, self.data.size, self.data.sample_rate, self.data.duration),
            workers,
        )
        bar = tqdm(
            samples,
            total=len(mine),
            desc="encoding clips",
            unit="clip",
            disable=not world.is_main or not mine,
        )
        for sample in bar:
            check_clip(sample, needs_video, needs_audio)
            shard[sample.id] = self._encode(sample, world.device)
            if len(shard) == SHARD:
                self._write(shard)
                shard = {}
        if shard:
            self._write(shard)
        barrier()
        self._open()

    def get(self, name: str) -> Latents:
        """The latents of clip `name`, which must have been encoded."""
        about, clip = self.about[name], self.clips[name]
        file = self.handles[about["file"]]
        return Latents(
            name,
            file.get_tensor(f"{name}.video").float(),
            file.get_tensor(f"{name}.audio").float(),
            about["frames"],
            about["samples"],
            about["has_video"],
            about["has_audio"],
            clip.caption,
            clip.audio_caption,
        )

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(F, A) of every clip: video latent frames and audio tokens."""
        return {name: tuple(about["shape"]) for name, about in self.about.items()}

    @torch.no_grad()
    def _encode(self, sample: Sample, device: torch.device) -> dict[str, Any]:
        video = self.codecs[0].encode(sample.video[None].to(device))[0]
        audio = self.codecs[1].encode(sample.audio[None].to(device))[0]
        if not (video.isfinite().all() and audio.isfinite().all()):
            raise UserError(f"clip {sample.id!r}: its latents are not finite; check the codecs")
        return {
            "video": video.to("cpu", torch.float16).contiguous(),
            "audio": audio.to("cpu", torch.float16).contiguous(),
            "about": {
                "key": self.keys[sample.id],
                "shape": [video.shape[1], audio.shape[0]],
                "frames": sample.video.shape[1],
                "samples": sample.audio.shape[1],
                "has_video": sample.has_video,
                "has_audio": sample.has_audio,
            },
        }

    def _write(self, shard: dict[str, dict[str, Any]]) -> None:
        tensors = {f"{name}.{stream}": entry[stream] for name, entry in shard.items() for stream in ("video", "audio")}
        about = {name: entry["about"] for name, entry in shard.items()}
        digest = hashlib.sha256("".join(entry["key"] for entry in about.values()).encode()).hexdigest()
        path = self.folder / f"{digest[:16]}.safetensors"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file(tensors, temporary, metadata={"clips": json.dumps(about)})
        os.replace(temporary, path)

    def _open(self) -> None:
        """Find this store's clips in the files there; `files` are those that hold at least one of them."""
        self.about: dict[str, dict[str, Any]] = {}
        self.handles: dict[Path, Any] = {}
        self.files: set[Path] = set()
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                handle = safe_open(path, framework="pt")
            except SafetensorError:
                continue  # not one of ours, or damaged: `encode` replaces it
            for name, about in json.loads((handle.metadata() or {}).get("clips", "{}")).items():
                if self.keys.get(name) == about["key"]:
                    self.about[name] = {**about, "file": path}
                    self.handles[path] = handle
                    self.files.add(path)


def _read_ahead(dataset: ClipDataset, workers: int) -> Iterator[Sample]:
    """The samples in order, a few of them decoded ahead."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Sample]] = deque()
        try:
            for index in range(len(dataset)):
                waiting.append(pool.submit(dataset.__getitem__, index))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _fingerprint(codec: VideoCodec | AudioCodec) -> str:
    """Hash of a codec's class and weights."""
    digest = hashlib.sha256(type(codec).__name__.encode())
    if isinstance(codec, nn.Module):
        for name, tensor in sorted(codec.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _clip_key(clip: Clip, common: list[str]) -> str:
    parts = [*common, clip.id, str(clip.start), str(clip.end)]
    for path in (clip.video, clip.audio):
        if path is not None:
            try:
                stat = path.stat()
            except OSError as error:
                raise UserError(f"clip {clip.id!r}: {path}: {error.strerror}") from None
            parts += [path.name, str(stat.st_mtime_ns), str(stat.st_size)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
