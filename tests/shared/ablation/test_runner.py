"""Runs side by side: what is resumed, what is refused, and what a failure stops."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ablation_bench import PLAN, Bench, names

from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]


def test_a_failing_run_is_reported_and_stops_no_other(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.break_("runs/ccl-1/")
    assert bench.run() == 1
    err = capsys.readouterr().err
    assert "failed: ccl-1: train: exit code 1" in err and "the loss is not finite" in err
    assert "    step 2\n" in err and "step 1" not in err
    assert "failed: no_ucg-1: not run, it needs ccl-1" in err and err.count("failed:") == 2
    assert (bench.output / "runs/bad-1/done").exists() and not (bench.output / "runs/ccl-1/done").exists()
    assert "Not run: ccl-1, no_ucg-1." in (bench.output / "table.md").read_text()
    bench.calls()
    bench.break_("nothing")
    assert bench.run() == 0
    assert names(bench.calls()) == ["evaluate", "evaluate", "probe", "train_ccl"]


def test_a_start_that_fails_stops_what_needs_it(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.break_("out/start")
    assert bench.run("--only", "ccl", "--seeds", "0") == 1
    assert names(bench.calls()) == ["make_puppets", "make_puppets", "train_ccl"]
    assert "failed: ccl-0: not run, it needs start" in capsys.readouterr().err
    assert "No run of this plan is done yet." in (bench.output / "table.md").read_text()


def test_another_plan_for_runs_that_are_there_is_refused(bench: Bench) -> None:
    assert bench.run("--only", "bad", "--seeds", "0") == 0
    bench.calls()
    changed = PLAN["variants"] | {"bad": {"overrides": {"model.x": 0.3}}}
    bench.write({"variants": changed})
    with pytest.raises(UserError, match=re.escape("train.model.x (0.2 there, 0.3 here)")):
        bench.run("--only", "bad", "--seeds", "0")
    bench.write({"evaluate": {"clips": 9}})
    with pytest.raises(UserError, match=re.escape("evaluate.clips (8 there, 9 here)")):
        bench.run("--only", "bad", "--seeds", "0")
    assert bench.calls() == []


def test_labels_and_metrics_may_change(bench: Bench) -> None:
    assert bench.run("--only", "bad", "--seeds", "0") == 0
    bench.calls()
    bench.write({"secondary": [{"name": "colour of all", "path": "metrics.tasks.t2av.scores.colour.value"}]})
    assert bench.run("--only", "bad", "--seeds", "0") == 0
    assert bench.calls() == [] and "colour of all" in (bench.output / "table.md").read_text()


def test_an_endpoint_that_was_not_measured_fails_the_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write({"endpoints": [{"name": "gain", "path": "probe.held.gain.t2av"}], "family": []})
    assert bench.run("--only", "bad", "--seeds", "0") == 1
    assert "no numbers at probe.held.gain.t2av, which 'gain' needs; there is loss, model" in capsys.readouterr().err


def test_clips_that_evaluate_measures_on_are_refused(bench: Bench) -> None:
    bench.write({"clips": PLAN["clips"] | {"train": {"seed": 900001, "clips": 4}}})
    with pytest.raises(UserError, match=r"clips\.train: seed 900001 is that of evaluate"):
        bench.run()
