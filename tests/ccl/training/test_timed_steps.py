"""Timed steps are training's own: the same batch is the same loss, the gradients are those of a step, weights learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ccl.training.timed_steps import PARTS, build
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]
SMALL = ["init=null", f"codecs={ROOT / 'assets/puppets'}", "model.video.num_layers=1", "model.audio.num_layers=1"]


def settings(**changes):
    config = str(ROOT / "configs/train/puppets_trial.yaml")
    overrides = [*SMALL, "train.micro_batch=2", *changes.pop("overrides", [])]
    return {"config": config, "overrides": overrides, "task": "t2av", "seconds": 0.5, "device": "cpu"} | changes


def test_a_step_learns_and_is_timed_by_its_parts(tmp_path):
    steps = build(settings(overrides=["optimizer.warmup=1"]), tmp_path)
    loss, gradients = steps.gradients()
    before = {name: value.clone() for name, value in steps.objective.state_dict().items()}
    taken = steps.step()
    assert taken["loss"] == loss and min(taken[part] for part in (*PARTS, "cpu")) > 0
    moved = {name for name, value in steps.objective.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {name for name, gradient in gradients.items() if gradient.abs().max() > 1e-4} != set()
    assert steps.batch(0).video.shape == (2, 48, 3, 8, 8) and steps.batch(0).audio.shape[1] == 13
    assert taken["flops"] == steps.step()["flops"] > 1e6


@pytest.mark.parametrize("task", ["a2v", "t2a"])
def test_two_of_one_kind_are_equal_and_a_task_is_its_own(tmp_path, task):
    first, second = (
        build(settings(task=task), tmp_path / name) for name in ("a", "b") if not (tmp_path / name).mkdir()
    )
    assert [first.step()["loss"] for _ in range(2)] == [second.step()["loss"] for _ in range(2)]
    assert first.batch(0).tasks == [task] * 2


def test_a_model_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing"):
        build(settings(overrides=["model.nothing=1"]), tmp_path)


def test_steps_run_as_the_run_does(tmp_path, monkeypatch):
    """On the backend of `train.attention`, and with compiled blocks where they are asked for."""
    compiled = []
    monkeypatch.setattr("shared.nn.compiling.compile_blocks", lambda model, option: compiled.append(option))
    steps = build(settings(overrides=["train.compile=true"]), tmp_path)
    assert compiled == ["train.compile"] and steps.step()["loss"] > 0
    with pytest.raises(UserError, match=r"train.attention 'sage'"):
        build(settings(overrides=["train.attention=sage"]), tmp_path).step()
