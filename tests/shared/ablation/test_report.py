"""Reports and documents follow the results, and figures of results that are made up."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import ablate
import pytest
from ablation_bench import Bench

from shared.ablation import report
from shared.ablation.plan import dump_plan, load_plan
from shared.ablation.results import Results
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]


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


def test_a_document_may_hold_the_claims_alone(bench: Bench, tmp_path: Path) -> None:
    bench.run("--only", "ccl,bad")
    document = tmp_path / "results.md"
    document.write_text("<!-- toy claims:begin -->\n<!-- toy claims:end -->\n")
    ablate.main(["--report-only", "--results", str(bench.output / "results"), "--document", str(document)])
    text = document.read_text()
    assert "**Claims.**" in text and "**loss.**" not in text and "holds |" in text
    assert [caption for caption in re.findall(r"!\[(.+)\]", text) if "Training loss" in caption] == []
    assert len(list((tmp_path / "results/toy/figures").iterdir())) == text.count("![") == 2 + 1


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/results.md", ["ccl", "ccl_cutout", "mtv"]),
        ("docs/results/details.md", ["ccl", "ccl_cutout", "mtv"]),
    ],
)
def test_the_documents_tables_are_those_of_the_committed_results(page: str, names: list[str]) -> None:
    folders = [str(ROOT / "docs/results" / name) for name in names]
    ablate.main(["--report-only", "--results", *folders, "--document", str(ROOT / page), "--check"])


@pytest.mark.parametrize("name", ["ccl", "ccl_cutout", "mtv"])
def test_the_plan_beside_the_results_is_the_one_that_was_written_before(name: str) -> None:
    kept = (ROOT / f"docs/results/{name}/plan.yaml").read_text()
    assert kept == dump_plan(load_plan(ROOT / f"configs/ablation/{name}.yaml"))


def test_figures_are_the_same_each_time(results: Results) -> None:
    first, again = (report.svg(report.endpoint_figure(results, results.plan.endpoints[0])) for _ in range(2))
    assert first == again and first.startswith("<svg") and "<metadata" not in first and ">CCL<" in first
    ((caption, figure),) = report.loss_figures(results)
    assert caption == "Training loss, t2av video" and [line.get_label() for line in figure.axes[0].lines] == [
        "CCL",
        "bad",
    ]
    assert list(figure.axes[1].lines[0].get_ydata()) == [0.0] * 200  # the reference minus itself
    assert [line.get_label() for line in report.guidance_figure(results).axes[0].lines] == ["none", "text"]


def test_nothing_is_drawn_of_what_has_not_run(results: Results) -> None:
    drawn = [caption for caption, _ in report._figures(results)]
    assert len(drawn) >= 3
    for runs in ({}, {key: run for key, run in results.runs.items() if key[0] == "bad"}):
        left = [caption for caption, _ in report._figures(replace(results, runs=runs, guidance={}))]
        assert not [caption for caption in left if report.LOSSES in caption]
        assert runs or not left
