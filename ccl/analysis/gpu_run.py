"""The parts of `scripts/gpu.py`, one process each with a time of its own; what is found is on the disk at once.

A part that crashes, hangs or finds no room takes nothing along. OUTPUT/gpu.json is renewed with every number, gpu.md
after every part, and gpu.log has what the processes printed. The processes are forked from one that has imported all
and never touched the GPU (`forkserver`): imports would take a minute of the seven.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from ccl.analysis.gpu_page import write_page
from ccl.analysis.gpu_wheels import missing
from shared.utils import cli
from shared.utils.cli import option, some_of
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_json

if TYPE_CHECKING:  # options are checked before torch is imported
    from ccl.analysis.gpu_parts import Part

TOTAL = 415  # seconds of all parts, so that all is done in seven minutes
#: Seconds that are kept for each part. What one leaves of them the next ones may use. Compiling takes long, so it comes
#: last: what there is no time for then can be had alone, by `--parts`.
BUDGETS = {
    "plan": 15, "sampling": 25, "adapters": 30, "full": 25, "native": 12, "xformers": 12, "flex": 20, "flash": 5,
    "tests": 25, "toy": 130, "sampling-compiled": 40, "full-compiled": 35, "native-compiled": 20,
    "adapters-compiled": 15, "flex-compiled": 5, "xformers-compiled": 0, "flash-compiled": 0,
}  # fmt: skip
LEAST = 5.0  # seconds in which no part comes to anything
SLOWER = 4  # times the budgets, for a check on a CPU that others use too
COMPILED = "-compiled"
MACHINE = "machine"  # the part that comes first: what the measurements are of
STARTING = 60.0  # seconds that it may take
METHODS = ("forkserver", "spawn")  # the second for a machine on which importing already touches the GPU
PRELOADED = ["ccl.analysis.gpu_attention", "ccl.analysis.gpu_commands"]
#: How a part ends that is not to blame for anything.
FINE = ("done", "skipped")


class GpuOptions(cli.Options):
    """What is measured, and where to."""

    output: Path = option(Path("outputs/gpu"), "folder for gpu.json, gpu.md, losses.svg and gpu.log", writes="folder")
    parts: Annotated[tuple[str, ...], BeforeValidator(some_of(tuple(BUDGETS)))] = option(
        tuple(BUDGETS), f"some of {','.join(BUDGETS)} (default: all)", metavar="NAME,NAME"
    )
    tiny: bool = option(False, "the same on models that a CPU runs: a check of the script itself")


def measure(options: GpuOptions) -> bool:
    """Run the parts, each in a process; whether none of them failed. UserError without a GPU, unless `tiny`."""
    check_gpu(options.tiny)
    began = time.monotonic()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        runner = Runner(options.output, options.tiny, Path(temporary))
        runner.start()
        for number, part in enumerate(options.parts, start=1):
            begun = time.monotonic()
            reserved = sum(BUDGETS[later] for later in options.parts[number:])
            about = runner.run(part, began + (TOTAL - reserved) * (SLOWER if options.tiny else 1) - begun)
            update(runner.file, part, **about, seconds=round(time.monotonic() - begun, 1))
            content = read_json(runner.file) | {"seconds": round(time.monotonic() - began, 1)}
            write_json(runner.file, content)
            write_page(options.output, content)
            print(told(part, content["parts"][part]), flush=True)
    return all(about["status"] in FINE for about in content["parts"].values())


class Runner:
    """Runs parts into OUTPUT/gpu.json; `temporary`: a folder for what they leave behind when they are ended."""

    def __init__(self, output: Path, tiny: bool, temporary: Path) -> None:
        self.file, self.log = output / "gpu.json", output / "gpu.log"
        self.tiny, self.temporary = tiny, temporary
        self.context: Any = None

    def start(self) -> None:
        """Begin anew, with what the machine is. UserError if no process of either of `METHODS` can tell it."""
        write_json(self.file, {"tiny": self.tiny, "seconds": 0.0, "parts": {}})
        self.log.write_bytes(b"")
        for method in METHODS:
            self.context = multiprocessing.get_context(method)
            self.context.set_forkserver_preload(PRELOADED)
            about = self.run(MACHINE, STARTING * (SLOWER if self.tiny else 1))
            if about["status"] == "done":
                content = read_json(self.file)
                write_json(self.file, {"machine": content["parts"].pop(MACHINE)["results"], **content})
                return
            print(f"processes started by {method}: {about['reason']}", file=sys.stderr)
        raise UserError(f"no process can use the GPU; {self.log} has why")

    def run(self, part: str, seconds: float) -> dict[str, Any]:
        """Run a part for at most so many `seconds`; its status, and the reason unless it was done."""
        if lacking := missing(part.removesuffix(COMPILED)):
            return {"status": "skipped", "reason": f"needs {', '.join(lacking)}"}
        if seconds < LEAST:
            return {"status": "skipped", "reason": f"no time is left; --parts {part} has it all"}
        update(self.file, part, status="running")
        arguments = (part, self.file, self.tiny, seconds, self.log, self.temporary)
        child = self.context.Process(target=run_part, args=arguments)
        child.start()
        try:
            child.join(seconds)
            stopped = child.is_alive()
        finally:
            _end(child)
        if stopped:
            return {"status": "stopped", "reason": f"after its {seconds:.0f} s"}
        if child.exitcode:
            return {"status": "failed", "reason": f"exit code {child.exitcode}: {_last_line(self.log)}"}
        about = read_json(self.file)["parts"][part]
        return {} if about["status"] == "skipped" else {"status": "done"}


def run_part(part: str, file: Path, tiny: bool, seconds: float, log: Path, temporary: Path) -> None:
    """Run a part in this process, which leads a group of its own, prints into `log` and leaves files in `temporary`."""
    os.setsid()
    with log.open("ab") as output:
        output.write(f"\n== {part}\n".encode())
        output.flush()
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", 1, "utf-8", closefd=False) for stream in (1, 2))
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    from ccl.analysis.gpu_parts import Skipped

    run = find_part(part)
    gc.freeze()  # what is imported is no garbage: timing collects between rounds, half a second each otherwise
    try:
        run(partial(note, file, part), tiny, seconds)
    except Skipped as reason:
        update(file, part, status="skipped", reason=str(reason))


def find_part(name: str) -> Part:
    """Find the function of a part; its imports take seconds."""
    from ccl.analysis.gpu_attention import attention
    from ccl.analysis.gpu_commands import gpu_tests, toy
    from ccl.analysis.gpu_parts import LEARNS, describe, plan, sampling, training

    commands: dict[str, Part] = {MACHINE: describe, "plan": plan, "tests": gpu_tests, "toy": toy}
    if name in commands:
        return commands[name]
    what, compiled = name.removesuffix(COMPILED), name.endswith(COMPILED)
    if what == "sampling":
        return sampling(compiled)
    return training(what, compiled) if what in LEARNS else attention(what, compiled)


def check_gpu(tiny: bool) -> None:
    """Raise UserError without a GPU, unless `tiny`. Nothing is begun on it here: a process begins on it once."""
    import torch

    if not tiny and not torch.cuda.is_available():
        raise UserError("torch finds no NVIDIA GPU here; --tiny checks the script without one")


def told(part: str, about: Mapping[str, Any]) -> str:
    """Tell how a part ended, in one line."""
    reason = f": {about['reason']}" if "reason" in about else ""
    return f"{part:20s}{about['seconds']:7.1f} s  {about['status']}{reason}"


def note(file: Path, part: str, **values: Any) -> None:
    """Put values of a part into the file of results."""
    results = read_json(file)["parts"][part].get("results", {})
    update(file, part, results=results | values)


def update(file: Path, part: str, **about: Any) -> None:
    """Put what is known about a part into the file of results."""
    content = read_json(file)
    content["parts"][part] = content["parts"].get(part, {}) | about
    write_json(file, content)


def _end(child: Any) -> None:
    """End what is left of a part: its process and those that it began."""
    with suppress(ProcessLookupError):  # nothing is left, or its group is not there yet
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()


def _last_line(log: Path) -> str:
    lines = log.read_bytes().decode("utf-8", errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
