"""A hundred files of `make fuzz`, and that its judge would tell a fault."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import fuzz
from tests.fuzz.seeds import Command, kinds, make_seeds, prepare


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    make_seeds(folder)
    return folder


def outcome(action: Callable[[], Any], tmp_path: Path) -> str:
    return fuzz.judge(*fuzz.forked(action, tmp_path / f"said{time.monotonic_ns()}"), may_fail=False)[0]


def test_the_judge_tells_every_fault(tmp_path: Path) -> None:
    def refuse(text: str) -> None:
        print(text, file=sys.stderr)
        sys.exit(2)

    assert outcome(lambda: None, tmp_path) == "accepted" and outcome(lambda: refuse("why"), tmp_path) == "refused"
    assert outcome(lambda: refuse(""), tmp_path) == "silent refusal"
    assert outcome(lambda: 1 / 0, tmp_path) == "traceback"
    assert outcome(lambda: sys.exit(3), tmp_path) == "exit 3"
    assert outcome(lambda: os.kill(os.getpid(), 11), tmp_path) == "killed"


@pytest.mark.parametrize(("kind", "command"), [(kind, command) for kind in kinds() for command in kind.commands][::3])
def test_whole_files_are_accepted(seeds: Path, tmp_path: Path, kind: Any, command: Command) -> None:
    """Otherwise every damaged one were refused for another reason."""
    file, output = prepare(seeds, kind, tmp_path)
    command.warm()
    code, said, _, _ = fuzz.forked(lambda: command.run(command.argv(tmp_path / "in", file, output)), tmp_path / "said")
    assert code == 0, said


@pytest.mark.slow  # half a minute: a hundred commands
def test_a_hundred_damaged_files() -> None:
    """Each is accepted or refused in one line: no traceback, no hang, and nothing half-written."""
    results = list(fuzz.run_all(seed=16, count=100, processes=1, quiet=True))
    assert not [result for result in results if result.failed]
    assert {result.outcome for result in results} == {"accepted", "refused"} and len(results) == 100


def test_a_number_is_always_the_same_damage() -> None:
    content = bytes(range(256)) * 20
    first, again = (fuzz.damaged(content, fuzz.np.random.default_rng([16, 5])) for _ in range(2))
    assert first == again and first[0] != content
