from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file

from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.signals import Stopped

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


@pytest.mark.parametrize("processor", [True, False])
def test_bf16_keeps_fp32_weights(tmp_path, world, processor, monkeypatch, caplog):
    monkeypatch.setattr("shared.training.trainer.computes_bf16", lambda: processor)
    weights, module = toy.train(config_for(tmp_path, precision="bf16", ema=0), world)
    assert ("fp32 is several times as fast here" in caplog.text) == (not processor)
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


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_held_out_losses_are_logged_and_leave_the_training_as_it_was(tmp_path, world, stage):
    """To the bit; the held-out losses fall with the training's, and are those of the module itself."""
    results = []
    for name, held_out in (("without", None), ("with", toy.held_out)):
        (tmp_path / name).mkdir()
        overrides = "validation.every=3", f"deepspeed.zero_optimization.stage={stage}"
        config = config_for(tmp_path / name, *overrides, ema=0, gradient_accumulation_steps=2)
        results.append(toy.train(config, world, on_validate=lambda *_: None, held_out=held_out))
    (without, _), (weights, module) = results
    assert all(torch.equal(value, weights[name]) for name, value in without.items())
    tables = [(tmp_path / name / "out/losses.csv").read_text() for name in ("without", "with")]
    assert tables[0] == tables[1] and not (tmp_path / "without/out/held_losses.csv").exists()
    header, *rows = (line.split(",") for line in (tmp_path / "with/out/held_losses.csv").read_text().splitlines())
    assert header == ["step", "stream", "task", "sigma_bucket", "loss", "samples"]
    assert list(dict.fromkeys(row[0] for row in rows)) == ["3", "6", "8"]
    for step in ("3", "6", "8"):
        counts = [int(row[5]) for row in rows if row[:3] == [step, "video", "t2v"]]
        assert sum(counts) == 6  # three clips at two levels; what does not count is not there
    if stage < 3:
        with torch.no_grad():
            records = [r for batch, counts in toy.held_out(0, 1) if counts for r in module(batch).records]
        wanted = sum(float(r.loss) for r in records if r.stream == "video" and r.task == "t2v") / 6
        last = [(float(row[4]), int(row[5])) for row in rows if row[:3] == ["8", "video", "t2v"]]
        assert sum(loss * count for loss, count in last) / 6 == pytest.approx(wanted, rel=1e-5)


def test_held_out_losses_of_a_stopped_run_are_those_of_a_whole_one(tmp_path, world):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    run = partial(toy.train, world=world, on_validate=lambda *_: None, held_out=toy.held_out)
    config = partial(config_for, checkpoint_every=2)
    run(config(tmp_path / "whole", "validation.every=3"))
    with pytest.raises(UserError, match="not finite at step 8"):
        run(config(tmp_path / "stopped", "validation.every=3"), nan_at=7)
    table = tmp_path / "stopped/out/held_losses.csv"
    assert table.read_text().splitlines()[-1].startswith("6,")
    run(config(tmp_path / "stopped", "validation.every=3"))  # from step 6
    assert table.read_text() == (tmp_path / "whole/out/held_losses.csv").read_text()


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_run_that_is_asked_to_stop_saves_after_its_step_and_resumes_to_the_bit(tmp_path, world, number):
    """Between two rows of losses.csv and away from every checkpoint; means and weights go on as if nothing had been."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    config = partial(config_for, log_every=5, checkpoint_every=100, steps=12)
    whole, _ = toy.train(config(tmp_path / "whole"), world)
    output = tmp_path / "stopped/out"
    told = f"stopped by {number.name}; {output}/state has the state after step 8: the same command goes on from it"
    with pytest.raises(Stopped, match=told) as error:
        toy.train(config(tmp_path / "stopped"), world, die_at=7, die_by=number)
    assert error.value.code == 128 + number and (output / "state/latest").read_text() == "step00000008"
    resumed, _ = toy.train(config(tmp_path / "stopped"), world)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert (output / "losses.csv").read_text() == (tmp_path / "whole/out/losses.csv").read_text()


def test_a_signal_in_a_validation_ends_it_and_it_is_made_when_the_run_goes_on(tmp_path, world):
    """Once at a step with a checkpoint, once at one without."""
    seen = []

    def validate(step, weights):
        seen.append((step, weights["video.weight"].clone()))
        if len(seen) in (2, 4):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(10)

    config = config_for(tmp_path, "validation.every=3", checkpoint_every=6)
    for step in (6, 8):
        with pytest.raises(Stopped, match=f"after step {step}"):
            toy.train(config, world, on_validate=validate)
    final, _ = toy.train(config, world, on_validate=validate)
    assert [step for step, _ in seen] == [3, 6, 6, 8, 8]
    assert all(torch.equal(seen[i][1], seen[i + 1][1]) for i in (1, 3)) and torch.equal(
        seen[4][1], final["video.weight"]
    )
    toy.train(config, world, on_validate=validate)  # is done: nothing is made once more
    assert len(seen) == 5


def test_a_signal_to_one_of_two_processes_stops_both_with_one_state(tmp_path):
    config = toy.write_config(tmp_path, tmp_path / "out", micro_batch=2, steps=400, checkpoint_every=1000)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    warned = {"DIE_AT": "5", "DIE_BY": str(int(signal.SIGUSR1))}
    runs = [start(config, RANK=rank, LOCAL_RANK=rank, **common, **(warned if rank == "1" else {})) for rank in "01"]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [138, 138], said
    assert (tmp_path / "out/state/latest").read_text() == "step00000006"
    assert sum(text.count("stopped by SIGUSR1") for text in said) == 1 and "Traceback" not in "".join(said)


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
