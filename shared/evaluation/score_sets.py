"""Distances of sets of clips from the reference: what metrics.json says of them, and differences of two models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from shared.evaluation.frechet import LEAST_CLIPS, LEAST_ROWS, difference, estimate
from shared.evaluation.score_tables import ByClip, refusals


def features(results: ByClip) -> dict[str, Any]:
    """Features of the clips that were not refused, in an order that means nothing: by a hash of their names."""
    names = sorted(results, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: found for name in names if (found := results[name].features) is not None}


def distance(results: ByClip, reference: ByClip, small_sets: bool) -> dict[str, Any]:
    """Value for endless sets with its interval, the value at the sets' own sizes, and what counted. Sets of fewer rows
    than twice the dimension are refused; where `small_sets` are asked for, they have a value at their size alone."""
    mine, theirs = features(results), features(reference)
    refused, rows = refusals(results), sum(map(len, mine.values()))
    told: dict[str, Any] = {
        "value": None, "interval": None, "at_size": None, "n": len(mine), "n_refused": sum(refused.values()),
        "refused": refused, "rows": rows, "reference_rows": sum(map(len, theirs.values())),
        "reference_refused": refusals(reference), "dimension": None, "why_none": "",
        "clips": {name: result.value for name, result in results.items()},
    }  # fmt: skip
    if min(rows, told["reference_rows"]) < 2:
        return told | {"why_none": "fewer than 2 rows of features"}
    found = estimate(list(mine.values()), list(theirs.values()))
    told["dimension"] = found.dimension
    if found.infinity is None:
        few = f"{min(len(mine), len(theirs))} clips; {LEAST_CLIPS} are needed"
        if (least := LEAST_ROWS * found.dimension) > (fewest := min(found.rows, found.reference_rows)):
            few = f"{fewest} rows of features; {least} are needed"
        return told | {"why_none": few, "at_size": found.value if small_sets else None}
    return told | {"value": found.infinity, "interval": found.interval, "at_size": found.value}


def distance_pair(new: ByClip, old: ByClip, reference: ByClip, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Difference of two models' distances for endless sets, of the clips that both have, with the jackknife's interval:
    a pair is left out of both at once. Nones where the pairs are too few."""
    mine, theirs, true = features(new), features(old), list(features(reference).values())
    there = {a: b for a, b in pairs if a in mine and b in theirs}
    found: dict[str, Any] = {"new": None, "old": None, "difference": None, "interval": None, "n": len(there)}
    names = [name for name in mine if name in there]
    sides = [mine[name] for name in names], [theirs[there[name]] for name in names]
    if min(sum(map(len, rows)) for rows in (*sides, true)) < 2:
        return found
    first, second = (estimate(rows, true) for rows in sides)
    if (apart := difference(first, second)) is not None:
        found |= {"new": first.infinity, "old": second.infinity, "difference": apart[0], "interval": apart[1]}
    return found
