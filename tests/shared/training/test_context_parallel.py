"""Two processes that hold a sample together compute what one does: outputs, gradients, and training with ZeRO."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joint
import parallel
import pytest
import torch
from distance import distances
from safetensors.torch import load_file

from shared.utils.config import TrainConfig

ROOT = Path(__file__).parents[3]
MODEL = {
    **parallel.EVEN_HEADS,
    **{name: {**parallel.EVEN_HEADS[name], "num_layers": 1} for name in ("video", "audio")},
}


def start(folder: Path, *words: Path, count: int = 2) -> None:
    """Run parallel.py on so many processes, by torchrun."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/helpers'}", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(
        [*line, str(ROOT / "tests/helpers/parallel.py"), str(folder), *map(str, words)],
        env=env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def written(folder: Path, **train: Any) -> Path:
    return joint.write_config(folder, 2, model=MODEL, steps=4, **train)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sums.pt and the run `run` of two processes."""
    folder = tmp_path_factory.mktemp("parallel")
    start(folder, written(folder / "run", context_parallel=2, activation_checkpointing=True))
    return folder


@pytest.mark.parametrize("name", parallel.CASES)
def test_outputs_and_gradients_are_those_of_one_process(two, name):
    found, wanted = torch.load(two / "sums.pt")[name], parallel.evaluate(name, parallel=False)
    for stream in ("video", "audio"):
        if stream in wanted:
            torch.testing.assert_close(found.pop(stream), wanted.pop(stream), rtol=1e-5, atol=1e-5)
    largest, whole = distances(found, wanted)
    assert largest < 1e-4 and whole < 1e-6  # the largest is of a gradient that is all rounding: 1e-4 of the others


def test_what_cannot_be_divided_is_told(two):
    heads, short, world = torch.load(two / "sums.pt")["refusals"]
    assert heads == "ulysses_degree 2: the audio stream has 3 heads; one of 1 divides them"
    assert short.startswith("context parallel: 1 latents of the video cannot be divided among 2 processes")
    assert "heads; one of 1, 2 divides them" in world


def test_training_with_zero_2_is_that_of_one_process(two, tmp_path, world):
    config = TrainConfig.load(written(tmp_path / "one"))
    weights = joint.train(config, world)
    assert joint.losses(two / "run") == pytest.approx(joint.losses(tmp_path / "one"), rel=1e-5, abs=1e-5)
    largest, whole = distances(
        load_file(two / "run/weights.safetensors"), weights, joint.objective(config).state_dict()
    )
    assert largest < 1e-3 and whole < 5e-5
