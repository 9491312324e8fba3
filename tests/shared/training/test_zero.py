"""Every ZeRO stage trains the joint model as plain PyTorch does, with one process and with two.

One model that skips streams in some steps and micro-steps, with a frozen parameter, two learning rates and an average.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import joint
import pytest
import torch
import yaml
from distance import distances
from safetensors.torch import load_file
from torch import Tensor

from shared.nn.flow import sigma_bucket
from shared.training.consolidate import StateFolder, latest_checkpoint, read_about, whole_weights
from shared.training.optimizer import build_optimizer, learning_rate
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]
#: The others' runs, as many again, are among the slow tests.
FIRST, OTHERS = (2, 3), (0, 1)
EACH = [*FIRST, *(pytest.param(stage, marks=pytest.mark.slow) for stage in OTHERS)]
COUNTS = pytest.mark.parametrize("count", ["one", "two"])
TWO = {"micro_batch": 1}  # of two processes
#: Two processes cut large matrices only, but for up/3: a collective for every small table takes long without a GPU.
LARGE_AT: dict[int, dict[str, int]] = {0: {}, 1: {}, 2: {}, 3: {"stage3_param_persistence_threshold": 2000}}


def launch(plan: Path, configs: list[Path], launcher: list[list[str]] | None = None, **more: int) -> list:
    """Start joint.py on two processes, or by two launchers, to train one configuration after another."""
    plan.write_text(json.dumps({"configs": list(map(str, configs)), **more}))
    program = [str(Path(joint.__file__)), str(plan)]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    starts = [([sys.executable, *program], {**common, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    if launcher is not None:
        starts = [([*line, *program], {}) for line in launcher]
    return [
        subprocess.Popen(line, env={**env, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line, own in starts
    ]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def finish(runs: list, code: int = 0) -> None:
    errors = [run.communicate(timeout=900)[1] for run in runs]
    for run, error in zip(runs, errors, strict=True):
        assert run.returncode == code, error


def moved(source: Path, target: Path, step: int, **train: int) -> Path:
    """A copy of a run as it was after `step` steps; its configuration, with `train` changed."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("weights.*"))
    (target / "out/state/latest").write_text(f"step{step:08d}")
    config = yaml.safe_load((target / "config.yaml").read_text())
    config["output"] = str(target / "out")
    (target / "out/config.yaml").write_text(
        (source / "out/config.yaml").read_text().replace(str(source / "out"), str(target / "out"))
    )
    config["train"].update(train)
    (target / "config.yaml").write_text(yaml.safe_dump(config))
    return target / "config.yaml"


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[tuple[str, ...], float], dict[str, Tensor], dict[str, Tensor]]:
    """Losses, averaged weights and first weights of a loop without DeepSpeed. A skipped stream's gradient is zero."""
    config = TrainConfig.load(joint.write_config(tmp_path_factory.mktemp("plain"), 0))
    module = joint.objective(config)
    optimizer = build_optimizer(joint.groups(config, module), config.optimizer, config.train.ema)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    losses = {}
    for step in range(config.train.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["lr_scale"] * learning_rate(step, config.train.steps, config.optimizer)
        output = module(joint.batch_at(step, range(joint.CLIPS)))
        output.loss.backward()
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.nn.utils.clip_grad_norm_(parameters, config.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        found: dict[tuple[str, ...], list[float]] = {}
        for record in output.records:
            for sigma, loss in zip(record.sigma.tolist(), record.loss.tolist(), strict=True):
                found.setdefault((str(step + 1), record.stream, record.task, sigma_bucket(sigma)), []).append(loss)
        losses |= {key: sum(values) / len(values) for key, values in found.items()}
    weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
    named = dict(module.named_parameters())
    weights |= {name: optimizer.state[named[name]]["ema"] for name in weights if named[name].requires_grad}
    return losses, weights, joint.objective(config).state_dict()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, world) -> Path:
    return trained(tmp_path_factory.mktemp("zero"), FIRST, world)


@pytest.fixture(scope="module")
def other_runs(tmp_path_factory: pytest.TempPathFactory, world) -> Path:
    return trained(tmp_path_factory.mktemp("zero"), OTHERS, world)


@pytest.fixture
def of_stage(request: pytest.FixtureRequest, stage: int) -> Path:
    """The folder with the runs of a stage."""
    return request.getfixturevalue("runs" if stage in FIRST else "other_runs")


def trained(folder: Path, stages: tuple[int, ...], world) -> Path:
    """one/N and two/N: stage N with one process and two. killed/N: as two/N, killed before step 14 and started again.

    up/N: one/N, from its tenth step on with two processes; down/N: two/N, with one.
    """
    killed, two = (
        [
            joint.write_config(folder / f"{name}/{stage}", stage, checkpoint_every=10, zero=LARGE_AT[stage], **TWO)
            for stage in stages
        ]
        for name in ("killed", "two")
    )
    for stage, config in zip(stages, killed, strict=True):
        dying = launch(folder / f"dying{stage}.json", [config], die_at=13)
        path = joint.write_config(folder / f"one/{stage}", stage, checkpoint_every=10)
        save(folder / f"one/{stage}", joint.train(TrainConfig.load(path), world))
        finish(dying, -signal.SIGKILL)
    up = [moved(folder / f"one/{stage}", folder / f"up/{stage}", 10, **TWO) for stage in stages]
    finish(launch(folder / "two.json", [*killed, *two, *up]))
    for stage in stages:
        path = moved(folder / f"two/{stage}", folder / f"down/{stage}", 10, micro_batch=2)
        save(folder / f"down/{stage}", joint.train(TrainConfig.load(path), world))
    return folder


def save(folder: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, folder / "weights.pt")


def exported(folder: Path) -> dict[str, Tensor]:
    own = folder / "weights.pt"
    return torch.load(own) if own.exists() else load_file(folder / "weights.safetensors")


def state(folder: Path) -> StateFolder:
    found = latest_checkpoint(folder / "out/state")
    assert found is not None
    return found


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    """Rounding gives 2e-5 and 3e-6 of the way from the start. Gradients of twice or half the size give every tensor
    2e-3 or more, and some 7e-2."""
    largest, whole = distances(found, wanted, start)
    assert largest < 1e-3 and whole < 5e-5


@pytest.mark.parametrize("stage", EACH)
@COUNTS
def test_losses_are_those_of_plain_pytorch(of_stage, plain, count, stage):
    found = joint.losses(of_stage / f"{count}/{stage}")
    assert found == pytest.approx(plain[0], rel=1e-4, abs=1e-4)
    assert {key[0] for key in found} == {str(step) for step in range(1, 21)}


@pytest.mark.parametrize("stage", EACH)
@COUNTS
def test_exports_agree(of_stage, plain, count, stage):
    assert_near(exported(of_stage / f"{count}/{stage}"), *plain[1:])


@pytest.mark.parametrize("stage", EACH)
@COUNTS
def test_saved_states_hold_the_exported_weights_to_the_bit(of_stage, count, stage):
    run = of_stage / f"{count}/{stage}"
    of_state, of_run = whole_weights(state(run), "ema"), exported(run)
    assert set(of_state) == set(of_run)
    assert all(torch.equal(value, of_run[key]) for key, value in of_state.items())
    masters, cross = whole_weights(state(run)), "transformer.blocks.0.fusion.video.to_q.weight"
    assert not torch.equal(masters[cross], of_run[cross])
    assert torch.equal(masters["transformer.audio_stream.patch_embedding.weight"],
                       of_run["transformer.audio_stream.patch_embedding.weight"])  # fmt: skip


@pytest.mark.parametrize("stage", EACH)
def test_a_killed_run_of_two_processes_resumes_to_the_bit(of_stage, stage):
    killed, two = of_stage / f"killed/{stage}", of_stage / f"two/{stage}"
    ours, whole = exported(killed), exported(two)
    assert all(torch.equal(value, ours[name]) for name, value in whole.items())
    assert joint.losses(killed) == joint.losses(two)


@pytest.mark.parametrize("stage", EACH)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_run_goes_on_with_another_number_of_processes(of_stage, plain, way, stage):
    folder = of_stage / f"{way}/{stage}"
    assert joint.losses(folder) == pytest.approx(plain[0], rel=1e-4, abs=1e-4)
    assert_near(exported(folder), *plain[1:])
    assert not list((folder / "out/state").glob("*universal*"))
    assert state(folder).processes == (2 if way == "up" else 1)


@pytest.mark.parametrize("stage", [2, 3])
def test_offload_changes_nothing(tmp_path, world, plain, stage):
    shipped = json.loads((ROOT / f"configs/deepspeed/zero{stage}_offload.json").read_text())["zero_optimization"]
    config = TrainConfig.load(joint.write_config(tmp_path, stage, zero=shipped))
    with pytest.raises(joint.Stop):
        joint.train(config, world, stop_at=6)
    found = joint.losses(tmp_path)
    assert {key[0] for key in found} == set("123456")
    assert found == pytest.approx({key: plain[0][key] for key in found}, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activation_checkpointing_gives_the_same_loss(tmp_path, world, stage, precision):
    """To the bit; under ZeRO-3 gradients are summed in another order, which the weights show in their last bit."""
    found = []
    for name, choice in (("kept", False), ("again", True)):
        config = joint.write_config(tmp_path / name, stage, activation_checkpointing=choice, precision=precision)
        with pytest.raises(joint.Stop):
            joint.train(TrainConfig.load(config), world, stop_at=4)
        found.append(joint.losses(tmp_path / name))
    first = [{key: loss for key, loss in one.items() if stage != 3 or key[0] == "1"} for one in found]
    assert first[0] == first[1]
    assert found[0] == pytest.approx(found[1], rel=1e-3 if precision == "bf16" else 1e-5)


def test_two_launchers_without_ssh_are_two_nodes(runs, tmp_path):
    config = joint.write_config(tmp_path / "nodes", 2, **TWO)
    hosts = tmp_path / "hostfile"
    hosts.write_text("first slots=1\nsecond slots=1\n")
    line = [str(Path(sys.executable).with_name("deepspeed")), "--hostfile", str(hosts), "--no_ssh"]
    line += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    finish(launch(tmp_path / "plan", [config], [[*line, "--node_rank", rank] for rank in "01"], stop_at=4))
    whole = joint.losses(runs / "two/2")
    assert joint.losses(tmp_path / "nodes") == {key: loss for key, loss in whole.items() if int(key[0]) <= 4}


def test_a_step_of_other_clips_is_refused_with_what_would_be_right(runs, tmp_path, world):
    path = moved(runs / "two/2", tmp_path / "run", 10)
    with pytest.raises(
        UserError, match=r"steps of 4 clips, and this run's have 2 .*train\.micro_batch=1 and train\.gradient_acc\w+=4"
    ):
        joint.Trainer(TrainConfig.load(path), world, torch.nn.Module(), [], None).run()
    before = yaml.safe_load((tmp_path / "run/out/config.yaml").read_text())
    assert before["train"]["micro_batch"] == 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: next(folder.glob("*optim_states.pt")).unlink(), "optim_states.pt is missing"),
        (lambda folder: next(folder.glob("*optim_states.pt")).write_bytes(b"PK" + bytes(99)), "is damaged"),
        (lambda folder: torch.save({"module": Path("x")}, next(folder.glob("*model_states.pt"))), "is damaged"),
        (lambda folder: torch.save({"module": {}}, next(folder.glob("*model_states.pt"))), "not what a run writes"),
        (lambda folder: (folder / "about.json").write_text("{}"), "about.json is damaged"),
    ],
)
def test_a_damaged_or_foreign_state_is_refused(runs, tmp_path, harm, said):
    folder = tmp_path / "step00000020"
    shutil.copytree(runs / "one/3/out/state/step00000020", folder)
    harm(folder)
    with pytest.raises(UserError, match=said):
        whole_weights(read_about(folder), "ema")
