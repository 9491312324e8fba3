"""Parts as processes: one that crashes, hangs or is refused takes nothing along, and what was found is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccl.analysis import gpu_run
from ccl.analysis.gpu_parts import Skipped
from ccl.analysis.gpu_run import BUDGETS, TOTAL, GpuOptions, Runner, check_gpu, find_part, measure, note, told, update
from shared.utils.errors import UserError
from shared.utils.files import read_json


def finds(note, tiny, seconds) -> None:
    note(first=1)
    note(second=seconds)


def refuses(note, tiny, seconds) -> None:
    note(first=1)
    raise Skipped("this machine is too small")


def fails(note, tiny, seconds) -> None:
    note(first=1)
    raise RuntimeError("CUDA error: an illegal memory access")


def dies(note, tiny, seconds) -> None:
    note(first=1)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(note, tiny, seconds) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note(first=1, grandchild=child.pid)
    time.sleep(60)


PARTS = {"machine": finds, "plan": finds, "sampling": refuses, "full": fails, "native": dies, "adapters": hangs}


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """One whose processes are forked from this one, and know the parts above."""
    monkeypatch.setattr(gpu_run, "METHODS", ("fork",))
    monkeypatch.setattr(gpu_run, "find_part", PARTS.__getitem__)
    monkeypatch.setattr(gpu_run, "LEAST", 0.1)
    runner = Runner(tmp_path, True, tmp_path)
    runner.start()
    return runner


def test_a_part_ends_as_it_does_and_keeps_what_it_found(runner: Runner) -> None:
    assert runner.run("plan", 30.0) == {"status": "done"}
    assert runner.run("full", 30.0) == {
        "status": "failed", "reason": "exit code 1: RuntimeError: CUDA error: an illegal memory access"
    }  # fmt: skip
    assert runner.run("native", 30.0)["reason"].startswith("exit code -9: ")
    assert runner.run("sampling", 30.0) == {}
    parts = read_json(runner.file)["parts"]
    assert (parts["sampling"]["status"], parts["sampling"]["reason"]) == ("skipped", "this machine is too small")
    assert {name: part["results"]["first"] for name, part in parts.items()} == dict.fromkeys(parts, 1)
    assert parts["plan"]["results"]["second"] == 30.0 and "an illegal memory access" in runner.log.read_text("utf-8")


def test_a_part_that_hangs_is_ended_with_all_that_it_began(runner: Runner) -> None:
    assert runner.run("adapters", 3.0) == {"status": "stopped", "reason": "after its 3 s"}
    grandchild = read_json(runner.file)["parts"]["adapters"]["results"]["grandchild"]
    for _ in range(100):
        state = Path(f"/proc/{grandchild}/stat")
        if not state.exists() or state.read_text("utf-8").split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the grandchild still runs")


def test_what_is_lacking_is_skipped_by_name(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner.run("plan", 0.01)["reason"] == "no time is left; --parts plan has it all"
    monkeypatch.setattr(gpu_run, "missing", lambda part: ["flash-attn>=2.8"] if part == "flash" else [])
    assert runner.run("flash-compiled", 30.0) == {"status": "skipped", "reason": "needs flash-attn>=2.8"}


def test_the_second_way_to_start_processes_is_tried_and_said(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu_run, "METHODS", ("fork", "fork"))
    monkeypatch.setattr(gpu_run, "find_part", {"machine": fails}.__getitem__)
    with pytest.raises(UserError, match=r"no process can use the GPU; .*gpu\.log has why"):
        Runner(tmp_path, True, tmp_path).start()
    assert capsys.readouterr().err.count("processes started by fork: exit code 1: RuntimeError: CUDA error") == 2


def test_all_parts_are_known_and_fit_into_seven_minutes() -> None:
    assert sum(BUDGETS.values()) <= TOTAL < 7 * 60
    assert all(callable(find_part(name)) for name in BUDGETS)


def test_without_a_gpu_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="no NVIDIA GPU here; --tiny checks the script without one"):
        measure(GpuOptions(output=tmp_path / "out"))
    check_gpu(True)
    assert not (tmp_path / "out").exists()


def test_notes_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    file.write_text('{"parts": {"plan": {"status": "running"}}}', encoding="utf-8")
    note(file, "plan", one=1)
    note(file, "plan", two=2)
    update(file, "plan", status="failed", seconds=1.5, reason="why")
    about = read_json(file)["parts"]["plan"]
    assert about["results"] == {"one": 1, "two": 2}
    assert told("plan", about).split() == ["plan", "1.5", "s", "failed:", "why"]
