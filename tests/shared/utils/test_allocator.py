"""Freed memory is kept: its pages are not taken from the system again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    from shared.utils.allocator import keep_freed_memory
    assert keep_freed_memory()
def rounds(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.empty(2**24).fill_(1.0)  # 64 MiB, more than glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
rounds(9)
print(rounds(5))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_pages_are_taken_once() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", CODE, how], cwd=Path(__file__).parents[3], text=True))
        for how in ("keep", "as it is")
    }
    assert faults["keep"] < 1000 < faults["as it is"]
