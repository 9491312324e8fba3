"""Parts of `scripts/gpu.py` that are commands of this repository: the tests that need a GPU, and the toy world.

The toy world's training is stopped by SIGTERM when its time is over, as any training may be; its state is saved then.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ccl.analysis.gpu_parts import Note

ROOT = Path(__file__).resolve().parents[2]
CLIPS, TINY_CLIPS = 256, 4
SECONDS = 120.0  # of training at most
ENDING = 15.0  # seconds that a training may take to save its state
MOST_STEPS = 20_000  # more than two minutes hold
CURVE = 50  # points of a loss curve
JOINT = "phases=[{name: joint, until: 1.0, tasks: {t2av: 0.5, a2v: 0.25, v2a: 0.25}}]"


def gpu_tests(note: Note, tiny: bool, seconds: float) -> None:
    """Run the tests marked `gpu`; without a GPU they skip themselves. Raises RuntimeError if one fails."""
    marked = [
        str(file) for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text("utf-8")
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", f"--junit-xml={report}"]
        accelerator = {"DS_ACCELERATOR": "cpu" if tiny else "cuda"}
        code = subprocess.run([*command, *marked], cwd=ROOT, env=os.environ | accelerator).returncode
        counts = {name: 0 for name in ("tests", "failures", "errors", "skipped")}
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            counts = {name: count + int(suite.get(name, 0)) for name, count in counts.items()}
    note(**counts)
    if code:
        raise RuntimeError(f"pytest ended with exit code {code}; what failed is told above")


def toy(note: Note, tiny: bool, seconds: float) -> None:
    """Make clips and train on them with `scripts/train_ccl.py` for as long as `seconds` and `SECONDS` allow."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clips, output = Path(folder) / "puppets", Path(folder) / "train"
        count = TINY_CLIPS if tiny else CLIPS
        _script("make_puppets.py", "--clips", str(count), "--output", str(clips), "--seed", "1", "--level", "simple")
        note(clips=count, clip_seconds=time.monotonic() - began)
        begun = time.monotonic()
        left = min(SECONDS, seconds - (begun - began) - ENDING)
        code = _train(training_command(clips, output, tiny), left)
        note(train_seconds=time.monotonic() - begun, **loss_curve(output / "losses.csv"))
        if code not in (0, 128 + signal.SIGTERM):
            raise RuntimeError(f"train_ccl.py ended with exit code {code}; why is told above")


def training_command(clips: Path, output: Path, tiny: bool) -> list[str]:
    """Return the script and its options: the shipped model's configuration in bf16, or a tiny one of 4 steps."""
    config = "puppets_tiny" if tiny else "puppets_trial"
    settings = {"data.manifest": f"[{clips / 'manifest.jsonl'}]", "output": output, "train.report_to": "[]"}
    settings |= {"train.checkpoint_every": MOST_STEPS, "validation.every": 0, "train.mixed_tasks": "false"}
    if tiny:
        settings |= {"train.steps": 4, "train.micro_batch": 2, "train.log_every": 1}
    else:
        settings |= {"train.steps": MOST_STEPS, "train.micro_batch": 32, "train.precision": "bf16"}
    overrides = [f"{name}={value}" for name, value in settings.items()] + [JOINT]
    config_file = ROOT / f"configs/train/{config}.yaml"
    return ["train_ccl.py", "--config", str(config_file), *(word for one in overrides for word in ("--set", one))]


def loss_curve(file: Path) -> dict[str, object]:
    """Read losses.csv: the step reached, per stream at most `CURVE` points [step, loss], and first and last of them."""
    sums: dict[str, dict[int, list[float]]] = {"video": defaultdict(lambda: [0.0, 0.0]), "audio": {}}
    sums["audio"] = defaultdict(lambda: [0.0, 0.0])
    with file.open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            of_step, samples = sums[row["stream"]][int(row["step"])], float(row["samples"])
            of_step[0] += float(row["loss"]) * samples
            of_step[1] += samples
    curves = {stream: _thinned([(s, total / n) for s, (total, n) in of.items()]) for stream, of in sums.items()}
    ends = {f"{stream}_loss": [curve[0][1], curve[-1][1]] for stream, curve in curves.items()}
    return {"steps": max(step for curve in curves.values() for step, _ in curve), "curves": curves, **ends}


def _thinned(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """Join neighbours until at most `CURVE` points are left: the last step of each group and the mean of its losses."""
    size = -(-len(points) // CURVE)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [[group[-1][0], sum(loss for _, loss in group) / len(group)] for group in groups]


def _script(name: str, *words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / name), *words], cwd=ROOT, check=True)


def _train(words: list[str], seconds: float) -> int:
    """Run a training for `seconds` at most; its exit code."""
    child = subprocess.Popen([sys.executable, str(ROOT / "scripts" / words[0]), *words[1:]], cwd=ROOT)
    try:
        return child.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
        return child.wait()
    finally:
        if child.poll() is None:
            child.kill()
