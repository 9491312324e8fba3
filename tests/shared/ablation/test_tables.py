"""Tables of results that are made up: three seeds, one variant that is worse by 0.1."""

from __future__ import annotations

from toy_results import PLAN, run

from shared.ablation.plan import AblationPlan
from shared.ablation.results import Results
from shared.ablation.tables import (
    claims_table,
    convergence,
    endpoint,
    facts,
    guidance,
    leading,
    markdown,
    reached,
    secondary,
    tables,
    variants,
)

NONE = "\N{EN DASH}"


def test_an_endpoint_compares_with_the_reference(results: Results) -> None:
    names = list(results.plan.variants)
    table = endpoint(results, results.plan.endpoints[0], names)
    assert table.note.startswith("Higher is better. Floor 0.10, ceiling 0.90. Differences are paired by seed;")
    reference, bad, late, alias = table.rows
    assert reference == ["CCL", "3", "0.52", "0.02", "0.50 .. 0.54", "the reference", "", ""]
    assert bad == ["bad", "3", "0.42", "0.02", "0.40 .. 0.44", "-0.10 from CCL", "-0.10 .. -0.10", NONE]
    assert late == ["late", "0", *[NONE] * 6] and alias[1:] == bad[1:]


def test_a_variant_may_be_compared_with_another(results: Results) -> None:
    variants = PLAN["variants"] | {"late": {"group": "later"}, "alias": {"group": "later", "against": "late"}}
    plan = AblationPlan.model_validate(PLAN | {"variants": variants})
    runs = results.runs | {("late", s): run("late", s, 0.3) for s in range(3)}
    runs |= {("alias", s): run("alias", s, 0.4) for s in range(3)}
    main, later = leading(Results(plan, runs))
    assert main.title == "score" and [row[0] for row in main.rows] == ["CCL", "bad"]
    assert later.title == "score, later" and later.note.startswith("Exploratory. ")
    assert [row[5] for row in later.rows] == ["-0.22 from CCL", "+0.10 from late"]


def test_other_metrics_are_numbers_without_words(results: Results) -> None:
    metrics = [*results.plan.secondary, *results.plan.endpoints]
    table = secondary(results, "Others", ["bad"], metrics)
    assert table.rows[:2] == [["CCL", "100 ± 100", "0.52 ± 0.02"], ["bad", "100 ± 100", "0.42 ± 0.02"]]
    assert table.rows[2:] == [["floor", "", "0.10"], ["ceiling", "", "0.90"]]


def test_claims_say_what_was_expected_and_what_came_out(results: Results) -> None:
    contrast = {"metric": "score", "bound": 0.05, "expected": 0.1, "deviation": 0.05}
    family = [contrast | {"variant": "bad", "claim": "it helps"}, contrast | {"variant": "late", "claim": "so does it"}]
    plan = AblationPlan.model_validate(PLAN | {"family": family})
    table = claims_table(Results(plan, results.runs))
    bad, late = table.rows
    told = ["+0.10", "+0.10 .. +0.10", NONE, "< 0.001", "holds"]
    assert bad == ["it helps", "bad", "score", "+0.10 (power 0.27)", "3", NONE, *told]
    assert late == ["so does it", "late", "score", "+0.10 (power 0.27)", "0", *[NONE] * 5, "0 of 3 seeds"]
    assert len(table.head) == len(bad) and tables(Results(plan))[0].rows[0][4:] == late[4:]


def test_samples_to_a_score_lie_between_two_trainings(results: Results) -> None:
    lines = {"CCL": ["ccl", "late"], "bad": ["bad"], "none": ["alias"]}
    wanted = {"metric": "score", "target": 0.6, "lines": lines}
    variants = PLAN["variants"] | {"alias": {}}
    plan = AblationPlan.model_validate(PLAN | {"convergence": wanted, "variants": variants})
    runs = {key: one | {"samples": 1000} for key, one in results.runs.items()}
    runs |= {("late", s): run("late", s, 0.68) | {"samples": 4000} for s in range(3)}
    table = convergence(Results(plan, runs))
    assert table.rows[0] == ["CCL", "0.52 at 1,000", "0.68 at 4,000", "2,000"]  # halfway, on the logarithm
    assert table.rows[1:] == [["bad", "0.42 at 1,000", NONE, "more than 1,000"], ["none", NONE, NONE, NONE]]
    assert reached([(1000, 0.7)], 0.6, plan.endpoints[0]) == "at most 1,000"
    lower = plan.endpoints[0].model_copy(update={"better": "lower"})
    assert reached([(1000, 0.8), (2000, 0.4)], 0.6, lower) == "1,414"


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
