"""Measure parts of the framework, or count what they would take.

    python scripts/benchmark.py step --against wan,ltx2,kandinsky6
    python scripts/benchmark.py step --tasks t2av,a2v,v2a --grid 4,16,16 --audio-tokens 1024
    python scripts/benchmark.py sample --steps 24 --guidance dual
    python scripts/benchmark.py startup --threads 1
    python scripts/benchmark.py train
    python scripts/benchmark.py train --against-checkout ../older --repeats 20
    python scripts/benchmark.py cca --backward --heads 12 --head-dim 128 --device cuda
    python scripts/benchmark.py shards --workers 2
    python scripts/benchmark.py live --seconds 60
    python scripts/benchmark.py memory --model wan2.1-14b --zero 3 --gpus 24

`step`: one evaluation of the joint model, beside other models of its size, and the share of the roofline reached.
`sample`: whole sampling runs by their parts. `startup`: seconds until a sampling script takes its first step.
`train`: whole training steps by their parts, of this checkout, or of this and another in turns.
`cca`: one cross-modal context attention, gathered (as the model runs it) against dense (all pairs under a mask): time,
the memory it holds at its peak beyond its inputs, and how memory grows with the length of the clip.
`shards`: how many samples of synthetic latent shards a process reads in a second.
`live`: speech comes as from a microphone: the delay of the video, its frames a second, and how well lips follow.
`memory`: the bytes that a training step of a model keeps on each GPU, from shapes alone.
Times are medians with quartiles; `--json FILE` writes the numbers too. What is compared takes turns, round by round.
"""

from typing import Any

from ccl.analysis.benchmark_options import Cca, Live, Reported, Sample, Shards, Startup, Step, Train, model_config
from ccl.analysis.memory_report import MemoryOptions, memory_report
from shared.checkpoint.folder import check_checkpoint, check_driven, check_joint, load_checkpoint
from shared.utils.allocator import keep_freed_memory
from shared.utils.cli import device, parse_command
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError, run_main

COMMANDS: dict[str, type[Reported]] = {
    "step": Step, "sample": Sample, "train": Train, "startup": Startup, "memory": MemoryOptions, "cca": Cca,
    "shards": Shards, "live": Live,
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    command, options = parse_command(COMMANDS, __doc__, argv)
    results, table = measured(command, options)
    print(table)
    if options.json_file is not None:
        from ccl.analysis.timing import write_report

        write_report(options.json_file, command, options, results)


def measured(command: str, options: Any) -> tuple[dict[str, Any], str]:
    """Run the command: its numbers and its table."""
    keep_freed_memory()  # as training and sampling do
    if command == "memory":
        return memory_report(options)
    if command == "shards":
        return benchmark_shards(options)
    if command == "train":
        TrainConfig.load(options.config, options.settings)  # refused before torch is imported
        from ccl.analysis.train_benchmark import train_benchmark

        return train_benchmark(options, str(device(options.device)))
    if command == "startup":
        check_checkpoint(options.checkpoint)
        from ccl.analysis.startup_benchmark import startup_benchmark

        return startup_benchmark(options)
    if command in ("sample", "live"):
        return benchmark_sample(options) if command == "sample" else benchmark_live(options)
    if command == "step":
        options.config()
        from ccl.analysis.step_benchmark import step_benchmark

        return step_benchmark(options, str(device(options.device)))
    from ccl.analysis.context_benchmark import CcaOptions, benchmark_cca

    given = options.model_dump(include=set(CcaOptions._fields)) | {"device": str(device(options.device))}
    return benchmark_cca(CcaOptions(**given))


def benchmark_sample(options: Sample) -> tuple[dict[str, Any], str]:
    """Load the checkpoint and sample from it."""
    folders = [folder for folder in (options.checkpoint, options.few) if folder is not None]
    for folder in folders:
        check_joint(check_checkpoint(folder), f"checkpoint {folder}: ")
    if options.model is not None:
        model_config(options.model)
    import torch

    from ccl.analysis.sample_benchmark import sample_benchmark
    from ccl.pipeline import CCLPipeline

    pipelines = [load_checkpoint(CCLPipeline, folder, getattr(torch, options.dtype)) for folder in folders]
    return sample_benchmark(options, *(pipeline.to(device(options.device)) for pipeline in pipelines))


def benchmark_live(options: Live) -> tuple[dict[str, Any], str]:
    """Load the checkpoint and let it speak along."""
    check_driven(check_checkpoint(options.checkpoint), f"checkpoint {options.checkpoint}: ")
    from ccl.app.live_benchmark import live_benchmark
    from mtv.pipeline import MTVPipeline

    return live_benchmark(options, load_checkpoint(MTVPipeline, options.checkpoint).to(device(options.device)))


def benchmark_shards(options: Shards) -> tuple[dict[str, Any], str]:
    """Read shards that are made for it."""
    if options.folder is not None and not options.folder.is_dir():
        raise UserError(f"--folder {options.folder}: no such folder; make it, or leave the option out")
    from shared.data.shard_benchmark import rates_table, run

    rates = run(options.records, options.workers, options.folder)
    return rates, rates_table(rates)


if __name__ == "__main__":
    run_main(main)
