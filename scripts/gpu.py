"""Measure everything on a machine with one NVIDIA GPU of 78 GiB or more, in seven minutes, without a network.

    python scripts/gpu.py
    python scripts/gpu.py --parts sampling,adapters --output outputs/gpu
    python scripts/gpu.py --tiny

`make gpu` is this with the wheels in wheels/ (docs/performance.md, "GPU"). Parts, one process and one time limit each:

plan       memory by forecast: of what follows, and of what would fit nowhere
sampling   Wan2.2-5B and a 3072-wide audio stream, 15,004 + 157 tokens, bf16: time of a step, MFU, memory
adapters   training of context attention, its tokens and LoRA there, both streams frozen in bf16
full       training of all of Wan2.1-1.3B and a 1536-wide audio stream
native, xformers, flex, flash   an attention backend: time, memory, and equality with fp32
tests      pytest -m gpu
toy        the toy world's training, two minutes of it, and its loss curve
X-compiled sampling, training and backends again with compiled blocks

OUTPUT/gpu.json and gpu.md grow as results come. Exit code 1 if a part failed or was stopped; what cannot be done here
is skipped, and said.
"""

import sys

from ccl.analysis.gpu_wheels import missing
from shared.utils.errors import UserError, run_main


def main(argv: list[str] | None = None) -> None:
    if lacking := missing():  # before anything that needs them is imported
        print(*(f"needs the wheel {requirement}" for requirement in lacking), sep="\n", file=sys.stderr)
        raise UserError(f"{len(lacking)} wheels are missing; how to carry them: docs/performance.md, GPU")
    from ccl.analysis.gpu_run import GpuOptions, measure
    from shared.utils.cli import parse

    options = parse(GpuOptions, __doc__, argv)
    if not measure(options):
        sys.exit(1)
    print(f"{options.output}/gpu.md has all of it")


if __name__ == "__main__":
    run_main(main)
