"""Results are read, and joined from several folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.ablation.results import read_results
from shared.utils.errors import UserError

PLAN = """
name: toy
clips: {train: {seed: 1, clips: 4}}
train_clips: [train]
base: base.yaml
seeds: [0, 1]
reference: a
variants: {a: {}, b: {same_as: a}}
endpoints: [{name: loss, path: metrics.loss, better: lower}]
"""


def result(folder: Path, seed: int, loss: float, variant: str = "a") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "plan.yaml").write_text(PLAN)
    values = {"loss": {"value": loss, "interval": None, "clips": None}}
    run = {"kind": "run", "variant": variant, "seed": seed, "values": values, "curve": {}}
    (folder / f"{variant}-{seed}.json").write_text(json.dumps(run))


def test_folders_of_one_plan_are_joined(tmp_path: Path) -> None:
    result(tmp_path / "here", 0, 1.0)
    (only,) = read_results([tmp_path / "here"])
    assert only.missing() == ["a-1"]
    result(tmp_path / "there", 1, 3.0)
    (both,) = read_results([tmp_path / "here", tmp_path / "there"])
    assert both.missing() == [] and {s: m.value for s, m in both.measured("b", "loss").items()} == {0: 1.0, 1: 3.0}
    result(tmp_path / "there", 0, 3.0)
    with pytest.raises(UserError, match="another folder holds this run too"):
        read_results([tmp_path / "here", tmp_path / "there"])
    result(tmp_path / "strange", 5, 1.0)
    with pytest.raises(UserError, match="variant a with seed 5 is not in the plan"):
        read_results([tmp_path / "strange"])
