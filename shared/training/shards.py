"""Tensors of every clip, made once and kept in shards beside the run: the base of latents and of track features."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from shared.data.manifest import Clip
from shared.utils.distributed import World, barrier
from shared.utils.errors import UserError

SHARD = 256  # clips per file
LOCK = ".lock"

#: One clip's tensors by name, and what else is to be known of it (JSON).
Entry = tuple[dict[str, Tensor], dict[str, Any]]


class ShardStore:
    """Tensors in `folder`/*.safetensors (float16), per clip and under a key: what has another key counts as missing."""

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        self.folder, self.keys = folder, keys
        self._open()

    def __len__(self) -> int:
        return len(self.about)

    def only(self, names: Collection[str]) -> Self:
        """The same files, seen as a store of these clips alone."""
        part = copy.copy(self)
        part.keys = {name: self.keys[name] for name in names}
        part.about = {name: self.about[name] for name in names if name in self.about}
        return part

    def missing(self) -> list[str]:
        return [name for name in self.keys if name not in self.about]

    def fill(self, world: World, made: Callable[[Sequence[str]], Iterator[tuple[str, Entry]]], what: str) -> None:
        """Make what is missing, each rank its part, with a bar named `what`; files of other clips are deleted.

        Two runs may share a folder: the second waits until the first has made what both read.
        """
        with self._alone(world):
            self._fill(world, made, what)

    @contextmanager
    def _alone(self, world: World) -> Iterator[None]:
        """Keep other runs out of the folder, and see what they have made there."""
        with ExitStack() as stack:
            if world.is_main:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self.folder / LOCK).open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, or with the process
            barrier()
            self._open()
            yield
            barrier()
        self._open()

    def _fill(self, world: World, made: Callable[[Sequence[str]], Iterator[tuple[str, Entry]]], what: str) -> None:
        missing = self.missing()
        stale = [path for path in self.folder.glob("*.safetensors") if path not in self.files]
        barrier()  # every rank has seen the same files
        if world.is_main:
            for path in stale:
                path.unlink()
        barrier()
        mine = missing[world.rank :: world.size]
        shard: dict[str, Entry] = {}
        hidden = not world.is_main or not mine
        for name, entry in tqdm(made(mine), total=len(mine), desc=what, unit="clip", disable=hidden):
            shard[name] = entry
            if len(shard) == SHARD:
                self._write(shard)
                shard = {}
        if shard:
            self._write(shard)

    def tensor(self, name: str, part: str) -> Tensor:
        """Tensor `part` of clip `name`, float32."""
        return self.handles[self.about[name]["file"]].get_tensor(f"{name}.{part}").float()

    def _write(self, shard: dict[str, Entry]) -> None:
        tensors = {
            f"{name}.{part}": value.to("cpu", torch.float16).contiguous()
            for name, (parts, _) in shard.items()
            for part, value in parts.items()
        }
        about = {name: {**facts, "key": self.keys[name]} for name, (_, facts) in shard.items()}
        digest = hashlib.sha256("".join(self.keys[name] for name in shard).encode()).hexdigest()
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
                continue  # not one of ours, or damaged: `fill` replaces it
            for name, about in json.loads((handle.metadata() or {}).get("clips", "{}")).items():
                if self.keys.get(name) == about["key"]:
                    self.about[name] = {**about, "file": path}
                    self.handles[path] = handle
                    self.files.add(path)


def fingerprint(module: object) -> str:
    """Hash of a codec's or an encoder's class and weights."""
    digest = hashlib.sha256(type(module).__name__.encode())
    if isinstance(module, nn.Module):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def clip_key(clip: Clip, paths: Sequence[Path | None], common: Sequence[str]) -> str:
    """Hash of a clip's cut, of the files at `paths` (name, time and size) and of what `common` says."""
    parts = [*common, clip.id, str(clip.start), str(clip.end)]
    for path in paths:
        if path is not None:
            try:
                stat = path.stat()
            except OSError as error:
                raise UserError(f"clip {clip.id!r}: {path}: {error.strerror}") from None
            parts += [path.name, str(stat.st_mtime_ns), str(stat.st_size)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def check_ids(clips: Sequence[Clip]) -> None:
    """Raise `UserError` if two clips have the same id."""
    ids = [clip.id for clip in clips]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UserError(f"clip id {twice!r} occurs twice among the manifests; ids must differ")
