"""Kill trainings, warn them, fill their disk, at every kind of write; each must go on to what it would have been.

    python tests/crash/crash.py --cases 100 --seed 0

A tiny model is trained on four clips, with one process and with two, from clips to samples and checkpoint. In each case
it is interrupted once, at a write that the seed chooses (`faults.py`); the kinds of writes, of faults and of runs come
in turn. Then the same command goes on without a fault. Weights, losses, samples and shards must equal those of a run
that was not interrupted, to the bit; nothing half-written may be left; nobody prints a traceback; the exit codes are
those of the manual. A table on stdout, exit code 1 if a case failed. The runs are forks of this process, which has
everything imported.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", DS_ACCELERATOR="cpu")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import train_ccl  # noqa: E402
import yaml  # noqa: E402
from faults import KINDS, Fault, Faults  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import ccl.training.build  # noqa: E402
import ccl.training.objective  # noqa: E402
import ccl.training.run  # noqa: E402
from shared.data.media import write_video  # noqa: E402
from shared.utils.errors import run_main  # noqa: E402

ccl.training.objective.task_flops = lambda *_: 0.0  # of throughput.csv alone; takes longer than the steps
FPS, CLIPS, LIMIT = 8, 4, 600.0
CODES: dict[Fault, tuple[int, ...]] = {"kill": (-signal.SIGKILL,), "term": (128 + signal.SIGTERM,), "full": (2,)}


@dataclass
class Ended:
    """Exit codes by rank, stderr of all, and the writes of the rank that was watched."""

    codes: list[int]
    said: str
    writes: list[list[str]]


class Bench:
    """Four clips, a configuration for each number of processes, and what an uninterrupted run makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "clips").mkdir(parents=True)
        for index in range(CLIPS):
            rng = np.random.default_rng(index)
            frames = np.kron(rng.integers(0, 255, (FPS, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
            sound = (0.3 * rng.standard_normal((1, 16000))).astype(np.float32)
            write_video(folder / f"clips/clip{index}.mp4", frames, FPS, sound, 16000)
            (folder / f"clips/clip{index}.txt").write_text(f"Clip {index} of noise.")
        self.run(self.output("warm", 1), 1)
        for name in (self.output("warm", 1).parent / "modules").read_text().split():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)  # what a run imports late, the forks then have
        gc.freeze()  # nor need they look through it for garbage
        self.whole = {ranks: self.run(self.output("whole", ranks), ranks) for ranks in (1, 2)}
        for ranks, ended in self.whole.items():
            assert ended.codes == [0] * ranks, ended.said

    def output(self, name: str, ranks: int) -> Path:
        return self.folder / f"{name}-{ranks}" / "run"

    def run(self, output: Path, ranks: int, fault: Fault = "", at: int = -1, rank: int = 0) -> Ended:
        """Train into `output`; the fault comes to one rank."""
        config = output.parent / "config.yaml"
        config.parent.mkdir(exist_ok=True)
        config.write_text(yaml.safe_dump(self._config(output, ranks)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        logs = [output.parent / f"log{number}" for number in range(ranks)]
        children = [
            self._child(config, output, number, ranks, port, fault if number == rank else "", at, logs[number])
            for number in range(ranks)
        ]
        codes = _ended(children)
        notes = output.parent / f"writes{rank}"
        writes = [line.split("\t") for line in notes.read_text().splitlines()] if notes.exists() else []
        return Ended(codes, "".join(log.read_text(errors="replace") for log in logs), writes)

    def _child(
        self, config: Path, output: Path, rank: int, ranks: int, port: str, fault: Fault, at: int, log: Path
    ) -> int:
        if child := os.fork():
            return child
        code = 1
        try:
            with open(log, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            (faults := Faults(output, fault, at)).install()
            try:
                run_main(lambda: train_ccl.main(["--config", str(config)]))
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            (output.parent / "modules").write_text("\n".join(sys.modules))
            (output.parent / f"writes{rank}").write_text("".join(f"{kind}\t{what}\n" for kind, what in faults.writes))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _config(self, output: Path, ranks: int) -> dict:
        stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
        return {
            "output": str(output),
            "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
            "data": {"manifest": str(self.folder / "clips"), "fps": FPS, "size": [32, 32]},
            "train": {
                "steps": 5, "micro_batch": 4 // ranks, "checkpoint_every": 2, "log_every": 3, "ema": 0.5,
                "report_to": [],
            },
            "optimizer": {"warmup": 0},
            "validation": {"every": 3, "clips": 1, "steps": 1},
        }  # fmt: skip


def _ended(children: list[int]) -> list[int]:
    """Exit codes. What a launcher does: SIGTERM for the others when one has died, SIGKILL for those that stay."""
    codes: dict[int, int] = {}
    begun, ending, warned = time.monotonic(), 0.0, False
    while len(codes) < len(children):
        for child in [child for child in children if child not in codes]:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if any(codes.values()) and not ending:
            ending = now
        for child in [child for child in children if child not in codes]:
            if (ending and now - ending > 10) or now - begun > LIMIT:
                os.kill(child, signal.SIGKILL)
            elif ending and now - ending > 1 and not warned:
                os.kill(child, signal.SIGTERM)
        warned = warned or (bool(ending) and now - ending > 1)
        time.sleep(0.02)
    return [codes[child] for child in children]


def differences(whole: Path, other: Path) -> list[str]:
    """What of a run's results is not that of the uninterrupted one, and what is left over."""
    found = []
    names = [file.relative_to(whole) for file in sorted(whole.rglob("*")) if file.is_file()]
    compared = [name for name in names if name.suffix in (".mp4", ".csv") and name.name != "throughput.csv"]
    found += [f"{name} differs" for name in compared if _bytes(whole / name) != _bytes(other / name)]
    found += ["records differ"] if _records(whole / "latents") != _records(other / "latents") else []
    for name in (name for name in names if name.parts[0] == "checkpoint" and name.suffix == ".safetensors"):
        first, second = (load_file(folder / name) if (folder / name).exists() else {} for folder in (whole, other))
        if first.keys() != second.keys() or not all(torch.equal(first[key], second[key]) for key in first):
            found.append(f"{name} differs")
    there = {file.relative_to(other) for file in other.rglob("*") if file.is_file()}
    extra = sorted(name for name in there - set(names) if not re.fullmatch(r"latents/\d+\.(tar|json)", str(name)))
    return found + [f"{name} is left over" for name in extra]


def _records(folder: Path) -> list[list[bytes]]:
    """Contents of all records, however spread over shards: who encodes which clip depends on what is missing."""
    found: dict[str, list[bytes]] = {}
    for file in sorted(folder.glob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                found.setdefault(f"{file}{member.name.partition('.')[0]}", []).append(content.read())
    return sorted(found.values())


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def main() -> None:
    """Run the cases and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="take every nth of the kinds in turn")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, which then stay")
    options = parser.parse_args()
    folder, begun, failed = options.keep or Path(tempfile.mkdtemp()), time.monotonic(), 0
    bench = Bench(folder)
    turns = itertools.cycle(itertools.product(("kill", "term", "full"), KINDS, (1, 2)))
    order = itertools.islice(turns, 0, None, options.every)
    print(f"seed {options.seed}; writes of an uninterrupted run: {[len(run.writes) for run in bench.whole.values()]}")
    for case, (fault, kind, ranks) in zip(range(options.cases), order, strict=False):
        rng = random.Random(f"{options.seed} {case}")
        places = [number for number, (of, _) in enumerate(bench.whole[ranks].writes) if of == kind]
        at = rng.choice(places)
        what = bench.whole[ranks].writes[at][1]
        output = bench.output(f"case{case:03d}", ranks)
        first = bench.run(output, ranks, fault, at)
        second = bench.run(output, ranks)
        wrong = differences(bench.output("whole", ranks), output) if second.codes == [0] * ranks else ["no resume"]
        wrong += [] if first.codes[0] in CODES[fault] else [f"exit codes {first.codes}"]
        wrong += ["a traceback"] if "Traceback" in first.said + second.said else []
        failed += bool(wrong)
        verdict = f"FAILED: {'; '.join(wrong)}" if wrong else "equal"
        print(
            f"{case:3d} {ranks} {fault:4s} {kind:10s} {first.codes!s:12s} write {at:3d} {what}: {verdict}",
            flush=True,
        )
        if wrong:
            print("\n".join(f"      {line}" for line in (first.said + second.said).splitlines()[-25:]))
        elif options.keep is None:
            shutil.rmtree(output.parent)
    print(
        f"{options.cases - failed} of {options.cases} equal to the uninterrupted run, {time.monotonic() - begun:.0f} s"
    )
    if options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
