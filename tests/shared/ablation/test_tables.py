"""Tables of results that are made up: three seeds, one variant that is worse by 0.1."""

from __future__ import annotations

from shared.ablation.results import Results
from shared.ablation.tables import endpoint, facts, guidance, markdown, secondary, variants

NONE = "\N{EN DASH}"


def test_an_endpoint_compares_with_the_reference(results: Results) -> None:
    table = endpoint(results, results.plan.endpoints[0])
    assert table.note.startswith("Endpoint. Higher is better. Floor 0.10 (") and "ceiling 0.90 (" in table.note
    assert "paired by seed." in table.note
    reference, bad, late, alias = table.rows
    assert reference == ["CCL", "3", "0.52", "0.02", "0.50 .. 0.54", "", "", "the reference"]
    assert bad == ["bad", "3", "0.42", "0.02", "0.40 .. 0.44", "-0.10", "-0.10 .. -0.10", "worse"]
    assert late == ["late", "0", *[NONE] * 6] and alias[1:] == bad[1:]


def test_other_metrics_have_a_word_where_it_can_be_told(results: Results) -> None:
    metrics = [*results.plan.secondary, *results.plan.endpoints]
    table = secondary(results, "Others", ["bad"], metrics)
    assert table.rows[:2] == [["CCL", "100 ± 100", "0.52 ± 0.02"], ["bad", "100 ± 100", "0.42 ± 0.02 worse"]]
    assert table.rows[2:] == [["floor", "", "0.10"], ["ceiling", "", "0.90"]]


def test_guidance_and_variants(results: Results) -> None:
    assert guidance(results).rows == [
        ["none", *[NONE] * 2, "0.000", "0.500"],
        ["text", "2.5", NONE, "0.250", "0.500"],
    ]
    rows = variants(results).rows
    assert rows[1] == ["bad", "a|b?", "model.partition=false", "2.5 M", "950", NONE, "1.5"]
    assert rows[2][2] == "tasks={t2av: 1.0}" and rows[2][-1] == NONE
    assert rows[3][2] == "the training of bad"


def test_what_was_run_and_what_is_missing_is_said(results: Results) -> None:
    assert facts(results) == (
        "Plan `toy`: 6 runs of 0.1 hours in all, commit abc, on 2 cores, torch 2.13. Not run: late-0, late-1, late-2."
    )
    text = markdown(results)
    assert text.count("\n| ---") == 4 and "| a\\|b? |" in text
