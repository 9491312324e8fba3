"""Ten trainings of `make crash`: killed, warned and on a full disk at a write, they go on to the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # twenty runs from clips to a checkpoint
def test_ten_runs_that_are_interrupted_go_on_to_the_bit() -> None:
    command = [sys.executable, "tests/crash/crash.py", "--cases", "10", "--seed", "7", "--every", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "10 of 10 equal to the uninterrupted run" in done.stdout, done.stdout + done.stderr
