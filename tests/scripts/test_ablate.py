"""ablate.py with stand-ins for the scripts it runs: from a plan to its report, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ablate
import pytest
from ablation_bench import Bench, names

from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_plan_from_its_clips_to_its_report_and_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run() == 0
    calls = bench.calls()
    # 2 sets of clips; the start and 2 variants x 3 seeds; these and no_ucg x 3 and 2 settings; the probes of the 6
    assert names(calls) == ["evaluate"] * 11 + ["make_puppets"] * 2 + ["probe"] * 6 + ["train_ccl"] * 7
    train = next(words for name, words in calls if name == "train_ccl" and "runs/bad-1" in " ".join(words))
    checkpoint = bench.output / "start/train/checkpoint"
    manifest = bench.output / "clips/train/puppets/manifest.jsonl"
    wanted = {
        "model.x=0.2",
        "seed=1",
        f"init_streams={checkpoint}",
        f"codecs={checkpoint}",
        f"data.manifest=[{manifest}]",
    }
    assert wanted <= set(train)
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
    assert (result["overrides"], result["samples"]) == ({"model.x": 0.2}, 80)
    assert result["commit"] and result["machine"]["cores"] >= 1
    assert result["values"]["loss"]["value"] == pytest.approx(0.525)
    assert result["values"]["loss"]["clips"]["weight"] == [1.0] * 6
    assert result["values"]["colour"] == {"value": 0.5, "interval": [0.4, 0.6], "clips": None}
    assert 0 < sum(result["values"]["long clips"]["clips"]["weight"]) < 32
    assert result["values"]["never measured"] is None
    assert result["curve"]["t2av both"]["step"][-1] == 29 and min(result["curve"]["t2av both"]["step"]) >= 5
    assert set(result["seconds"]) == {"train", "evaluate", "probe_held"}

    out = capsys.readouterr().out
    assert "Floor 0.200, ceiling 1.000" in out
    row = next(line for line in out.splitlines() if line.startswith("| a <bad> one | 3 | 0.525"))
    assert row.endswith("| +0.200 from CCL | +0.200 .. +0.200 | +0.200 .. +0.200 |")
    row = [line for line in out.splitlines() if line.startswith("| no ucg")][1]
    assert "| -0.100 from CCL |" in row
    claim = next(line for line in out.splitlines() if line.startswith("| the bad one is worse |"))
    assert claim.endswith("holds |") and "| 3 | 6 | +0.200 |" in claim
    page = (bench.output / "report.html").read_text()
    for label in ("CCL", "a &lt;bad&gt; one", "no ucg", "again", "loss", "event score", "dual"):
        assert label in page
    assert page.count("<svg") == 2 + 3 + 1 and "data:image/png;base64,YSBwaWN0dXJl" in page
    assert not re.search(r"<script|<bad>|(src|href)=['\"]?(http|//)", page)

    before = (bench.output / "table.md").read_text()
    assert before.count("**Secondary metrics.**") == before.count("**By itself.**") == before.count("**Claims.**") == 1
    assert before.count(" holds |") == 1  # no verdicts but the claims'
    assert "\n| floor | 0.200 |\n| ceiling | 1.000 |\n" in before  # of the score that has such
    guided = before.split("**event, by guidance.** Exploratory.")[1].split("**")[0]
    assert re.search(r"\| none \| 1 \| [\d.]+ \|.*from dual 2, 3 \|", guided), guided
    assert re.search(r"\| dual 2, 3 \| 1 \|.*\| the reference \|", guided), guided
    assert "again" not in before.split("**Secondary metrics.**")[1].split("**By itself.**")[0]
    assert bench.run() == 0
    assert bench.calls() == [] and (bench.output / "table.md").read_text() == before


def test_only_some_variants_and_seeds(bench: Bench) -> None:
    assert bench.run("--only", "bad", "--seeds", "2") == 0
    assert (bench.output / "runs/bad-2/done").exists()
    assert sorted(path.name for path in (bench.output / "runs").iterdir()) == ["bad-2"]


def test_the_dry_run_only_prints(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run("--dry-run", "--only", "bad") == 0
    out = capsys.readouterr().out
    assert out.count("train_ccl.py") == 4 and "--set model.x=0.2" in out and "# bad-2" in out
    assert not bench.output.exists() and bench.calls() == []


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
        (["--plan", "none.yaml", "--output", "o"], "none.yaml: cannot read this configuration file"),
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
