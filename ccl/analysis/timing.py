"""Time and memory measured so that a busy machine does not decide: turns, medians, paired ratios; and the machine.

A timing alone says little where others use the machine, or it warms up. So what is compared takes turns in one process,
round by round, and each round gives one ratio.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel
from torch.profiler import ProfilerActivity, profile

from shared.evaluation.bootstrap import interval, resample
from shared.utils.files import write_json
from shared.utils.portable import portable
from shared.utils.rng import numpy_generator
from shared.utils.version import commit

MIB = 2**20
COPIED = 256 * MIB  # more than the last cache of most machines


class Spread(NamedTuple):
    """Median, quartiles and number of some measurements."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value at least."""
        low, high = (float(np.quantile(values, share)) for share in (0.25, 0.75))
        return cls(statistics.median(values), low, high, len(values))

    def text(self, unit: float = 1.0) -> str:
        """Write "median (low to high)", each divided by `unit`."""
        return f"{self.median / unit:.4g} ({self.low / unit:.4g} to {self.high / unit:.4g})"


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Median over the rounds of ours/theirs; `low` and `high` are its 95 % bootstrap interval.

    ValueError unless both have the same number of rounds, one at least.
    """
    ratios = np.array([a / b for a, b in zip(ours, theirs, strict=True)])
    medians = np.median(ratios[resample(numpy_generator(0, "rounds"), len(ratios))], axis=1)
    low, high = interval(medians) or (float("nan"),) * 2
    return Spread(float(np.median(ratios)), low, high, len(ratios))


def in_turns(
    forms: Mapping[str, Callable[[], object]], repeats: int, device: torch.device | str = "cpu", warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each of `forms` in each of `repeats` rounds, after `warmup` rounds that do not count.

    A round runs every form once; the next one in the opposite order, so that none is always the first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    names, collects = list(forms), gc.isenabled()
    gc.collect()
    gc.freeze()  # what is there already need not be looked at in each round
    try:
        for number in range(-warmup, repeats):
            gc.collect()
            gc.disable()  # a collection in one form's time would be the garbage of another
            for name in names[:: -1 if number % 2 else 1]:
                elapsed = seconds_of(forms[name], device)
                if number >= 0:
                    seconds[name].append(elapsed)
    finally:
        gc.unfreeze()
        if collects:
            gc.enable()
    return seconds


def seconds_of(run: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Seconds of one call, what it left to do on the device included."""
    wait(device)
    started = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device | str) -> None:
    """Wait for what a GPU was given to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(run: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Most bytes that one call holds at once beyond what was there before, those inside kernels too."""
    if torch.device(device).type == "cuda":
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    gc.collect()  # what is garbage now would be freed meanwhile
    # the profiler's record of every allocation
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else a line on stderr at each start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        run()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events), default=0)


def matmul_rate(
    shapes: Iterable[tuple[int, int, int]], dtype: torch.dtype, device: torch.device | str = "cpu", repeats: int = 5
) -> float:
    """Operations per second of the products [m, k] x [k, n] of `shapes` (m, k, n), all together, each in its fastest
    of `repeats` runs: what a model of these shapes could reach at best. A shape that comes often counts as often."""
    operations, seconds = 0, 0.0
    for (m, k, n), times in Counter(shapes).items():
        a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)
        seconds += times * _fastest(partial(torch.nn.functional.linear, a, b), repeats, device)
        operations += times * 2 * m * k * n
    return operations / seconds


def copy_rate(device: torch.device | str = "cpu", size: int = COPIED, repeats: int = 5) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes, in its fastest of `repeats` runs."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _fastest(partial(target.copy_, source), repeats, device)


def _fastest(run: Callable[[], object], repeats: int, device: torch.device | str) -> float:
    """Seconds of the fastest call, one before them not counted."""
    run()
    return min(seconds_of(run, device) for _ in range(repeats))


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Describe what the measurements are of: processor, GPU, threads, versions, commit of the code."""
    device = torch.device(device)
    facts: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return facts | {"torch": torch.__version__, "python": platform.python_version(), "commit": commit()}


def _processor() -> str:
    """Its name as the system tells it."""
    with suppress(OSError):
        if named := re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8")):
            return named[1]
    return platform.processor() or platform.machine()


def write_report(path: Path, command: str, options: BaseModel, results: Mapping[str, Any]) -> None:
    """Write what `scripts/benchmark.py COMMAND` measured, with its options and the machine, as JSON in one go."""
    settings = portable(options.model_dump(mode="json", exclude={"json_file"}))
    device = "cuda" if torch.cuda.is_available() and settings.get("device") != "cpu" else "cpu"
    about = {"command": command, "options": settings, "machine": machine(device)}
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_json(path, about | {"results": dict(results)})
