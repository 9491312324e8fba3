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

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from shared.training.memory_plan import BUCKET, GIB, Activations, Held, Parameters, Setting, states
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main

MODELS = Path(__file__).resolve().parent.parent / "configs/model"
SIZES = ("31,484,157", "61,900,314")  # 5 s and 10 s of video at 24 fps, stride 4, with 31.25 audio tokens per second
TASKS = ("t2av", "t2v", "t2a", "a2v", "v2a")
TEMPORAL_STRIDE = 4  # of all video codecs here


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_cca(commands)
    add_shards(commands)
    add_memory(commands)
    given = parser.parse_args(argv)
    {"cca": benchmark_context, "shards": benchmark_shards, "memory": plan_memory}[given.command](given)


def add_cca(commands: Any) -> None:
    cca = commands.add_parser("cca", help="gathered against dense cross-modal context attention")
    cca.add_argument("--sizes", nargs="+", default=SIZES, metavar="F,S,A", help="frames, tokens of each, audio tokens")
    cca.add_argument("--heads", type=int, default=2)
    cca.add_argument("--head-dim", type=int, default=48)
    cca.add_argument("--context-tokens", type=int, default=16)
    cca.add_argument("--backward", action="store_true", help="measure forward and backward together")
    cca.add_argument("--repeats", type=int, default=3, help="the fastest of so many runs counts")
    cca.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def benchmark_context(given: argparse.Namespace) -> None:
    from ccl.analysis.context_benchmark import benchmark_cca, cca_options

    benchmark_cca(cca_options(given))


def add_shards(commands: Any) -> None:
    shards = commands.add_parser("shards", help="samples per second read from latent shards")
    shards.add_argument("--records", type=int, default=10_000, help="of at most 64 KB each")
    shards.add_argument("--workers", type=int, default=2, help="processes that read, each its own part")
    shards.add_argument("--folder", type=Path, help="where the shards are made and deleted; a temporary folder")


def benchmark_shards(given: argparse.Namespace) -> None:
    """Print the table of `shared.data.shard_benchmark.run`."""
    if given.folder is not None and not given.folder.is_dir():
        raise UserError(f"--folder {given.folder}: no such folder; make it, or leave the option out")
    from shared.data.shard_benchmark import run

    found = run(given.records, given.workers, given.folder)
    print(
        f"{found['records']} records of at most {found['record_bytes']} bytes, {found['workers']} workers; samples per "
        "second. Target: more than 2000 per worker\n"
    )
    print("reader                                    slowest worker   its process time   all workers")
    for verify, how in (("record", "checked by checksum"), ("none", "not checked")):
        rates = found[f"random_access_verify_{verify}"]
        print(
            f"random access, {how:25s}{rates['slowest_worker']:16d}{rates['slowest_worker_cpu']:19d}{rates['all']:14d}"
        )
    print(f"{'DataLoader of the workers, at its consumer':75s}{found['data_loader']['all']:14d}")
    stream = found["webdataset_stream"]
    print(f"{'webdataset, in order, one process':40s}{stream['all']:16d}{stream['cpu']:19d}{stream['all']:14d}")


def add_memory(commands: Any) -> None:
    memory = commands.add_parser("memory", help="bytes per GPU of a training step, from shapes alone")
    memory.add_argument("--model", required=True, help="a name in configs/model/, or a file")
    memory.add_argument("--zero", type=int, choices=range(4), required=True, metavar="STAGE", help="of ZeRO, 0 to 3")
    memory.add_argument("--gpus", type=int, required=True, help="of all nodes together")
    memory.add_argument("--batch", type=int, default=1, help="clips per GPU and micro-step")
    memory.add_argument("--task", choices=TASKS, default="t2av")
    length = memory.add_mutually_exclusive_group()
    length.add_argument("--frames", type=int, help="of the clip (81)")
    length.add_argument("--seconds", type=float, help="of the clip, instead of --frames")
    memory.add_argument("--fps", type=float, default=16.0)
    memory.add_argument("--height", type=int, default=352)
    memory.add_argument("--width", type=int, default=640)
    memory.add_argument("--spatial-stride", type=int, help="pixels per video latent (16 for 48 channels, else 8)")
    memory.add_argument("--audio-rate", type=float, default=25.0, help="audio tokens per second")
    memory.add_argument("--text-tokens", type=int, default=512)
    memory.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    memory.add_argument("--no-ema", action="store_true", help="no average of the weights is kept")
    memory.add_argument("--offload", choices=("none", "optimizer", "all"), default="none", help="to the host")
    memory.add_argument("--bucket", type=int, default=BUCKET, help="values per bucket of DeepSpeed's reduction")


def plan_memory(given: argparse.Namespace) -> None:
    """Print the plan. Raises UserError for sizes that do not fit the model, or a setting that there is not."""
    config = model_config(given.model)
    try:
        setting = Setting(given.zero, given.gpus, given.precision, not given.no_ema, given.offload, given.bucket)
    except ValueError as error:
        raise UserError(str(error)) from None
    from ccl.analysis.activation_memory import activations, parameters
    from ccl.routing import Task

    sizes, tokens = latent_sizes(given, config)
    try:
        counted = parameters(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"--model {given.model}: {error}; see configs/model/") from None
    held = [
        activations(config, sizes, given.batch, Task(given.task), given.precision, checkpointing)
        for checkpointing in (False, True)
    ]
    print_plan(given, counted, sizes, tokens, states(counted, setting), held, text_bytes(given, config))


def model_config(name: str) -> dict[str, Any]:
    """The content of configs/model/NAME.yaml, or of a file; it must say what codecs and text encoder would."""
    named = MODELS / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in MODELS.glob("*.yaml") if "control" not in file.stem))
        raise UserError(f"--model {name}: no such file, and none of the models {there}")
    config = yaml.safe_load(path.read_text())
    for stream in ("video", "audio"):
        for key in ("in_channels", "text_dim"):
            if key not in (config.get(stream) or {}):
                raise UserError(f"--model {name}: {path} has no {stream}.{key}, which its codecs say; write it there")
    return config


def latent_sizes(given: argparse.Namespace, config: dict[str, Any]) -> tuple[Any, Any]:
    """The clip's latents and tokens."""
    from ccl.analysis.activation_memory import LatentSizes

    for name in ("batch", "height", "width", "text_tokens", "fps", "audio_rate"):
        if not getattr(given, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(given, name)}; it must be above 0")
    frames = (
        round(given.seconds * given.fps)
        if given.seconds is not None
        else (81 if given.frames is None else given.frames)
    )
    if frames < 1:
        raise UserError(f"{frames} frames; a clip has at least one")
    stride = given.spatial_stride or (16 if config["video"]["in_channels"] == 48 else 8)
    patch = tuple(config["video"].get("patch_size", (1, 2, 2)))[1:]
    for name, side in zip(("height", "width"), patch, strict=True):
        if getattr(given, name) % (stride * side):
            raise UserError(
                f"--{name} {getattr(given, name)} is no multiple of {stride * side}, codec stride times patch"
            )
    sizes = LatentSizes(
        1 + math.ceil((frames - 1) / TEMPORAL_STRIDE), given.height // stride, given.width // stride,
        math.ceil(frames / given.fps * given.audio_rate), given.text_tokens, given.fps, TEMPORAL_STRIDE,
        given.audio_rate,
    )  # fmt: skip
    return sizes, sizes.tokens((patch[0], patch[1]))


def text_bytes(given: argparse.Namespace, config: dict[str, Any]) -> int:
    """The text embeddings that both streams are given, fp32."""
    return 4 * given.batch * given.text_tokens * (config["video"]["text_dim"] + config["audio"]["text_dim"])


def print_plan(
    given: argparse.Namespace,
    counted: Parameters,
    sizes: Any,
    tokens: Any,
    kept: list[Held],
    held: list[Activations],
    text: int,
) -> None:
    averaged = "without average" if given.no_ema else "with average"
    print(
        f"{given.model}: {counted.all:,} parameters, ZeRO-{given.zero} on {given.gpus} GPUs, {given.precision}, "
        f"offload: {given.offload}, {averaged}\n"
        f"task {given.task}, {given.batch} clips per GPU of {given.height}x{given.width} at {given.fps:g} fps; tokens "
        f"of a clip: video {sizes.frames} x {tokens.space} = {tokens.video:,}, audio {tokens.audio:,}, text "
        f"{tokens.text} for each\n\n{'bytes per GPU':48s}{'GPU':>18s}{'GiB':>9s}{'host':>18s}{'GiB':>9s}"
    )
    rows = [*kept, Held("text embeddings", text)]
    for row in rows:
        print_row(row)
    whole, blocks = held
    print_row(Held("activations, no checkpointing", whole.peak))
    print_row(Held("activations, checkpointing of every block", blocks.peak))
    gpu, host = sum(row.gpu for row in rows), sum(row.host for row in rows)
    print_row(Held("all, no checkpointing", gpu + whole.peak, host))
    print_row(Held("all, checkpointing of every block", gpu + blocks.peak, host))
    print(
        f"\nActivations are those of the worst moment; when the forward pass ends, {whole.kept / GIB:.2f} GiB and "
        f"{blocks.kept / GIB:.2f} GiB of them are kept.\n"
        "Not counted: the CUDA context, fragmentation, codecs and encoders."
    )


def print_row(row: Held) -> None:
    print(f"{row.what:48s}{row.gpu:18,d}{row.gpu / GIB:9.2f}{row.host:18,d}{row.host / GIB:9.2f}")


if __name__ == "__main__":
    run_main(main)
