"""Claims of a primary family: told when all seeds have run, corrected for all, in the direction of the claim."""

from __future__ import annotations

from typing import Any

import pytest
from toy_results import PLAN, run

from shared.ablation.claims import claims
from shared.ablation.plan import AblationPlan
from shared.ablation.results import Results
from shared.ablation.statistics import holm, paired_t, power

CONTRAST = {"metric": "score", "bound": 0.05, "expected": 0.1, "deviation": 0.05}
FAMILY = [{"variant": "bad", "claim": "CCL beats it"}, {"variant": "late", "claim": "later is worse"}]


def with_family(scores: dict[str, tuple[float, ...]], **changes: Any) -> Results:
    plan = AblationPlan.model_validate(PLAN | {"family": [CONTRAST | one for one in FAMILY]} | changes)
    return Results(
        plan, {(name, s): run(name, s, score) for name, own in scores.items() for s, score in enumerate(own)}
    )


def test_a_claim_is_told_when_all_its_seeds_have_run() -> None:
    reference, bad = (0.5, 0.52, 0.57), (0.4, 0.43, 0.44)
    first, second = claims(with_family({"ccl": reference, "bad": bad}))
    mean, half, p = paired_t([a - b for a, b in zip(reference, bad, strict=True)])
    assert half is not None and p is not None and first.found is not None
    assert first.found.mean == pytest.approx(mean) and first.found.interval == pytest.approx((mean - half, mean + half))
    assert first.corrected == holm([p, 1.0])[0] == 2 * p < 0.05 and first.verdict == "holds"  # the other counts as well
    assert (second.found, second.corrected, second.verdict) == (None, None, "0 of 3 seeds")
    assert first.planned == 3 and first.power == pytest.approx(power(0.1, 0.05, 3, 0.025))
    (early, _) = claims(with_family({"ccl": reference, "bad": bad[:2]}))
    assert early.verdict == "2 of 3 seeds" and early.corrected is None and early.found is not None


def test_a_loss_is_turned_and_a_group_has_its_own_seeds() -> None:
    lower = [PLAN["endpoints"][0] | {"better": "lower"}]
    first, _ = claims(with_family({"ccl": (0.5, 0.52, 0.57), "bad": (0.4, 0.43, 0.44)}, endpoints=lower))
    assert first.verdict == "the other way round" and first.found is not None and first.found.mean < 0
    grouped = PLAN["variants"] | {"bad": {"group": "few"}, "alias": {"same_as": "ccl"}}
    scores = {"ccl": (0.5, 0.52, 0.53), "bad": (0.5, 0.521)}
    first, second = claims(with_family(scores, variants=grouped, group_seeds={"few": [0, 1]}))
    assert (first.planned, first.verdict) == (2, "smaller than 0.05") and second.planned == 3
