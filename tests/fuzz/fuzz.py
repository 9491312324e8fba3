"""Damaged files to the commands that read them: `make fuzz`, or `python tests/fuzz/fuzz.py --files 2000 --seed 0`.

File number n of a seed is always the same: a whole small file of one kind, with bytes flipped, cut, repeated, zeroed or
put in. Each goes to one command, in a process of its own that is forked from one with everything imported. The command
must end with 0 or 2 (1 where clips may fail by name), without a traceback, in 10 s of processor time and 2 GB, and what
it had written before must be whole: unchanged after a refusal, with nothing half-written beside it.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.fuzz.seeds import kinds, make_seeds, prepare  # noqa: E402  the paths come first

# On a busy machine seconds by the clock say little: they end only what waits for ever.
CPU_S, WALL_S, MEMORY = 10, 600, 2 * 2**30
#: What a command that was refused must not leave.
HALF = re.compile(r"\..+\.(part|partial)")
DAMAGES = ("flip", "cut", "repeat", "zero", "insert")


@dataclass(frozen=True)
class Result:
    """What became of file `number`: "accepted", "refused", or what went wrong."""

    number: int
    kind: str
    what: str
    outcome: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.outcome not in ("accepted", "refused")


def damaged(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Damage a file in one of the ways of `DAMAGES`, once to three times; the bytes, and how."""
    data, ways = bytearray(content), []
    for _ in range(rng.integers(1, 4)):
        way = DAMAGES[rng.integers(len(DAMAGES))]
        size = max(1, len(data))
        at, length = int(rng.integers(size)), int(rng.integers(1, max(2, min(size, 4096))))
        if way == "flip":
            for place in rng.integers(size, size=rng.integers(1, 20)):
                data[place : place + 1] = bytes([int(rng.integers(256))])
        elif way == "cut":
            del data[at : size if rng.random() < 0.5 else at + length]
        elif way == "repeat":
            data[at:at] = data[at : at + length] * int(rng.integers(1, 4))
        elif way == "zero":
            data[at : at + length] = bytes(min(length, max(0, size - at)))
        else:
            data[at:at] = rng.bytes(length)
        ways.append(f"{way} {at}")
    return bytes(data), ", ".join(ways)


def run_one(seeds: Path, seed: int, number: int) -> Result:
    """Damage file `number`, give it to its command, and look at what is left."""
    rng = np.random.default_rng([seed, number])
    every = kinds()
    kind = every[number % len(every)]
    command = kind.commands[int(rng.integers(len(kind.commands)))]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        case = Path(temporary)
        file, output = prepare(seeds, kind, case)
        content, how = damaged(file.read_bytes(), rng)
        file.write_bytes(content)
        before = _digests(case / "in"), _digests(output)
        argv = command.argv(case / "in", file, output)
        code, said, usage, wall = forked(lambda: command.run(argv), case / "said")
        what = f"{file.name}: {how} -> {command.name}"
        outcome, detail = judge(code, said, usage, wall, command.may_fail)
        if outcome in ("accepted", "refused"):
            after = _digests(case / "in"), _digests(output)
            parts = {name: Path(name).parts for name in after[1]}
            left = [name for name in parts if any(HALF.fullmatch(part) for part in parts[name])]
            if before[0] != after[0] and not command.writes_input:
                outcome, detail = "input changed", str(sorted(before[0].items() ^ after[0].items())[:2])
            elif left:
                outcome, detail = "half-written", str(left)
            elif outcome == "refused" and code == 2 and before[1] != after[1]:
                outcome, detail = "output changed", str(sorted(set(before[1].items()) ^ set(after[1].items()))[:2])
    return Result(number, kind.name, what, outcome, detail)


def judge(code: int, said: str, usage: Any, wall: float, may_fail: bool) -> tuple[str, str]:
    """Say what an ended command is worth, and why."""
    tail = said.strip()[-600:]
    if code < 0:
        slow = -code in (24, 9)  # SIGXCPU, SIGKILL
        return ("hang" if slow else "killed"), f"signal {-code} after {wall:.0f} s: {tail}"
    if "Traceback (most recent call last)" in said:
        return "traceback", tail
    if usage.ru_maxrss * 1024 > MEMORY:
        return "memory", f"{usage.ru_maxrss / 2**20:.1f} GB: {tail}"
    if code not in (0, 2) and not (code == 1 and may_fail):
        return f"exit {code}", tail
    if code == 2 and not tail:
        return "silent refusal", ""
    return ("accepted" if code == 0 else "refused"), tail


def forked(action: Callable[[], None], said: Path) -> tuple[int, str, Any, float]:
    """Run `action` in a forked process: its exit code (negative: a signal), what it said, what it took, seconds."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _limited(action, said)
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() - begun > WALL_S:
            os.kill(child, 9)
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(status)
    return code, said.read_text(encoding="utf-8", errors="replace"), usage, time.monotonic() - begun


def _limited(action: Callable[[], None], said: Path) -> None:
    """The child: never returns."""
    code = 70
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        faulthandler.disable()  # pytest's would tell of a child's crash beside the tests
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        action()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@cache
def _warm() -> None:
    """Import what commands need and run each kind's once on a whole file, before anything is forked."""
    for kind in kinds():
        for command in kind.commands:
            command.warm()


def _worker(task: tuple[Path, int, int]) -> Result:
    _warm()
    return run_one(*task)


def run_all(seed: int, count: int, processes: int = 2, quiet: bool = False) -> Iterator[Result]:
    """Results of the files 0 .. count - 1 of a seed, as they come."""
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as temporary:
        seeds = Path(temporary)
        make_seeds(seeds)
        tasks = [(seeds, seed, number) for number in range(count)]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            yield from tqdm(pool.imap_unordered(_worker, tasks), total=count, unit="file", disable=quiet)


def table(results: list[Result]) -> str:
    """By kind: files accepted, refused, failed."""
    lines = [f"{'kind':<22}{'accepted':>9}{'refused':>9}{'failed':>9}"]
    for kind in dict.fromkeys(kind.name for kind in kinds()):
        counts = Counter("failed" if r.failed else r.outcome for r in results if r.kind == kind)
        lines.append(f"{kind:<22}{counts['accepted']:>9}{counts['refused']:>9}{counts['failed']:>9}")
    return "\n".join(lines)


def main() -> None:
    """Run; every failure with its seed and number as it comes, and the table; exit code 1 if there is a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", type=int, help="this number alone, with what the command says")
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as temporary:
            make_seeds(Path(temporary))
            print(run_one(Path(temporary), options.seed, options.only))
        return
    results: list[Result] = []
    try:
        for result in run_all(options.seed, options.files, options.processes):
            results.append(result)
            if result.failed:
                said = f"{result.kind}: {result.outcome}: {result.what}\n{result.detail}"
                tqdm.write(f"seed {options.seed}, number {result.number}, {said}")
    except KeyboardInterrupt:
        print("stopped")
    print(table(results))
    failures = [result for result in results if result.failed]
    print(f"\n{len(results)} files, {len(failures)} failures, seed {options.seed}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
