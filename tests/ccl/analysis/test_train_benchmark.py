"""Training steps measured in one process, and against a checkout that differs in what it computes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ccl.analysis import train_benchmark as train
from ccl.analysis.benchmark_options import Train
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]
SMALL = ["init=null", f"codecs={ROOT / 'assets/puppets'}", "model.video.num_layers=1", "model.audio.num_layers=1"]


def options(**changes) -> Train:
    return Train(**{"overrides": SMALL, "batch": 1, "seconds": 0.5, "repeats": 2} | changes)


def test_the_parts_make_the_whole():
    found, table = train.train_benchmark(options(), "cpu")
    seconds = {name: spread["median"] for name, spread in found["seconds"].items()}
    parts = sum(seconds[part] for part in train.PARTS)
    assert 0.5 * seconds["whole"] < parts < 1.5 * seconds["whole"] and found["peak_bytes"] > 0
    # the gradients of attention take 2.5 times its operations, where a model's count says 2; embeddings have no input's
    assert found["roofline"]["flops"] == pytest.approx(found["model_flops"], rel=0.25)
    assert found["mfu_of_matmul_rate"] > 0 and "MFU" in table and "roofline" in table


@pytest.fixture
def older(tmp_path) -> Path:
    """A checkout without the benchmark, whose model makes something else of its audio stream."""
    checkout = tmp_path / "older"
    for package in ("ccl", "mtv", "shared"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(checkout / "ccl/analysis")
    (checkout / "ccl/training/timed_steps.py").unlink()
    file = checkout / "ccl/transformer.py"
    text = file.read_text()
    changed = text.replace("transpose(1, 2) if a is not None", "transpose(1, 2) * 1.5 + 0.1 if a is not None")
    assert changed != text
    file.write_text(changed)
    return checkout


@pytest.mark.slow  # two processes import all that training does
def test_another_checkout_runs_its_own_code(older):
    found, table = train.train_benchmark(options(against_checkout=older), "cpu")
    assert found["first_loss_apart"] > 1e-3 and found["first_gradients_apart"] > 1e-2
    assert found["speed_up"]["runs"] == 2 and set(found["speed_up_of_parts"]) == {*train.PARTS, "cpu"}
    assert str(older) in table


def test_what_a_checkout_says_last_is_told(older):
    (older / "ccl/training/batches.py").write_text("raise SystemExit('this checkout is broken')")
    with pytest.raises(UserError, match=r"cannot train this recipe: this checkout is broken"), train.worker(older, {}):
        pass


def test_gradients_are_compared_by_parameter(tmp_path):
    there = {"a": torch.ones(4), "b": torch.full((4,), 1e-12)}
    save_file(there, tmp_path / "there")
    save_file({"a": torch.ones(4) * 1.5, "b": torch.zeros(4)}, tmp_path / "here")
    assert train.gradients_apart(tmp_path) == 0.5
    save_file({"a": torch.ones(4)}, tmp_path / "here")
    with pytest.raises(UserError, match="gradients of b are in one"):
        train.gradients_apart(tmp_path)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkout of this repository"):
        options(against_checkout=tmp_path)
    with pytest.raises(ValueError, match="give --against-checkout"):
        options(overrides_here=["seed=1"])
