"""The claims of a plan's primary family: what was expected, what came out, and its verdict."""

from typing import NamedTuple

from shared.ablation.plan import AblationPlan
from shared.ablation.plan_sections import Contrast
from shared.ablation.results import Results
from shared.ablation.statistics import LEVEL, Difference, difference, holm, power, verdict


class Claim(NamedTuple):
    """A contrast and its result: `found` is the reference against the variant in the direction of the claim, over the
    seeds that both have; `corrected` is its p by Holm's steps, None before all `planned` seeds have run. `power`: at
    what was expected, at the strictest of these steps."""

    contrast: Contrast
    planned: int
    power: float
    found: Difference | None
    corrected: float | None
    verdict: str


def claims(results: Results) -> list[Claim]:
    """All contrasts of the family. Nothing is told of one before all of its seeds have run; until then it counts in the
    correction as one that cannot be told."""
    plan = results.plan
    found = [_found(results, contrast) for contrast in plan.family]
    planned = [_planned(plan, contrast) for contrast in plan.family]
    ran = [0 if one is None else len(one.by_seed) for one in found]
    p = [one.p if one and one.p is not None and ran[i] == planned[i] else None for i, one in enumerate(found)]
    made = []
    for i, corrected in enumerate(holm([1.0 if value is None else value for value in p])):
        contrast, one = plan.family[i], found[i]
        chance = power(contrast.expected, contrast.deviation, planned[i], LEVEL / len(p))
        if one is None or one.interval is None or p[i] is None:
            made.append(Claim(contrast, planned[i], chance, one, None, f"{ran[i]} of {planned[i]} seeds"))
        else:
            word = verdict(one.mean, one.interval, corrected, contrast.bound)
            made.append(Claim(contrast, planned[i], chance, one, corrected, word))
    return made


def _planned(plan: AblationPlan, contrast: Contrast) -> int:
    return len({*plan.seeds_of(contrast.variant)} & {*plan.seeds_of(plan.reference)})


def _found(results: Results, contrast: Contrast) -> Difference | None:
    """Return the reference minus the variant, turned where less is better."""
    plan = results.plan
    (metric,) = (metric for metric in plan.endpoints if metric.name == contrast.metric)
    own, other = (results.measured(name, metric.name) for name in (plan.reference, contrast.variant))
    return difference(own, other, metric.name) if metric.better == "higher" else difference(other, own, metric.name)
