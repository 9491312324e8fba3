"""Records into shards: one tar file of them, and the folder in which runs keep the records of their own clips."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import safetensors.torch
from webdataset import TarWriter

from shared.data.bad_clips import Problem
from shared.data.clip_texts import ClipTexts
from shared.data.encode_clip import Members
from shared.data.shard_index import BAD_FACTS, FORMAT, INDEX_NAME, LARGEST_INDEX, Shard
from shared.data.shards import LatentShards
from shared.utils.distributed import World, barrier, gather
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing, sweep
from shared.utils.locks import FILLS, LOCK_NAME, locked
from shared.utils.progress import bar as progress_bar
from shared.utils.text_files import MOST_OF_OURS

SHARD_CLIPS = 256
NUMBER = "[0-9]" * 5
#: A record before it is in a tar: its tensors, and what its JSON says.
NewRecord = tuple[Members, dict[str, Any]]
_log = logging.getLogger(__name__)


def write_shard(path: Path, records: Iterable[NewRecord], **more: Any) -> Shard:
    """Write `records` as a tar, then its .json, which says `more`; same records, same bytes. UserError if it cannot."""
    owner: dict[str, Any] = {"user": "", "group": "", "mtime": 0}
    with _writing(path) as part, open(part, "wb") as file, TarWriter(file, encoder=False, **owner) as tar:
        for number, (members, facts) in enumerate(records):
            tensors = {f"{name}.safetensors": safetensors.torch.save(held) for name, held in members.items()}
            tar.write({"__key__": f"{path.stem}{number:05d}", "json": json.dumps(facts).encode(), **tensors})
    shard = Shard.scanned(path)
    write_file(path.with_suffix(".json"), json.dumps({"format": FORMAT, **more, "shard": shard.facts()}).encode())
    return shard


def read_shard(path: Path) -> tuple[Shard, dict[str, Any]] | None:
    """Read the shard whose tar is at `path`, and all that its .json says; None if that is missing or not whole."""
    with suppress(OSError, *BAD_FACTS):
        about = read_json(path.with_suffix(".json"), size=LARGEST_INDEX, values=MOST_OF_OURS)
        if about["format"] == FORMAT:
            return Shard.of(about["shard"], path.parent), about
    return None


def write_file(path: Path, content: bytes) -> None:
    """Replace the file at `path` in one go. UserError if it cannot be written."""
    with _writing(path) as part:
        part.write_bytes(content)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room, and run again") from error


def fill_shards(
    folder: Path, keys: Mapping[str, str], make: Callable[[Sequence[str]], Iterator[NewRecord]], world: World,
    what: str, captions: Mapping[str, ClipTexts] | None = None,
) -> LatentShards:  # fmt: skip
    """Find the records of all clips in `folder`; those that are missing there are made first, with a bar `what`.

    `keys`: by clip id, the hash of all that decides its record. A record with another key counts as missing, and so
    does a damaged one. `make(ids)` gives the new records in that order; each rank makes its part. Shards without any
    record of these clips are deleted. Runs may share the folder: the second waits until the first has made its own.
    Raises UserError if the folder holds shards of scripts/encode.py, or cannot be written.
    """
    with _locked(folder, world):
        usable = _records(folder, keys)
        damaged = list(filter(LatentShards(usable).is_damaged, list(usable)[world.rank :: world.size]))
        first = 1 + max((int(path.stem) for path in folder.glob(f"{NUMBER}.tar")), default=-1)
        for name in sorted({name for part in gather(damaged) for name in part}):
            del usable[name]
        if world.is_main:
            sweep(folder)
            used = {shard.path for shard, _ in usable.values()}
            for path in [*folder.glob(f"{NUMBER}.tar"), *folder.glob(f"{NUMBER}.json")]:
                if path.with_suffix(".tar") not in used:
                    path.unlink(missing_ok=True)
        barrier()
        missing = [name for name in keys if name not in usable]
        mine = missing[world.rank :: world.size]
        hidden = not (world.is_main and mine)
        records = iter(progress_bar(make(mine), total=len(mine), desc=what, unit="clip", disable=hidden))
        for turn in range(ceil(len(mine) / SHARD_CLIPS)):
            number = first + world.rank + turn * world.size
            write_shard(folder / f"{number:05d}.tar", islice(records, SHARD_CLIPS))
        barrier()  # what the others made is there, too
        shards = LatentShards(_records(folder, keys) if missing else usable, captions)
        shards.hold()
        barrier()
    return shards


def gather_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Gather what every rank found, once for each clip; every rank calls it."""
    return list({problem.id: problem for part in gather(list(problems)) for problem in part}.values())


def _records(folder: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    """Find the records with these keys, in the order of `keys`; of two with one key, the later."""
    places: dict[str, Any] = {}
    for shard, _ in filter(None, map(read_shard, sorted(folder.glob(f"{NUMBER}.tar")))):
        places |= {record.id: (shard, record) for record in shard.records if keys.get(record.id) == record.key}
    return {name: places[name] for name in keys if name in places}


@contextmanager
def _locked(folder: Path, world: World) -> Iterator[None]:
    """Keep other runs out of the folder, until the lock is closed or the process ends; say so if one has it."""
    if (folder / INDEX_NAME).exists():
        text = f"{folder}: holds shards of scripts/encode.py; name them as data.shards, or give another folder"
        raise UserError(text)
    with ExitStack() as stack:
        if world.is_main:
            stack.enter_context(locked(folder / LOCK_NAME, *FILLS, wait=partial(_tell_waiting, folder)))
        barrier()
        yield


def _tell_waiting(folder: Path, who: str) -> None:
    _log.warning("%s: %s encodes clips into it; this run waits, and then reads what is there", folder, who)
