"""Data is made and ablations are run by one process in a folder at a time: another one is told who is there."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import yaml
from ablation_bench import BASE, PLAN

from shared.utils.errors import UserError
from shared.utils.locks import LOCK_NAME, locked

COMMANDS = {
    "make_puppets": "--clips 1 --output OUT",
    "demix": "--manifest CLIPS --output OUT",
    "encode": "--manifest CLIPS --checkpoint CHECKPOINT --output OUT",
    "ablate": "--plan PLAN --output OUT",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_another_process_fills_is_refused(name: str, checkpoint: Path, tmp_path: Path) -> None:
    """Nothing is written, and what is there stays."""
    (tmp_path / "clips.jsonl").write_text('{"id": "a", "video": "a.mp4", "caption": "A bell."}\n')
    (tmp_path / "a.mp4").write_bytes(b"not opened")
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/there").write_text("x")
    places = {"OUT": "out", "CLIPS": "clips.jsonl", "PLAN": "plan.yaml"}
    words = [str(tmp_path / places[word]) if word in places else word for word in COMMANDS[name].split()]
    words = [str(checkpoint) if word == "CHECKPOINT" else word for word in words]
    told = pytest.raises(UserError, match=rf"out: process {os.getpid()} on .* this folder; let it end, or give another")
    with locked(tmp_path / "out" / LOCK_NAME, "is at work"), told:
        importlib.import_module(name).main(words)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["there"]
