"""The guide's own commands, one after the other, on few clips and for few steps."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, commands

from shared.data.media import probe

#: Words of the guide and what stands here in their place: the same things, smaller.
SMALLER = {
    "64": "4", "8": "3", "train.steps=400": "train.steps=2", "validation.every=100": "validation.every=2",
    "validation.held_out=4": "validation.held_out=1",
}  # fmt: skip
FASTER = {
    "train_ccl": ["--set", "validation.clips=1", "--set", "validation.steps=1", "--set", "train.micro_batch=2"],
    "sample_joint": ["--steps", "2"], "probe": ["--levels", "1"],
}  # fmt: skip


@pytest.mark.slow
def test_the_commands_of_the_guide_run_as_they_stand(tmp_path: Path) -> None:
    """From clips to adapters, a video made with them, held-out losses and a probe."""
    for name in ("assets", "configs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = (ROOT / "docs/guides.md").read_text(encoding="utf-8")
    said = [command for command in commands(page) if command.script is not None]
    scripts = [command.script for command in said]
    assert scripts == ["make_puppets", "make_puppets", "check_data", "train_ccl", "sample_joint", "probe"]
    for command in said:
        assert command.script is not None
        words = [SMALLER.get(word, word) for word in command.words[1:]] + FASTER.get(command.script, [])
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr[-2000:]}"
    run = tmp_path / "outputs/fine_tuned"
    assert (tmp_path / "data/mine_doctor.html").is_file() and (run / "lora").is_dir()
    with open(run / "held_losses.csv") as file:
        held = list(csv.DictReader(file))
    assert {row["step"] for row in held} == {"2"} and {row["stream"] for row in held} == {"video", "audio"}
    assert sum(int(row["samples"]) for row in held if row["stream"] == "video" and row["task"] == "t2av") == 3
    assert probe(tmp_path / "outputs/fine_tuned.mp4").has_audio
    assert {"loss", "gain"} <= set(json.loads((tmp_path / "outputs/before.json").read_text()))
