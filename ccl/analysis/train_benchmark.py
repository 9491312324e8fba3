"""Training steps measured: their parts, their share of the machine, and one checkout against another, step by step.

`python scripts/benchmark.py train` is its command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ccl.analysis.benchmark_options import ROOT, Train
from ccl.analysis.roofline import count_work, roofline
from ccl.analysis.timing import MIB, Spread, in_turns, paired_ratio, peak_bytes
from ccl.training import timed_steps
from ccl.training.timed_steps import PARTS
from shared.utils.errors import UserError

WARMUP = 2
SIDES = ("here", "there")


def train_benchmark(options: Train, device: str) -> tuple[dict[str, Any], str]:
    """Measure what `options` ask for: numbers, and the table. UserError for a recipe that cannot be trained."""
    settings = {
        "config": str(options.config.resolve()), "overrides": options.settings, "task": options.task,
        "seconds": options.seconds, "device": device,
    }  # fmt: skip
    if options.against_checkout is not None:
        return _against(options, settings, options.against_checkout.resolve())
    with tempfile.TemporaryDirectory() as folder:
        steps = timed_steps.build(settings, Path(folder))
        taken: list[dict[str, float]] = []
        whole = in_turns({"step": lambda: taken.append(steps.step())}, options.repeats, device, WARMUP)["step"]
        peak = peak_bytes(steps.step, device)
        counted = count_work(steps.step)
    median, flops = Spread.of(whole).median, taken[-1]["flops"]
    precision = torch.bfloat16 if steps.config.train.precision == "bf16" else torch.float32
    bound = roofline(counted, precision, device)
    parts = {name: Spread.of([step[name] for step in taken[WARMUP:]]) for name in PARTS}
    rows = [*parts.items(), ("whole", Spread.of(whole)), ("cpu", Spread.of([step["cpu"] for step in taken[WARMUP:]]))]
    results: dict[str, Any] = {"seconds": {name: spread._asdict() for name, spread in rows}, "peak_bytes": peak}
    results |= {"model_flops": flops, "mfu_of_matmul_rate": flops / median / bound.rates.flops}
    lines = [f"{options.task}, {options.batch} clips of {options.seconds:g} s, {options.config.name}, {precision}", ""]
    lines += [f"{name:12s}{spread.text(1e-3)} ms" for name, spread in rows]
    lines += [
        f"peak memory beyond weights and optimizer: {peak / MIB:.1f} MiB",
        f"model FLOPs of a step: {flops / 1e9:.2f} G; MFU {results['mfu_of_matmul_rate']:.1%} of the matmul rate",
        bound.text(median),
    ]
    return results | {"roofline": bound.facts(median)}, "\n".join(lines)


def _against(options: Train, settings: dict[str, Any], there: Path) -> tuple[dict[str, Any], str]:
    """Time steps of both checkouts in turns, after their first gradients were compared."""
    here = settings | {"overrides": [*options.settings, *options.overrides_here]}
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pair = zip(SIDES, (ROOT, there), (here, settings), strict=True)
        workers = {side: stack.enter_context(worker(root, given)) for side, root, given in pair}
        losses = {side: one.ask(f"gradients {folder / side}")["loss"] for side, one in workers.items()}
        apart = gradients_apart(folder)
        forms = {side: lambda side=side, one=one: taken[side].append(one.ask("step")) for side, one in workers.items()}
        seconds = in_turns(forms, options.repeats, warmup=WARMUP)
    ratio = paired_ratio(*(seconds[side] for side in reversed(SIDES)))
    spreads = {side: Spread.of(seconds[side]) for side in SIDES}
    parts = {
        name: paired_ratio(*([step[name] for step in taken[side][WARMUP:]] for side in reversed(SIDES)))
        for name in (*PARTS, "cpu")
    }
    loss = abs(losses["here"] - losses["there"]) / abs(losses["there"])
    results = {
        "seconds": {side: spread._asdict() for side, spread in spreads.items()}, "speed_up": ratio._asdict(),
        "speed_up_of_parts": {name: part._asdict() for name, part in parts.items()},
        "first_loss_apart": loss, "first_gradients_apart": apart,
    }  # fmt: skip
    lines = [f"{options.task}, {options.batch} clips of {options.seconds:g} s, {options.config.name}; in turns", ""]
    lines += [
        f"{side:8s}{spread.text(1e-3)} ms  {root}"
        for (side, spread), root in zip(spreads.items(), (ROOT, there), strict=True)
    ]
    lines += [f"there / here, paired: {_interval(ratio)}, {ratio.runs} rounds"]
    lines += [f"    {name:12s}{_interval(part)}" for name, part in parts.items()]
    lines += [f"first step: losses differ by {loss:.1e}, gradients by at most {apart:.1e} (relative, per parameter)"]
    return results, "\n".join(lines)


def _interval(ratio: Spread) -> str:
    return f"{ratio.median:.3f}, 95 % interval {ratio.low:.3f} to {ratio.high:.3f}"


def gradients_apart(folder: Path) -> float:
    """Largest |here − there| / |there| of a parameter's gradients, of two files named after `SIDES`.

    Norms below a millionth of the whole gradient's count as that. UserError if the parameters are not the same ones.
    """
    here, there = (load_file(folder / side) for side in SIDES)
    if here.keys() != there.keys():
        name = sorted(here.keys() ^ there.keys())[0]
        raise UserError(f"--against-checkout: gradients of {name} are in one of both checkouts only")
    whole = torch.stack([gradient.double().norm() for gradient in there.values()]).norm()
    return max(
        float((here[name].double() - gradient.double()).norm() / max(gradient.double().norm(), 1e-6 * whole))
        for name, gradient in there.items()
    )


class Worker:
    """A process that takes steps of one checkout when it is asked (`ccl.training.timed_steps.main`)."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def ask(self, command: str) -> dict[str, Any]:
        """Send a line and wait for the answer. UserError with the process's last words if it ended."""
        assert self.process.stdin is not None and self.process.stdout is not None, "both are pipes"
        try:
            if command:
                print(command, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no word"]
            raise UserError(f"a checkout cannot train this recipe: {said[-1].removeprefix('error: ')}")
        return dict(json.loads(answer))


@contextmanager
def worker(checkout: Path, settings: dict[str, Any]) -> Iterator[Worker]:
    """Start a process with the code of `checkout`, and end it. UserError if that cannot train."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_WAIT_POLICY": "PASSIVE"}  # one waits while one works
    command = [sys.executable, "-P", str(Path(timed_steps.__file__)), json.dumps(settings)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stderr=log, **pipes)
        try:
            started = Worker(process, Path(folder) / "log")
            started.ask("")
            yield started
        finally:
            process.kill()
            process.communicate()
