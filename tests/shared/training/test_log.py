"""What RunLog writes beside the losses: throughput.csv, MFU, and the trackers."""

from __future__ import annotations

import csv
import sys
import types
from dataclasses import replace

import pytest
import torch

from shared.training.flops import StepCost
from shared.training.log import LossRecord, RunLog
from shared.utils.config import Train
from shared.utils.errors import UserError


def records(tokens: int = 500):
    value = torch.full((2,), 0.5)
    return [
        LossRecord("video", "t2av", value, value, StepCost(tokens, 3e9, 4e9)),
        LossRecord("audio", "t2av", value, value),
    ]


def run(folder, world, first: int, steps: int, train: Train | None = None):
    log = RunLog(folder, world, first, train or Train(steps=steps))
    for step in range(first, steps):
        log.since -= 2  # as if it had taken two seconds
        log.add(records(), 2)
        log.step(1.0)
        log.flush(step + 1, 1e-3)
    log.close()


def rows(folder) -> list[dict[str, str]]:
    with open(folder / "throughput.csv") as file:
        return list(csv.DictReader(file))


def test_speed_is_of_all_tokens_over_the_wall_time_and_mfu_of_the_given_peak(world, tmp_path):
    run(tmp_path, world, 0, 2, Train(steps=2, peak_tflops=0.01))
    (first, second) = rows(tmp_path)
    assert (first["step"], second["step"], first["tokens"], first["samples"]) == ("1", "2", "500", "2")
    seconds = float(first["seconds"])
    assert 2 <= seconds < 60
    assert float(first["tokens_per_second"]) == pytest.approx(500 / seconds, rel=1e-3)
    assert float(first["samples_per_second"]) == pytest.approx(2 / seconds, rel=1e-3)
    assert float(first["mfu"]) == pytest.approx(3e9 / 0.01e12 / seconds, rel=1e-3)
    assert float(first["hfu"]) == pytest.approx(4 / 3 * float(first["mfu"]), rel=1e-3)


def test_without_a_peak_mfu_is_left_out_and_that_is_said_once(world, tmp_path, capsys):
    run(tmp_path, replace(world, device=torch.device("cpu")), 0, 3)
    assert [row["mfu"] for row in rows(tmp_path)] == [""] * 3
    assert capsys.readouterr().err.count("MFU is left out") == 1


def test_a_resumed_run_goes_on_in_the_same_files(world, tmp_path):
    run(tmp_path, world, 0, 3)
    losses = (tmp_path / "losses.csv").read_text()
    run(tmp_path, world, 2, 3)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert (tmp_path / "losses.csv").read_text() == losses


@pytest.mark.parametrize(
    ("file", "line", "row"),
    [
        ("losses.csv", 3, "2,video,t2av,0.4-0.6,hal\0f,2"),
        ("losses.csv", 4, "2,video,t2av,0.4-0.6,0.5"),
        ("losses.csv", 2, f"{'1' * 5000},video,t2av,0.4-0.6,0.5,2"),
        ("losses.csv", 3, "2,video,t2av,0.4-0.6,0.5,many"),
        ("losses.csv", 1, "a,b"),
        ("throughput.csv", 3, "2,fast,2,500,1,1,,"),
        ("throughput.csv", 2, "\ufffd"),
    ],
)
def test_a_table_that_is_damaged_in_the_middle_is_refused_by_line(world, tmp_path, file, line, row):
    run(tmp_path, world, 0, 3)
    lines = (tmp_path / file).read_text().splitlines()
    lines[line - 1] = row
    (tmp_path / file).write_text("\n".join([*lines, ""]))
    before = (tmp_path / file).read_bytes()
    with pytest.raises(UserError, match=rf"{file}, line {line}: .* is no row of step,.*; mend that line, or delete"):
        run(tmp_path, world, 3, 4)
    assert (tmp_path / file).read_bytes() == before


class FakeWandB(types.ModuleType):
    """Keeps what a run of Weights & Biases was told."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0
        self.Video = lambda path, format: (path, format)

    def init(self, **given):
        self.started.append(given)
        self.id = given["id"] or "abc123"
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


def test_wandb_gets_the_curves_and_a_resumed_run_is_the_same_run(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandB())
    (tmp_path / "config.yaml").write_text("seed: 5\n")
    train = Train(steps=3, report_to=["wandb"], peak_tflops=1.0)
    run(tmp_path, world, 0, 2, train)
    run(tmp_path, world, 2, 3, train)
    assert [given["id"] for given in fake.started] == [None, "abc123"] and fake.finished == 2
    assert fake.started[0]["config"] == {"seed": 5} and fake.started[0]["name"] == tmp_path.name
    assert [step for step, _ in fake.logged] == [1, 2, 3]
    assert {"loss/video", "loss/audio/t2av", "lr", "grad_norm", "tokens_per_second", "mfu"} <= set(fake.logged[0][1])
    assert fake.logged[0][1]["loss/video"] == 0.5 and not (tmp_path / "tensorboard").exists()


def test_clips_of_a_validation_are_shown_under_one_name_for_all_steps(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandB())
    (tmp_path / "config.yaml").write_text("seed: 5\n")
    (tmp_path / "samples").mkdir()
    clips = [tmp_path / "samples" / f"step00000{name}.mp4" for name in ("1_0", "2_0", "2_mtv_1")]
    for clip in clips:
        clip.touch()
    log = RunLog(tmp_path, world, 0, Train(steps=3, report_to=["wandb"]))
    for step in (1, 2, 3):
        log.show_samples(step)
    log.close()
    of_step = [{"samples/0": clips[0]}, {"samples/0": clips[1], "samples/mtv_1": clips[2]}]
    assert fake.logged == [
        (step, {name: (str(clip), "mp4") for name, clip in shown.items()}) for step, shown in enumerate(of_step, 1)
    ]


def test_other_ranks_have_no_tracker_and_no_files(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandB())
    run(tmp_path, replace(world, rank=1), 0, 1, Train(steps=1, report_to=["wandb", "tensorboard"]))
    assert not fake.started and not list(tmp_path.iterdir())


def test_wandb_that_is_not_installed_is_refused_at_the_start(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="needs the package wandb"):
        RunLog(tmp_path, world, 0, Train(steps=1, report_to=["wandb"]))
    assert not list(tmp_path.iterdir())
