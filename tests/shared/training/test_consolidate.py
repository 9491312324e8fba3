"""States are found by step and by name; what is missing or damaged is told. (Their weights: test_zero.py.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.training.consolidate import StateFolder, find_state, latest_checkpoint, read_about
from shared.utils.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with states after steps 10 and 20, of which `latest` names the first."""
    for step in (10, 20):
        folder = tmp_path / f"run/state/step{step:08d}"
        folder.mkdir(parents=True)
        about = {"step": step, "clips": 4, "processes": 2, "zero": 1}
        (folder / "about.json").write_text(json.dumps(about))
    (tmp_path / "run/state/latest").write_text("step00000010")
    return tmp_path / "run"


def test_the_latest_is_what_its_file_names_and_a_step_is_found(run: Path) -> None:
    ten = StateFolder(run / "state/step00000010", 10, 2, 1, 4)
    assert latest_checkpoint(run / "state") == find_state(run, None) == find_state(run, 10) == ten
    assert find_state(run, 20).step == 20
    (run / "state/latest").unlink()
    assert latest_checkpoint(run / "state") is None and find_state(run, None).step == 20


def test_what_is_not_there_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--step 7: .*/state has 10, 20"):
        find_state(run, 7)
    with pytest.raises(UserError, match=r"--run .*: no complete state in .*; the first comes after train\.checkpoint"):
        find_state(tmp_path, None)
    (run / "state/latest").write_text("step00000030")
    for step in (10, 20):
        (run / f"state/step{step:08d}/about.json").unlink()
    with pytest.raises(UserError, match=r"names step00000030, which is missing or incomplete; .*0010 is incomplete"):
        latest_checkpoint(run / "state")


@pytest.mark.parametrize("text", ["{", "{}", '{"step": 1, "processes": 1, "zero": 4}', '{"step": "x"}'])
def test_a_damaged_description_is_told(run: Path, text: str) -> None:
    (run / "state/step00000010/about.json").write_text(text)
    with pytest.raises(UserError, match=r"about\.json is damaged"):
        read_about(run / "state/step00000010")
