"""Results: numbers and loss curves found in a run's files; what is kept is read, and joined from several folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from shared.ablation.plan import Curves, Metric
from shared.ablation.results import at, count_parameters, loss_curves, measure, read_results, smoothed
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
    run = {"kind": "run", "variant": variant, "seed": seed, "values": values, "curve": {}, "commit": "abc"}
    run |= {"machine": {"cores": 2, "torch": "2", "gpus": []}, "seconds": {"train": 1.5}}
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


def test_clips_too_few_for_a_floor_have_no_bounds(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    result(folder, 0, 1.0)
    result(folder, 1, 2.0)
    for seed, bounds in ((0, (None, 1.0)), (1, (0.25, 0.75))):
        file = folder / f"a-{seed}.json"
        run = json.loads(file.read_text())
        run["values"]["loss"] |= dict(zip(("floor", "ceiling"), bounds, strict=True))
        file.write_text(json.dumps(run))
        (results,) = read_results([folder])
        assert results.bounds("loss") == (None if seed == 0 else (0.25, 0.75))


def test_keys_of_a_path_may_hold_dots() -> None:
    tree = {"gain": {"0.0-0.2": {"mean": 1}, "0": {"0-0": 2}, "a.b": {"c": 3}, "a": {"b.d": 4}}}
    assert at(tree, "gain.0.0-0.2.mean") == 1
    assert (at(tree, "gain.a.b.c"), at(tree, "gain.a.b.d"), at(tree, "gain.0.0-0")) == (3, 4, 2)
    assert at(tree, "gain.x") is None and at(tree, "gain.a.b.c.d") is None


@pytest.mark.parametrize(
    ("node", "value", "clips"),
    [
        (0.25, 0.25, None),
        ({"mean": 0.25, "interval": [0, 1]}, 0.25, None),
        ([1.0, None, 3.0], 2.0, 3),
        ({"value": [1.0, None, 3.0], "weight": [3.0, 0.0, 1.0]}, 1.5, 3),
        ({"y": 1.0, "x": 4.0}, 2.5, 2),
        ({"mean": 7.0, "per_clip": {"y": 1.0, "x": 4.0}}, 2.5, 2),
    ],
)
def test_a_metric_takes_what_it_finds(node: Any, value: float, clips: int | None) -> None:
    found = measure(Metric(name="m", path="probe.m"), node, {})
    assert found is not None and found.value == pytest.approx(value)
    assert (None if found.clips is None else len(found.clips)) == clips


@pytest.mark.parametrize("node", ["text", True, [], {}, {"a": "b"}, [None, None], {"mean": None}, {"a": {"b": 1}}])
def test_what_is_no_number_is_none(node: Any) -> None:
    assert measure(Metric(name="m", path="probe.m"), node, {}) is None


def test_clips_of_some_lengths() -> None:
    metric = Metric(name="m", path="probe.m", seconds=(3, 8))
    lengths = {"x": 2.0, "a": 3.0, "y": 8.0}
    listed = measure(metric, [10.0, 1.0, 3.0], lengths)
    named = measure(metric, {"per_clip": {"y": 5.0, "x": 1.0}}, lengths)
    assert listed is not None and listed.value == 2.0 and listed.clips is not None
    assert np.array_equal(listed.clips[:, 1], [0, 1, 1])
    assert named is not None and named.value == 5.0
    assert measure(metric, 3.0, lengths) is None  # one number says nothing about lengths
    assert measure(metric, {"z": 3.0}, lengths) is None


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    for part in ("transformer", "control", "video_codec"):
        (tmp_path / part).mkdir()
        save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / part / "w.safetensors")
    assert count_parameters(tmp_path) == 2 * 17
    assert count_parameters(tmp_path / "video_codec") is None


def test_the_average_counts_steps() -> None:
    rows = smoothed({10: 1.0, 20: 0.0, 40: 0.0}, 10.0)
    assert rows == pytest.approx({10: 1.0, 20: math.exp(-1), 40: math.exp(-3)})


def test_loss_curves_are_means_over_levels_from_a_step_on(tmp_path: Path) -> None:
    lines = ["step,stream,task,sigma_bucket,loss,samples"]
    for step in range(10, 1010, 10):
        lines += [f"{step},video,t2av,0.0-0.2,1,1", f"{step},video,t2av,0.8-1.0,5,3", f"{step},audio,t2av,0.8-1.0,2,1"]
        lines += [f"{step},video,t2v,0.8-1.0,100,1"]
    (tmp_path / "losses.csv").write_text("\n".join(lines))
    found = loss_curves(tmp_path / "losses.csv", Curves(tasks=["t2av", "mtv"], first=100, points=20))
    assert set(found) == {"t2av video", "t2av audio", "t2av both"}
    both = found["t2av both"]
    assert both["loss"] == [6.0] * len(both["loss"]) and 10 < len(both["step"]) <= 20
    assert both["step"][-1] == 1000 and both["step"][0] >= 100
    with pytest.raises(UserError, match="not the losses of a training"):
        loss_curves(tmp_path / "none.csv", Curves())


@pytest.mark.parametrize("damage", [b"\0", b"\xff", b"30,video,t2av\n", b"x,video,t2av,0.0-0.2,1,1\n"])
def test_losses_that_are_damaged_in_the_middle_are_one_line_with_its_number(tmp_path: Path, damage: bytes) -> None:
    row = b"10,video,t2av,0.0-0.2,1,1\n"
    (tmp_path / "losses.csv").write_bytes(b"step,stream,task,sigma_bucket,loss,samples\n" + row + damage + row)
    with pytest.raises(UserError, match=r"losses\.csv(, line 3)?: not the losses of a training(:3: | \().*"):
        loss_curves(tmp_path / "losses.csv", Curves(tasks=["t2av"]))
