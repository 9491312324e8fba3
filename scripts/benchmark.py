"""Measure parts of the framework, or count what they would take.

    python scripts/benchmark.py cca
    python scripts/benchmark.py cca --backward --heads 12 --head-dim 128 --device cuda
    python scripts/benchmark.py shards --workers 2
    python scripts/benchmark.py memory --model wan2.1-14b --zero 3 --gpus 24

`cca`: one cross-modal context attention, gathered (as the model runs it) against dense (all pairs under a mask): time,
the memory it holds at its peak beyond its inputs, and how memory grows with the length of the clip.
`shards`: how many samples of synthetic latent shards a process reads in a second.
`memory`: the bytes that a training step of a model keeps on each GPU, from shapes alone.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from ccl.analysis.memory_report import MemoryOptions, memory_report
from shared.utils.cli import Options, device, option, parse_command
from shared.utils.errors import UserError, run_main
from shared.utils.ranges import Count, Depth, Steps, Width, Workers

SIZES = [(31, 484, 157), (61, 900, 314)]  # 5 and 10 s of video at 24 fps, stride 4, with 31.25 audio tokens per second


def three_numbers(text: Any) -> Any:
    """Take "F,S,A" apart. ValueError for any other text."""
    parts = str(text).split(",")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"{text!r} is not F,S,A: three whole numbers above 0, such as 31,484,157")
    return tuple(map(int, parts))


class Cca(Options):
    """Gathered against dense cross-modal context attention."""

    sizes: list[Annotated[tuple[Count, Count, Count], BeforeValidator(three_numbers)]] = option(
        SIZES, "frames, tokens of each, audio tokens (default: 31,484,157 61,900,314)", metavar="F,S,A"
    )
    heads: Depth = option(2, "of the attention")
    head_dim: int = option(48, "width of a head; even, for rotary positions", ge=2, le=4096, multiple_of=2)
    context_tokens: Width = option(16, "LCT")
    backward: bool = option(False, "measure forward and backward together")
    repeats: Steps = option(3, "the fastest of so many runs counts")
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")


class Shards(Options):
    """Samples per second read from latent shards."""

    records: Count = option(10_000, "of at most 64 KB each")
    workers: Workers = option(2, "processes that read, each its own part")
    folder: Path | None = option(None, "where the shards are made and deleted; default: a temporary folder")


def main(argv: list[str] | None = None) -> None:
    command, options = parse_command({"cca": Cca, "shards": Shards, "memory": MemoryOptions}, __doc__, argv)
    if command == "memory":
        print(memory_report(options))
    elif command == "shards":
        benchmark_shards(options)
    else:
        from ccl.analysis.context_benchmark import CcaOptions, benchmark_cca

        benchmark_cca(CcaOptions(**options.model_dump() | {"device": str(device(options.device))}))


def benchmark_shards(options: Shards) -> None:
    """Print the table of `shared.data.shard_benchmark.run`."""
    if options.folder is not None and not options.folder.is_dir():
        raise UserError(f"--folder {options.folder}: no such folder; make it, or leave the option out")
    from shared.data.shard_benchmark import run

    rates_of = run(options.records, options.workers, options.folder)
    print(f"{options.records} records of at most {rates_of['record_bytes']} bytes, {options.workers} workers; ", end="")
    print("samples per second. Target: more than 2000 per worker\n")
    print("reader                                    slowest worker   its process time   all workers")
    for verify, how in (("record", "checked by checksum"), ("none", "not checked")):
        rates = rates_of[f"random_access_verify_{verify}"]
        columns = f"{rates['slowest_worker']:16d}{rates['slowest_worker_cpu']:19d}{rates['all']:14d}"
        print(f"random access, {how:25s}{columns}")
    print(f"{'DataLoader of the workers, at its consumer':75s}{rates_of['data_loader']['all']:14d}")
    stream = rates_of["webdataset_stream"]
    print(f"{'webdataset, in order, one process':40s}{stream['all']:16d}{stream['cpu']:19d}{stream['all']:14d}")


if __name__ == "__main__":
    run_main(main)
