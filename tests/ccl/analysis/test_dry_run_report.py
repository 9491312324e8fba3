"""What a dry run prints: of each stage, and of the first process alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import train_mtv

from scripts.make_puppets import main as make_puppets

ROOT = Path(__file__).parents[3]


def test_stages_are_told_one_by_one_and_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = tmp_path / "clips"
    make_puppets(["--clips", "2", "--output", str(clips), "--seed", "5", "--workers", "1"])
    words = ["--config", str(ROOT / "configs/train/puppets_mtv.yaml"), "--set", f"data.manifest={clips}"]
    words += ["--set", f"init={ROOT / 'assets/puppets'}", "--set", f"output={tmp_path / 'run'}", "--dry-run"]
    words += ["--set", "stages=[{name: one, steps: 3}, {name: two, steps: 3, trainable: [control]}]"]
    train_mtv.main(words)
    said = capsys.readouterr().out
    first, second = said.split("stage in ")[1:]
    assert "run/1_one" in first and "run/2_two" in second and ", 0 are frozen" not in second
    assert "activations at their peak" in first and not (tmp_path / "run").exists()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    train_mtv.main(words)
    assert capsys.readouterr().out.strip() == ""
