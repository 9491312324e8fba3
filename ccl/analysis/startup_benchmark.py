"""Start-up measured: seconds from the start of a process to its options, its imports, its model, its first step.

`python scripts/benchmark.py startup` is its command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccl.analysis import startup_marks
from ccl.analysis.benchmark_options import ROOT, Startup
from ccl.analysis.startup_marks import MARKS
from ccl.analysis.timing import Spread
from shared.utils.errors import UserError

PROMPT = "Scene description: a big yellow bell rings twice under a warm bright light."
#: Seconds on the clock, and of the processor, by mark.
Marks = dict[str, tuple[float, float]]
TOLD = {
    "options": "options parsed", "imports": "imports done, loading begins", "loaded": "checkpoint loaded",
    "step begins": "first step begins", "step done": "first evaluation done",
}  # fmt: skip


def startup_benchmark(options: Startup) -> tuple[dict[str, Any], str]:
    """Measure what `options` ask for: numbers, and the table. UserError with its last words for a script that ends
    before its first step."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if options.threads is not None:
        environment["OMP_NUM_THREADS"] = str(options.threads)
    marks: dict[str, list[Marks]] = {script: [] for script in options.scripts}
    with tempfile.TemporaryDirectory() as temporary:
        sound = silent_wav(Path(temporary) / "sound.wav")
        given = {"sample_joint": (), "sample_mtv": ("--effects", str(sound))}
        output = str(Path(temporary) / "out.mp4")
        common = "--prompt", PROMPT, "--checkpoint", str(options.checkpoint.resolve()), "--output", output
        for _ in range(1 + options.repeats):
            for script, taken in marks.items():
                command = [str(ROOT / "scripts" / f"{script}.py"), *common, *given[script]]
                taken.append(started(command, Path(temporary) / "marks.json", environment))
    results: dict[str, Any] = {"threads": options.threads, "seconds": {}}
    head = f"{'from the start of the process':36s}{'seconds':32s}seconds of the processor"
    lines = [f"checkpoint {options.checkpoint.name}; files were read before", "", head]
    for script, taken in marks.items():
        lines += ["", f"{script}.py"]
        for mark in MARKS:
            wall, cpu = (Spread.of([one[mark][kind] for one in taken[1:]]) for kind in (0, 1))
            results["seconds"].setdefault(script, {})[mark] = {"wall": wall._asdict(), "cpu": cpu._asdict()}
            lines.append(f"    {TOLD[mark]:32s}{wall.text():32s}{cpu.text()}")
    return results, "\n".join(lines)


def started(command: Sequence[str], file: Path, environment: dict[str, str]) -> Marks:
    """Start a script, and return the seconds that passed, and those for which it ran, until each of `MARKS`."""
    file.unlink(missing_ok=True)
    begun = time.time()
    watched = [sys.executable, "-P", str(startup_marks.__file__), str(file), *command]
    done = subprocess.run(watched, env=environment, capture_output=True, text=True, check=False)
    if not file.is_file():
        said = done.stderr.strip().splitlines() or ["it took no step"]
        raise UserError(f"{Path(command[0]).name}: {said[-1].removeprefix('error: ')}")
    marks = json.loads(file.read_text(encoding="utf-8"))
    return {mark: (at - begun, ran) for mark, (at, ran) in marks.items()}


def silent_wav(path: Path, seconds: float = 2.0, rate: int = 16_000) -> Path:
    """Write a track on which nothing happens: what it holds changes no time."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(seconds * rate)))
    return path
