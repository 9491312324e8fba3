"""How fast latent shards, of synthetic records of at most 64 KB, are read and checked (scripts/benchmark.py shards)."""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import webdataset

from shared.data.bucketing import BatchPlan
from shared.data.latents import as_float
from shared.data.shard_index import EMPTY_NAME, FORMAT, INDEX_NAME
from shared.data.shard_loader import EpochLoader, epoch_batches
from shared.data.shard_writer import NewRecord, write_file, write_shard
from shared.data.shards import ShardedLatents, Verify
from shared.utils.errors import UserError
from shared.utils.rng import generator

PER_SHARD, BATCH, SEED, REPEATS = 1000, 16, 0, 2
TEXT_TOKENS, TEXT_DIM = 10, 128


def run(records: int = 10_000, workers: int = 2, folder: Path | None = None) -> dict[str, Any]:
    """Measure samples per second, of reading processes, of a DataLoader's consumer and of a webdataset stream.

    `workers` processes read one epoch of `records` records together, each its own part and without any other work;
    `slowest_worker` is the number to compare, of the better of two runs; `slowest_worker_cpu` counts only the time in
    which the process ran. Raises UserError for fewer than one record or worker.
    """
    if records < 1 or workers < 1:
        raise UserError(f"{records} records and {workers} workers; at least one of each is needed")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        shards = Path(temporary)
        rates: dict[str, Any] = {"records": records, "workers": workers, "record_bytes": make_shards(shards, records)}
        for verify in ("record", "none"):
            runs = [_processes(shards, workers, verify) for _ in range(REPEATS)]
            rates[f"random_access_verify_{verify}"] = max(runs, key=lambda run: run["slowest_worker"])
        rates |= {"data_loader": _data_loader(shards, workers), "webdataset_stream": _stream(shards)}
    return rates


def rates_table(rates_of: Mapping[str, Any]) -> str:
    """Write what `run` found as a table."""
    lines = [
        f"{rates_of['records']} records of at most {rates_of['record_bytes']} bytes, {rates_of['workers']} workers; "
        "samples per second. Target: more than 2000 per worker\n",
        "reader                                    slowest worker   its process time   all workers",
    ]
    for verify, how in (("record", "checked by checksum"), ("none", "not checked")):
        rates = rates_of[f"random_access_verify_{verify}"]
        columns = f"{rates['slowest_worker']:16d}{rates['slowest_worker_cpu']:19d}{rates['all']:14d}"
        lines.append(f"random access, {how:25s}{columns}")
    lines.append(f"{'DataLoader of the workers, at its consumer':75s}{rates_of['data_loader']['all']:14d}")
    stream = rates_of["webdataset_stream"]
    name = "webdataset, in order, one process"
    lines.append(f"{name:40s}{stream['all']:16d}{stream['cpu']:19d}{stream['all']:14d}")
    return "\n".join(lines)


def make_shards(folder: Path, records: int, per_shard: int = PER_SHARD) -> int:
    """Shards of random latents in two buckets, with index; the bytes of the largest record."""
    draw = generator(SEED, "shard benchmark")

    def made(numbers: range) -> Iterator[NewRecord]:
        for number in numbers:
            frames = 4 + number % 2
            video = torch.randn(16, frames, 15, 20, generator=draw).half()
            audio = torch.randn(20 * frames, 64, generator=draw).half()
            text = torch.randn(TEXT_TOKENS, TEXT_DIM, generator=draw).bfloat16()
            facts = {"id": f"clip{number}", "key": "", "frames": 4 * frames - 3, "samples": 8000}
            facts |= {"has_video": True, "has_audio": True, "caption": f"Clip {number}.", "audio_caption": "Noise."}
            facts |= {"video": list(video.shape), "audio": list(audio.shape), "subsets": [], "speakers": []}
            facts |= {"texts": {"video": [[0.0, f"{number}"]]}, "tokens": {f"{number}": TEXT_TOKENS}}
            yield {"latents": {"video": video, "audio": audio}, "texts": {f"{number}": text}}, facts

    parts = [range(records)[first : first + per_shard] for first in range(0, records, per_shard)]
    shards = [write_shard(folder / f"{number:05d}.tar", made(part)) for number, part in enumerate(parts)]
    write_file(folder / EMPTY_NAME, safetensors.torch.save({"text": torch.ones(1, TEXT_DIM)}))
    index: dict[str, Any] = {"format": FORMAT, "settings": {"fps": 16.0, "sample_rate": 16000}, "fingerprints": {}}
    index |= {"text": {"dim": TEXT_DIM, "max_length": 64}, "records": records, "failed": []}
    index["shards"] = [shard.facts() for shard in shards]
    write_file(folder / INDEX_NAME, json.dumps(index).encode())
    return max(sum(member[1] for member in record.members.values()) for shard in shards for record in shard.records)


def _processes(folder: Path, workers: int, verify: Verify) -> dict[str, float]:
    """Each of `workers` processes reads its part of one epoch; they start together."""
    fork = "fork" in multiprocessing.get_all_start_methods()  # a fresh process would import torch first
    context: Any = multiprocessing.get_context("fork" if fork else "spawn")
    results, ready = context.SimpleQueue(), context.Barrier(workers)
    parts = ((number, folder, workers, verify, ready, results) for number in range(workers))
    started = [context.Process(target=_read_part, args=part) for part in parts]
    for process in started:
        process.start()
    rates = [results.get() for _ in started]
    for process in started:
        process.join()
    walls, cpus = zip(*rates, strict=True)
    return {"slowest_worker": round(min(walls)), "all": round(sum(walls)), "slowest_worker_cpu": round(min(cpus))}


def _read_part(number: int, folder: Path, workers: int, verify: Verify, ready: Any, results: Any) -> None:
    torch.set_num_threads(1)
    store = ShardedLatents(folder, verify=verify)
    batches = epoch_batches(BatchPlan(store.shapes(), SEED, BATCH, workers, 1), 0, number)
    ready.wait()
    results.put(_rates(store.read(name) is not None for names in batches for name in names))


def _data_loader(folder: Path, workers: int) -> dict[str, float]:
    """Rate at which one training process receives samples from `workers` processes, their start not counted."""
    store = ShardedLatents(folder)
    batches = iter(EpochLoader(store, BatchPlan(store.shapes(), SEED, BATCH, 1, 1), workers=workers))
    next(batches)
    return {"all": round(_rates(map(len, batches))[0])}


def _stream(folder: Path) -> dict[str, float]:
    """Read with webdataset's own reader, from the first tar to the last in order, in one process."""

    def decode(sample: dict[str, bytes]) -> bool:
        json.loads(sample["json"])
        return all(tensor.ndim > 1 for tensor in as_float(sample["latents.safetensors"]).values())

    paths = [os.fspath(path) for path in sorted(folder.glob("*.tar"))]
    wall, cpu = _rates(map(decode, webdataset.WebDataset(paths, shardshuffle=False)))
    return {"all": round(wall), "cpu": round(cpu)}


def _rates(counts: Iterable[int]) -> tuple[float, float]:
    """Sum of `counts` per second that goes by while it is made, and per second of this process's own time."""
    wall, cpu = time.perf_counter(), time.process_time()
    total = sum(counts)
    return total / (time.perf_counter() - wall), total / (time.process_time() - cpu)
