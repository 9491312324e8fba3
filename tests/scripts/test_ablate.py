"""ablate.py with stand-ins for the scripts it runs: what is run, resumed, refused, reported."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import ablate
import pytest
import yaml

from shared.ablation.jobs import Jobs, Scripts
from shared.ablation.plan import load_plan
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]

COMMON = """
import json, pathlib, random, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
given = {a: b for a, b in zip(words, words[1:]) if a.startswith("--")}
sets = dict(b.split("=", 1) for a, b in zip(words, words[1:]) if a == "--set")
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps([pathlib.Path(__file__).stem, words]) + "\\n")
def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
"""
FAKES = {
    "make_puppets.py": 'write(pathlib.Path(given["--output"]) / "manifest.jsonl", "{}")',
    "train_ccl.py": """
out = pathlib.Path(sets["output"])
print("step 1\\rstep 2")
if (here / "broken").exists() and (here / "broken").read_text() in str(out):
    sys.exit("the loss is not finite")
x = float(sets.get("model.x", 0))
rows = [f"{s},{v},t2av,0.0-0.2,{1 / s + x},4" for s in range(1, 30) for v in ("video", "audio")]
write(out / "losses.csv", "step,stream,task,sigma_bucket,loss,samples\\n" + "\\n".join(rows) + "\\n")
write(out / "checkpoint/model_index.json", json.dumps(sets))
""",
    "evaluate.py": """
sets = json.loads((pathlib.Path(given["--checkpoint"]) / "model_index.json").read_text())
draw = random.Random(int(sets["seed"]))
good = 0.8 - float(sets.get("model.x", 0)) - 0.1 * (given.get("--guidance") == "text")
clips = int(given["--clips"])
values = {"value": [good + 0.02 * draw.random() for _ in range(clips)], "weight": [4.0] * clips}
bounds = {"ceiling": 1.0, "floor": 0.2}
scores = {"colour": {"value": 0.5, "value_interval": [0.4, 0.6]} | bounds, "event_f1": {"value": good} | bounds}
config = {"held_out_seed": 900001, "level": "full", "clips": clips}
metrics = {"config": config, "tasks": {"t2av": {"per_clip": {"event_f1": values}, "scores": scores}}}
write(pathlib.Path(given["--output"]) / "metrics.json", json.dumps(metrics))
""",
    "probe.py": """
sets = json.loads((pathlib.Path(given["--checkpoint"]) / "model_index.json").read_text())
loss = {f"stage-full-2-{i:06d}": 0.3 + float(sets.get("model.x", 0)) + 0.01 * i for i in range(6)}
content = {"loss": {"t2av": {"joint": {"mean": 0.3, "per_clip": loss}}}, "model": {"parameters": 12345, "flops": 2e9}}
write(pathlib.Path(given["--output"]), json.dumps(content))
if "--pictures" in given:
    write(pathlib.Path(given["--pictures"]) / "clip.png", "a picture")
""",
}
PLAN: dict[str, Any] = {
    "name": "toy", "title": "A toy", "clips": {"train": {"seed": 1, "clips": 4}, "held": {"seed": 2, "clips": 6}},
    "train_clips": ["train"], "start": {"into": "init_streams", "base": "base.yaml"}, "base": "base.yaml",
    "seeds": [0, 1, 2], "parallel": 2, "reference": "ccl", "evaluate": {"clips": 8, "tasks": ["t2av"]},
    "probe": {"held": {"clips": "held", "forgetting": True, "pictures": True}},
    "endpoints": [
        {"name": "loss", "path": "probe.held.loss.t2av.joint", "better": "lower"},
        {"name": "event score", "path": "metrics.tasks.t2av.per_clip.event_f1", "better": "higher"},
    ],
    "secondary": [
        {"name": "colour", "path": "metrics.tasks.t2av.scores.colour.value", "better": "higher"},
        {"name": "long clips", "path": "metrics.tasks.t2av.per_clip.event_f1", "seconds": [3, 8]},
        {"name": "never measured", "path": "probe.held.leakage.a2v"},
        {"name": "event", "path": "metrics.tasks.t2av.per_clip.event_f1", "better": "higher", "table": "By itself"},
    ],
    "curves": {"tasks": ["t2av"], "first": 5, "smoothing": 3, "points": 10},
    "variants": {
        "ccl": {"label": "CCL"}, "bad": {"label": "a <bad> one", "overrides": {"model.x": 0.2}},
        "no_ucg": {"same_as": "ccl", "evaluate": {"guidance": "text"}}, "again": {"group": "extra", "same_as": "ccl"},
    },
    "guidance": {
        "variant": "ccl", "reference": "dual_2_3", "seeds": [0],
        "settings": [{"form": "none"}, {"form": "dual", "text_scale": [2, 3]}],
        "adherence": [{"name": "colour", "path": "metrics.tasks.t2av.scores.colour.value"}],
        "sync": [{"name": "event", "path": "metrics.tasks.t2av.per_clip.event_f1"}],
    },
}  # fmt: skip
BASE = {"output": "o", "model": {"x": 0.0}, "data": {"manifest": "m"}, "train": {"steps": 10}}


class Bench:
    """A folder with a plan, its base, the fake scripts and an output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "out"
        (folder / "scripts").mkdir()
        for name, code in FAKES.items():
            (folder / "scripts" / name).write_text(COMMON + code)
        (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
        self.write({})

    def write(self, changes: dict[str, Any]) -> Path:
        (self.folder / "plan.yaml").write_text(yaml.safe_dump(PLAN | changes, sort_keys=False))
        return self.folder / "plan.yaml"

    def run(self, *more: str) -> int:
        try:
            ablate.main(["--plan", str(self.folder / "plan.yaml"), "--output", str(self.output), *more])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    def calls(self) -> list[tuple[str, list[str]]]:
        """The calls of scripts since the last time this was asked."""
        file = self.folder / "scripts/calls.jsonl"
        found = [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
        file.write_text("")
        return found  # type: ignore[return-value]

    def break_(self, part: str) -> None:
        (self.folder / "scripts/broken").write_text(part)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(ablate, "SCRIPTS", Scripts(tmp_path / "scripts"))
    monkeypatch.setattr(ablate.signal, "signal", lambda *_: None)
    return Bench(tmp_path)


def names(calls: list[tuple[str, list[str]]]) -> list[str]:
    return sorted(name for name, _ in calls)


def test_a_plan_from_its_clips_to_its_report_and_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run() == 0
    calls = bench.calls()
    # 2 sets of clips; the start and 2 variants x 3 seeds; these and no_ucg x 3 and 2 settings; the probes of the 6
    assert names(calls) == ["evaluate"] * 11 + ["make_puppets"] * 2 + ["probe"] * 6 + ["train_ccl"] * 7
    train = next(words for name, words in calls if name == "train_ccl" and "runs/bad-1" in " ".join(words))
    checkpoint = bench.output / "start/train/checkpoint"
    manifest = bench.output / "clips/train/puppets/manifest.jsonl"
    for word in (
        "model.x=0.2",
        "seed=1",
        f"init_streams={checkpoint}",
        f"codecs={checkpoint}",
        f"data.manifest=[{manifest}]",
    ):
        assert word in train
    encoded = {word for _, words in calls for word in words if word.startswith("data.latents=")}
    assert len(encoded) == 1  # the start's and every run's
    assert encoded.pop().startswith(f"data.latents={bench.output / 'latents'}")
    guided = next(words for _, words in calls if "--text-scale" in words)
    assert guided[guided.index("--text-scale") + 1] == "2.0,3.0" and guided[guided.index("--guidance") + 1] == "dual"
    assert all(
        ("--pictures" in words) == bool(re.search(r"runs/\w+-0/", " ".join(words)))
        for name, words in calls
        if name == "probe"
    )

    result = json.loads((bench.output / "results/bad-2.json").read_text())
    assert (result["variant"], result["seed"], result["parameters"], result["flops"]) == ("bad", 2, 12345, 2e9)
    assert result["overrides"] == {"model.x": 0.2} and result["commit"] and result["machine"]["cores"] >= 1
    assert result["values"]["loss"]["value"] == pytest.approx(0.525)
    assert result["values"]["loss"]["clips"]["weight"] == [1.0] * 6
    assert result["values"]["colour"] == {"value": 0.5, "interval": [0.4, 0.6], "clips": None}
    assert 0 < sum(result["values"]["long clips"]["clips"]["weight"]) < 32
    assert result["values"]["never measured"] is None
    assert result["curve"]["t2av both"]["step"][-1] == 29 and min(result["curve"]["t2av both"]["step"]) >= 5
    assert set(result["seconds"]) == {"train", "evaluate", "probe_held"}

    out = capsys.readouterr().out
    assert "Floor 0.200 (sound and picture of two clips), ceiling 1.000" in out
    row = next(line for line in out.splitlines() if line.startswith("| a <bad> one | 3 | 0.525"))
    assert row.endswith("| +0.200 | +0.200 .. +0.200 | worse |")
    row = [line for line in out.splitlines() if line.startswith("| no ucg")][1]
    assert "| -0.100 |" in row and row.endswith("worse |")
    page = (bench.output / "report.html").read_text()
    for label in ("CCL", "a &lt;bad&gt; one", "no ucg", "again", "loss", "event score", "dual"):
        assert label in page
    assert page.count("<svg") == 2 + 3 + 1 and "data:image/png;base64,YSBwaWN0dXJl" in page
    assert not re.search(r"<script|<bad>|(src|href)=['\"]?(http|//)", page)

    before = (bench.output / "table.md").read_text()
    assert before.count("**Secondary metrics.**") == before.count("**By itself.**") == 1
    assert "\n| floor | 0.200 |\n| ceiling | 1.000 |\n" in before  # of the score that has such
    guided = before.split("**event, by guidance.** Differences are paired by seed and clip.")[1].split("**")[0]
    assert re.search(r"\| none \| 1 \| [\d.]+ \|.*\| cannot be told \|", guided), guided
    assert re.search(r"\| dual 2, 3 \| 1 \|.*\| the reference \|", guided), guided
    assert "again" not in before.split("**Secondary metrics.**")[1].split("**By itself.**")[0]
    assert bench.run() == 0
    assert bench.calls() == [] and (bench.output / "table.md").read_text() == before


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


def test_only_some_variants_and_seeds(bench: Bench) -> None:
    assert bench.run("--only", "bad", "--seeds", "2") == 0
    assert (bench.output / "runs/bad-2/done").exists()
    assert sorted(path.name for path in (bench.output / "runs").iterdir()) == ["bad-2"]


def test_a_checkpoint_may_be_given_to_start_from(bench: Bench) -> None:
    given = bench.folder / "given"
    (given / "transformer").mkdir(parents=True)
    (given / "transformer/weights.safetensors").write_text("these")
    assert bench.run("--only", "bad", "--seeds", "0", "--start", str(given)) == 0
    calls = bench.calls()
    assert names(calls) == ["evaluate", "make_puppets", "make_puppets", "probe", "train_ccl"]
    words = {name: words for name, words in calls}
    assert f"init_streams={given}" in words["train_ccl"] and f"codecs={given}" in words["train_ccl"]
    assert any(word.startswith(f"data.latents={bench.output / 'latents'}") for word in words["train_ccl"])
    assert words["probe"][words["probe"].index("--against") + 1] == str(given)
    (given / "transformer/weights.safetensors").write_text("others")
    with pytest.raises(UserError, match="holds a run of another plan: start "):
        bench.run("--only", "bad", "--seeds", "0", "--start", str(given))
    with pytest.raises(UserError, match="holds a run of another plan: start "):
        bench.run("--only", "bad", "--seeds", "0")
    with pytest.raises(UserError, match=r"has no transformer/\*\.safetensors"):
        bench.run("--start", str(bench.folder))
    bench.write({"start": None, "probe": {"held": {"clips": "held"}}})
    with pytest.raises(UserError, match="the variants of toy start from nothing"):
        bench.run("--start", str(given))


def test_only_runs_that_read_the_same_share_what_is_encoded(bench: Bench) -> None:
    changed = {"ccl": {}, "bad": {"overrides": {"model.x": 0.2}}, "wide": {"overrides": {"data.size": [32, 64]}}}
    bench.write({"variants": changed, "guidance": None})
    assert bench.run("--seeds", "0") == 0
    folders = {
        re.search(r"(start|runs/\w+)-?0?/train", " ".join(words))[1]: word  # type: ignore[index]
        for name, words in bench.calls()
        if name == "train_ccl"
        for word in words
        if word.startswith("data.latents=")
    }
    assert folders["start"] == folders["runs/ccl"] == folders["runs/bad"] != folders["runs/wide"]


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
    bench.write({"endpoints": [{"name": "gain", "path": "probe.held.gain.t2av"}]})
    assert bench.run("--only", "bad", "--seeds", "0") == 1
    assert "no numbers at probe.held.gain.t2av, which 'gain' needs; there is loss, model" in capsys.readouterr().err


def test_the_dry_run_only_prints(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run("--dry-run", "--only", "bad") == 0
    out = capsys.readouterr().out
    assert out.count("train_ccl.py") == 4 and "--set model.x=0.2" in out and "# bad-2" in out
    assert not bench.output.exists() and bench.calls() == []


def test_the_document_follows_the_results(bench: Bench, tmp_path: Path) -> None:
    bench.run("--only", "ccl,bad")
    document = tmp_path / "results.md"
    document.write_text("before\n<!-- toy:begin -->\nnothing yet\n<!-- toy:end -->\nafter\n")
    given = ["--report-only", "--results", str(bench.output / "results"), "--document", str(document)]
    with pytest.raises(UserError, match="the tables of toy are not what its results say"):
        ablate.main([*given, "--check"])
    ablate.main([*given, "--output", str(tmp_path / "report")])
    ablate.main([*given, "--check"])
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "a <bad> one" in text
    shown = re.findall(r"!\[(.+)\]\((.+)\)", text)
    assert [caption for caption, _ in shown if "attention" in caption] == [
        "Where attention looks: CCL",
        "Where attention looks: a <bad> one",
    ]
    assert len(shown) == 2 + 3 + 1 + 2 and all((tmp_path / path).is_file() for _, path in shown)
    assert (tmp_path / "results/toy/figures/loss_by_seed_and_as_differences.svg").read_text().startswith("<svg")
    assert (tmp_path / "report/report.html").read_text() == (bench.output / "report.html").read_text()
    file = bench.output / "results/bad-0.json"
    file.write_text(file.read_text().replace('"value": 0.5,', '"value": 0.9,'))
    with pytest.raises(UserError, match="are not what its results say"):
        ablate.main([*given, "--check"])
    document.write_text("no marks")
    with pytest.raises(UserError, match="has no marks <!-- toy:begin -->"):
        ablate.main(given)


def test_the_documents_tables_are_those_of_the_committed_results() -> None:
    folders = sorted(str(file.parent) for file in (ROOT / "docs/results").glob("*/plan.yaml"))
    assert [Path(folder).name for folder in folders] == ["ccl", "mtv"]
    ablate.main(["--report-only", "--results", *folders, "--document", str(ROOT / "docs/results.md"), "--check"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output", "o"], "--plan and --output are needed"),
        (["--report-only"], "give the folders of --results"),
        (["--report-only", "--results", "r"], "give --output, --document or both"),
        (["--report-only", "--results", "r", "--output", "o", "--check"], "give --document"),
        (["--report-only", "--results", "r", "--seeds", "1"], "--seeds has no place beside"),
        (["--plan", "p", "--output", "o", "--check"], "--check belongs to"),
        (["--plan", "p", "--output", "o", "--parallel", "0"], "--parallel 0"),
        (["--plan", "none.yaml", "--output", "o"], "none.yaml: cannot read this plan"),
        (["--report-only", "--results", "nowhere", "--output", "o"], "nowhere: has no plan.yaml"),
    ],
)
def test_bad_arguments_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        ablate.main(argv)


def test_unknown_variants_and_seeds_are_named(bench: Bench) -> None:
    with pytest.raises(UserError, match="--only worse: no such variant or group in the plan; it has ccl, bad"):
        bench.run("--only", "worse")
    with pytest.raises(UserError, match="--seeds 7: the plan has 0, 1, 2"):
        bench.run("--seeds", "7")


def test_clips_that_evaluate_measures_on_are_refused(bench: Bench) -> None:
    bench.write({"clips": PLAN["clips"] | {"train": {"seed": 900001, "clips": 4}}})
    with pytest.raises(UserError, match=r"clips\.train: seed 900001 is that of evaluate"):
        bench.run()


@pytest.mark.parametrize("name", ["ccl", "ccl_gpu", "mtv", "smoke"])
def test_the_shipped_plans_are_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every configuration that they need loads, and a group is there for each phase."""
    monkeypatch.chdir(ROOT)
    plan = load_plan(ROOT / f"configs/ablation/{name}.yaml")
    groups = Jobs(plan, tmp_path, 1).groups(list(plan.variants), plan.seeds)
    own = [v for v in plan.variants.values() if not v.same_as]
    assert len(groups[2]) == len(own) * len(plan.seeds) and len(groups[1]) == 1
    assert name == "smoke" or len(plan.seeds) >= 3
    assert not os.listdir(tmp_path)
