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
from shared.evaluation.score_clips import ClipSet, keys
from shared.evaluation.score_options import ScoreOptions
from shared.evaluation.score_run import Results, digest, measure_all, works_of
from shared.evaluation.score_tables import csv_rows, difference, latex_rows, over_clips, summary
from shared.utils.files import write_atomically, write_json
from shared.utils.progress import bar
from shared.utils.version import commit

LIBRARIES = ("torch", "transformers", "numpy", "scipy", "av")


def score(options: ScoreOptions, sets: Sequence[ClipSet], reference: ClipSet | None, device: str) -> dict[str, Any]:
    """Measure, write OUTPUT, and return what metrics.json holds."""
    tools = Tools(options.weight_paths(), device, options.batch, registry.read_settings(options.set, options.metrics))
    metrics = registry.load(options.metrics, tools)
    facts = {name: described(metric) for name, metric in metrics.items()}
    rebuild = partial(registry.load, options.metrics, Tools(tools.weights, device, options.batch, tools.settings))
    measured = measured_sets(options, sets, metrics, facts, rebuild if device.startswith("cuda") else None)
    for name, fact in facts.items():
        fact["sets"] = {one.name: over_clips(each(measured[one.name], name)) for one in sets}
        fact["pairs"] = pairs_of(sets, fact["sets"], options.pairs_by) if options.pairs_by else []
    result = {
        "versions": versions(), "clips": {one.name: {"path": str(one.path), "clips": len(one.clips)} for one in sets},
        "reference": reference and {"path": str(reference.path), "clips": len(reference.clips)}, "metrics": facts,
    }  # fmt: skip
    write(options.output, result)
    return result


def described(metric: Metric) -> dict[str, Any]:
    """All that a number of this metric is of: what is done before, its hash, and that of the weights."""
    preprocessing = metric.preprocessing()
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
    wanted = {name: digest([fact["preprocessing_hash"], fact["weights"]]) for name, fact in facts.items()}
    works = [(one.name, work) for one in sets for work in works_of(one, options.output, wanted, options.fps)]
    results = measure_all([work for _, work in works], metrics, options.workers, rebuild)
    found: dict[str, dict[str, Results]] = {one.name: {} for one in sets}
    for (name, work), result in zip(works, bar(results, total=len(works), unit="clip", desc="score"), strict=True):
        found[name][work.clip.id] = result
    return found


def each(measured: Mapping[str, Results], metric: str) -> dict[str, Any]:
    """Results of one metric by clip."""
    return {clip: results[metric] for clip, results in measured.items()}


def pairs_of(sets: Sequence[ClipSet], scores: Mapping[str, Any], pairs_by: str) -> list[dict[str, Any]]:
    """Differences of every set from the first, on the clips that both have."""
    first, *others = sets
    return [
        {
            "of": one.name,
            "minus": first.name,
            **difference(scores[one.name], scores[first.name], paired(one.clips, first.clips, pairs_by)),
        }
        for one in others
    ]


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
    print("\n".join(summary(result)))
    print(output / "metrics.json")
