"""`scripts/gpu.py`: all of it on tiny models on a CPU, and what it says where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gpu
import pytest

from ccl.analysis.gpu_run import BUDGETS
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]
SPEED = {"seconds", "fastest", "slowest", "flops", "rate", "mfu_of_matmul", "mfu_of_nominal", "hfu_of_nominal"}
MODEL = {
    "model", "parameters", "learning", "video_tokens", "audio_tokens", "matmul_rate", "nominal_rate", "forecast_bytes",
    "peak_bytes",
}  # fmt: skip
COMPILED = {"compile_seconds", "compiled_frames", "graph_breaks"}
BACKEND = {
    "model", "video_tokens", "audio_tokens", "equal", "output_error", "gradient_error", "worst", "worst_error",
    "native_error_there", "forward_seconds", "both_seconds", "peak_bytes",
}  # fmt: skip
FIELDS = {
    "plan": {"sampling_bytes", "adapters_bytes", "full_bytes", "all_adamw_bytes", "all_adamw_of"},
    "sampling": MODEL | {"passes_of_a_step", "pass", "step"},
    "adapters": MODEL | {"step", "losses"}, "full": MODEL | {"step", "losses"}, "native": BACKEND,
    "tests": {"tests", "failures", "errors", "skipped"},
    "toy": {"clips", "clip_seconds", "train_seconds", "steps", "curves", "video_loss", "audio_loss"},
}  # fmt: skip
NOT_HERE = {
    "flash": "needs flash-attn>=2.8",
    "xformers": "needs xformers==0.0.35",
    "flex": "no gradients without a CUDA",
}


def run(output: Path, *words: str) -> dict:
    command = [sys.executable, str(ROOT / "scripts/gpu.py"), "--tiny", "--output", str(output), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = output / "gpu.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text("utf-8") if log.exists() else "")
    assert f"{output}/gpu.md has all of it" in done.stdout
    return json.loads((output / "gpu.json").read_text(encoding="utf-8"))


def check(content: dict, parts: list[str]) -> None:
    """Every part has come to its end with all of its fields, or says why not."""
    assert content["tiny"] and content["seconds"] > 0 and {"processor", "torch"} <= set(content["machine"])
    assert list(content["parts"]) == parts
    for name, about in content["parts"].items():
        what = name.removesuffix("-compiled")
        if what in NOT_HERE:
            assert about["status"] == "skipped" and NOT_HERE[what] in about["reason"]
            continue
        fields = FIELDS[what] | (COMPILED if name != what else set())
        assert about["status"] == "done" and set(about["results"]) == fields, name
        speeds = [value for key, value in about["results"].items() if key in ("pass", "step")]
        assert all(set(speed) == SPEED for speed in speeds)


def test_some_parts_run(tmp_path: Path) -> None:
    check(run(tmp_path / "out", "--parts", "sampling,native,flash"), ["sampling", "native", "flash"])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["gpu.json", "gpu.log", "gpu.md"]


@pytest.mark.slow  # trains the toy world, and traces every block for the compiler
def test_all_parts_run(tmp_path: Path) -> None:
    content = run(tmp_path / "out")
    check(content, list(BUDGETS))
    assert content["parts"]["toy"]["results"]["steps"] == 4
    names = {"gpu.json", "gpu.log", "gpu.md", "losses.svg"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names


def test_wheels_that_are_missing_are_named_a_line_each(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu, "missing", lambda: ["diffusers==0.42.1", "pydantic==2.14.3"])
    with pytest.raises(UserError, match=r"2 wheels are missing; how to carry them: docs/performance\.md, GPU"):
        gpu.main([])
    assert capsys.readouterr().err.splitlines() == [
        "needs the wheel diffusers==0.42.1", "needs the wheel pydantic==2.14.3"
    ]  # fmt: skip


def test_a_part_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="--parts toys: give some of plan,sampling"):
        gpu.main(["--parts", "toys"])
