"""The scorer: sets of clips and metrics in, metrics.json, tables and a page out."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shared.data.manifest import Clip
from shared.evaluation.metrics import registry
from shared.evaluation.metrics.base import Metric, Tools
from shared.evaluation.score_against import check_same, counterpart, set_difference, unlike
from shared.evaluation.score_clips import REFERENCE, ClipSet, keys
from shared.evaluation.score_options import ScoreOptions
from shared.evaluation.score_page import write_page
from shared.evaluation.score_run import Results, digest, jsonable, measure_all, works_of
from shared.evaluation.score_sets import distance, distance_pair
from shared.evaluation.score_tables import ByClip, csv_rows, difference, latex_rows, over_clips, summary
from shared.evaluation.suites import incomplete
from shared.utils.files import write_atomically, write_json
from shared.utils.progress import bar
from shared.utils.version import commit

LIBRARIES = ("torch", "transformers", "numpy", "scipy", "av")


def score(
    options: ScoreOptions,
    sets: Sequence[ClipSet],
    reference: ClipSet | None,
    against: Mapping[str, Any] | None,
    device: str,
    suite: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure, write OUTPUT, and return what metrics.json holds. UserError for an `against` of another way to measure,
    before anything is measured."""
    tools = Tools(options.weight_paths(), device, options.batch, registry.read_settings(options.set, options.metrics))
    metrics = registry.load(options.metrics, tools)
    facts = {name: described(metric) for name, metric in metrics.items()}
    if against is not None:
        check_same(facts, against, options.compare_anyway)
    rebuild = partial(registry.load, options.metrics, Tools(tools.weights, device, options.batch, tools.settings))
    every = [*sets, *([reference] if reference else [])]
    measured = measured_sets(options, every, metrics, facts, rebuild if device.startswith("cuda") else None)
    for name, fact in facts.items():
        by_set = {one.name: each(measured[one.name], name) for one in every if name in wanted_of(one, facts)}
        fact |= scored(name, by_set, sets, options)
        if against is not None:
            fact["against"] = compared(fact, against["metrics"].get(name), bool(registry.METRICS[name].over_sets))
    result = {
        "versions": versions(), "clips": {one.name: {"path": str(one.path), "clips": len(one.clips)} for one in sets},
        "reference": reference and {"path": str(reference.path), "clips": len(reference.clips)},
        "against": against and against["file"], "compared_anyway": list(options.compare_anyway), "suite": suite,
        "metrics": facts,
    }  # fmt: skip
    write(options.output, result)
    write_page(options.output / "index.html", result, sets, measured, options.shown)
    print("\n".join([*summary(result), *incomplete(suite), str(options.output / "index.html")]))
    return result


def scored(name: str, by_set: Mapping[str, ByClip], sets: Sequence[ClipSet], options: ScoreOptions) -> dict[str, Any]:
    """Numbers of one metric: by set of clips, and each set's difference from the first."""
    first, *others = sets
    pairs = [(one, paired(one.clips, first.clips, options.pairs_by)) for one in others if options.pairs_by]
    told: dict[str, Any] = {"over_sets": registry.METRICS[name].over_sets}
    if told["over_sets"]:
        true = by_set[REFERENCE]
        told["sets"] = {one.name: distance(by_set[one.name], true, options.small_sets) for one in sets}
        changes = [distance_pair(by_set[one.name], by_set[first.name], true, same) for one, same in pairs]
    else:
        told["sets"] = {one.name: over_clips(by_set[one.name]) for one in sets}
        changes = [difference(told["sets"][one.name], told["sets"][first.name], same) for one, same in pairs]
    told["pairs"] = [
        {"of": one.name, "minus": first.name, **change} for (one, _), change in zip(pairs, changes, strict=True)
    ]
    return told


def compared(fact: Mapping[str, Any], there: Mapping[str, Any] | None, over_sets: bool) -> list[dict[str, Any]]:
    """Differences of the sets here from those of another run: clip by clip where clips of one name have values."""
    found = []
    for name, score in fact["sets"].items():
        other = counterpart(name, there["sets"]) if there else None
        if there is None or other is None:
            continue
        old = there["sets"][other]
        same = [(clip, clip) for clip in score["clips"] if clip in old["clips"]]
        change = set_difference(score, old) if over_sets else difference(score, old, same)
        found.append({"of": name, "minus": f"{other} there", "measured_alike": not unlike(fact, there), **change})
    return found


def described(metric: Metric) -> dict[str, Any]:
    """All that a number of this metric is of: what is done before, its hash, and that of the weights."""
    preprocessing = jsonable(metric.preprocessing())  # a tuple here is a list in the file
    return {
        "better": metric.better, "needs": sorted(metric.needs), "preprocessing": preprocessing,
        "preprocessing_hash": digest(preprocessing), "weights": metric.fingerprint(),
    }  # fmt: skip


def measured_sets(
    options: ScoreOptions,
    sets: Sequence[ClipSet],
    metrics: Mapping[str, Metric],
    facts: Mapping[str, Any],
    rebuild: Any,
) -> dict[str, dict[str, Results]]:
    """Results of every clip by set, clip and metric, with a bar of how many are done."""
    works = [
        (one.name, work) for one in sets for work in works_of(one, options.output, wanted_of(one, facts), options.fps)
    ]
    results = measure_all([work for _, work in works], metrics, options.workers, rebuild)
    found: dict[str, dict[str, Results]] = {one.name: {} for one in sets}
    for (name, work), result in zip(works, bar(results, total=len(works), unit="clip", desc="score"), strict=True):
        found[name][work.clip.id] = result
    return found


def each(measured: Mapping[str, Results], metric: str) -> dict[str, Any]:
    """Results of one metric by clip."""
    return {clip: results[metric] for clip, results in measured.items()}


def wanted_of(one: ClipSet, facts: Mapping[str, Any]) -> dict[str, str]:
    """Metrics that a set is measured with, and the hash of each; the reference with those that compare with it."""
    names = [name for name in facts if one.name != REFERENCE or registry.METRICS[name].over_sets]
    return {name: digest([facts[name]["preprocessing_hash"], facts[name]["weights"]]) for name in names}


def paired(new: Sequence[Clip], old: Sequence[Clip], pairs_by: str) -> list[tuple[str, str]]:
    """Ids of the clips of two sets that belong together."""
    there = {key: name for name, key in keys(old, pairs_by).items()}
    return [(name, there[key]) for name, key in keys(new, pairs_by).items() if key in there]


def versions() -> dict[str, str]:
    """Versions of what computes: this code's commit, Python and libraries."""
    return {"code": commit(), "python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def write(output: Path, result: Mapping[str, Any]) -> None:
    """Write the tables, and metrics.json last."""
    write_atomically(output / "metrics.csv", csv_rows(result))
    write_atomically(output / "metrics.tex", latex_rows(result))
    write_json(output / "metrics.json", result)
