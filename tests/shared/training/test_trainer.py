from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file

from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]


def config_for(folder, *overrides, **train):
    return TrainConfig.load(toy.write_config(folder, folder / "out", **train), list(overrides))


def test_every_zero_stage_arrives_at_the_same_average(tmp_path, world):
    results = []
    for stage in range(4):
        (folder := tmp_path / str(stage)).mkdir()
        override = f"deepspeed.zero_optimization.stage={stage}"
        weights, _ = toy.train(config_for(folder, override, gradient_accumulation_steps=2), world)
        assert set(weights) == set(toy.Toy(0).state_dict())
        results.append(weights)
    for weights in results[1:]:
        torch.testing.assert_close(weights, results[0], rtol=1e-6, atol=1e-6)
    assert not torch.equal(results[0]["audio.weight"], toy.Toy(0).audio.weight)


def test_without_average_the_weights_themselves_are_exported(tmp_path, world):
    weights, module = toy.train(config_for(tmp_path, ema=0), world)
    torch.testing.assert_close(weights["video.weight"], module.video.weight.detach(), rtol=0, atol=0)


def test_bf16_keeps_fp32_weights(tmp_path, world):
    weights, module = toy.train(config_for(tmp_path, precision="bf16", ema=0), world)
    assert module.video.weight.dtype == torch.float32
    assert not torch.equal(weights["video.weight"], weights["video.weight"].bfloat16().float())


def test_a_finished_run_only_exports_again(tmp_path, world):
    config = config_for(tmp_path)
    first, _ = toy.train(config, world)
    again, _ = toy.train(config, world)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_losses_are_averaged_over_the_interval_per_task_and_bucket(tmp_path, world):
    toy.train(config_for(tmp_path, steps=10, log_every=5, checkpoint_every=100), world)
    header, *rows = (line.split(",") for line in (tmp_path / "out/losses.csv").read_text().splitlines())
    assert header == ["step", "stream", "task", "sigma_bucket", "loss", "samples"]
    assert {row[0] for row in rows} == {"5", "10"} and len({tuple(row[:4]) for row in rows}) == len(rows)
    assert sum(int(row[5]) for row in rows if row[1] == "video") == 40


def test_validation_sees_the_average_at_its_steps(tmp_path, world):
    seen = {}
    config = config_for(tmp_path, "validation.every=3")
    final, _ = toy.train(config, world, on_validate=lambda step, weights: seen.update({step: weights}))
    assert list(seen) == [3, 6, 8] and torch.equal(seen[8]["video.weight"], final["video.weight"])


def test_a_nan_names_step_task_and_clips_and_leaves_the_checkpoint(tmp_path, world):
    with pytest.raises(UserError, match=r"loss is not finite at step 7, in clip\d+ \(t2av\)") as error:
        toy.train(config_for(tmp_path), world, nan_at=6)
    assert "(t2v)" not in str(error.value)
    assert (tmp_path / "out/state/latest").read_text() == "step00000004"
    weights, _ = toy.train(config_for(tmp_path), world)  # resumes
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("stage", range(4))
def test_a_run_that_stopped_resumes_to_the_bit_at_every_stage(tmp_path, world, stage):
    """Two micro-steps a step; the run stops two steps after a checkpoint."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    config = partial(config_for, gradient_accumulation_steps=2, deepspeed={"zero_optimization": {"stage": stage}})
    whole, _ = toy.train(config(tmp_path / "whole"), world)
    with pytest.raises(UserError, match="not finite at step 7"):
        toy.train(config(tmp_path / "stopped"), world, nan_at=6)
    resumed, _ = toy.train(config(tmp_path / "stopped"), world)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    tables = [(tmp_path / name / "out/losses.csv").read_text() for name in ("whole", "stopped")]
    assert tables[0] == tables[1]


def test_a_model_without_blocks_cannot_compute_activations_again(tmp_path, world):
    with pytest.raises(UserError, match=r"train\.activation_checkpointing: this model has no blocks"):
        toy.train(config_for(tmp_path, activation_checkpointing=True), world)


def start(config: str, **env: str) -> subprocess.Popen[str]:
    """Run the toy as a program, in the machine's own environment and `env`."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    return subprocess.Popen(
        [sys.executable, str(Path(toy.__file__)), config],
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_resumes_to_the_bit(tmp_path, world):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, _ = toy.train(config_for(tmp_path / "whole", steps=40, checkpoint_every=20), world)
    killed = config_for(tmp_path / "killed", steps=40, checkpoint_every=20)
    run = start(str(tmp_path / "killed/toy.yaml"), DIE_AT="29")
    assert run.wait(timeout=120) == -signal.SIGKILL, run.communicate()[1]
    output = tmp_path / "killed/out"
    with open(output / "losses.csv", "a") as file:
        file.write("30,video,t2")  # cut short by the kill
    (output / "state/partial-step00000040").mkdir()  # a checkpoint in the making
    resumed, _ = toy.train(killed, world)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (output / "losses.csv").read_text() == (tmp_path / "whole/out/losses.csv").read_text()


def test_two_processes_with_zero2_train_as_one(tmp_path, world):
    task = {"phases": [], "tasks": {"t2av": 1}}  # whose draws do not depend on how a batch is divided
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    zero2 = {"zero_optimization": {"stage": 2}}
    config = toy.write_config(tmp_path / "two", tmp_path / "two/out", micro_batch=2, deepspeed=zero2, **task)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    runs = [start(config, RANK=rank, LOCAL_RANK=rank, **common) for rank in "01"]
    one, _ = toy.train(TrainConfig.load(toy.write_config(tmp_path / "one", tmp_path / "one/out", **task)), world)
    for run in runs:
        assert run.wait(timeout=120) == 0, run.communicate()[1]
    torch.testing.assert_close(load_file(tmp_path / "two/out/weights.safetensors"), one, rtol=1e-5, atol=1e-6)
    rows = [(tmp_path / name / "out/losses.csv").read_text().splitlines() for name in ("one", "two")]
    assert [row.rsplit(",", 2)[0] for row in rows[0]] == [row.rsplit(",", 2)[0] for row in rows[1]]
