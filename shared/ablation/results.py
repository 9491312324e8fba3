"""The results of ablations as they are kept: numbers, values per clip and loss curve of each run, written by `collect`.

RESULTS/VARIANT-SEED.json, RESULTS/guidance-VARIANT-SEED.json, RESULTS/pictures/VARIANT.png (where attention looks), and
RESULTS/plan.yaml, which says what they are results of. Tables and reports are made from such folders alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.ablation.plan import AblationPlan, dump_plan, load_plan
from shared.ablation.statistics import Measured
from shared.utils.errors import UserError
from shared.utils.files import read_json

PLAN = "plan.yaml"


@dataclass
class Results:
    """The results of one plan: by variant and seed, those under other guidance by seed, and pictures by variant."""

    plan: AblationPlan
    runs: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    guidance: dict[int, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)

    def of(self, variant: str) -> dict[int, dict[str, Any]]:
        """Return the runs of a variant by seed; of an alias those of the variant it stands for."""
        source = self.plan.shown_as(variant)
        return {seed: self.runs[source, seed] for seed in self.plan.seeds if (source, seed) in self.runs}

    def measured(self, variant: str, metric: str) -> dict[int, Measured]:
        """Metric of a variant by seed, where it was found."""
        values = {seed: run["values"].get(metric) for seed, run in self.of(variant).items()}
        return {seed: from_json(value) for seed, value in values.items() if value is not None}

    def bounds(self, metric: str) -> tuple[float, float] | None:
        """Floor and ceiling of a metric, the mean over the reference's seeds; None where evaluate.py gives none."""
        values = [run["values"].get(metric) or {} for run in self.of(self.plan.reference).values()]
        pairs = [(value["floor"], value["ceiling"]) for value in values if "floor" in value]
        if not pairs:
            return None
        floor, ceiling = np.mean(pairs, axis=0)
        return float(floor), float(ceiling)

    def listed(self) -> dict[str, list[str]]:
        """Variants to show, by group: all of the reference's group, of others those that were run."""
        variants = self.plan.variants
        main = variants[self.plan.reference].group
        groups = dict.fromkeys([main, *(variants[name].group for name, _ in self.runs)])
        return {
            group: [name for name, v in variants.items() if v.group == group and (group == main or self.of(name))]
            for group in groups
        }

    def missing(self) -> list[str]:
        """Return the runs that the plan has and the results lack."""
        trained = [name for name in self.plan.variants if self.plan.shown_as(name) == name]
        return [f"{name}-{seed}" for name in trained for seed in self.plan.seeds if (name, seed) not in self.runs]


def read_results(folders: Iterable[Path]) -> list[Results]:
    """Results in these folders, by plan; folders of one plan (its seeds done on several machines) are joined.

    Raises UserError for a folder without plan.yaml, two plans of one name that differ, a run that two folders hold, a
    file that cannot be read or is of no variant of its plan.
    """
    joined: dict[str, Results] = {}
    for folder in folders:
        if not (folder / PLAN).is_file():
            raise UserError(f"--results {folder}: has no {PLAN}; give the results/ folder of an ablation's output")
        plan = load_plan(folder / PLAN)
        results = joined.setdefault(plan.name, Results(plan))
        if dump_plan(plan) != dump_plan(results.plan):
            raise UserError(f"{folder / PLAN}: another plan {plan.name} than in the folder before; they must agree")
        for file in sorted(folder.glob("*.json")):
            _add(results, file)
        results.pictures |= {file.stem: file for file in sorted(folder.glob("pictures/*.png"))}
    return list(joined.values())


def _add(results: Results, file: Path) -> None:
    run = read_json(file)
    if not {"kind", "variant", "seed"} <= run.keys():
        raise UserError(f"{file}: not the result of a run; leave only such files in this folder")
    variant, seed = run["variant"], run["seed"]
    if variant not in results.plan.variants or seed not in results.plan.seeds:
        raise UserError(f"{file}: variant {variant} with seed {seed} is not in the plan beside it")
    runs: dict[Any, Any] = results.guidance if run["kind"] == "guidance" else results.runs
    key = seed if run["kind"] == "guidance" else (variant, seed)
    if key in runs:
        raise UserError(f"{file}: another folder holds this run too; give each run once")
    runs[key] = run


def from_json(value: Mapping[str, Any]) -> Measured:
    """Return a metric as a result's `values` hold it."""
    if value["clips"] is None:
        return Measured(value["value"], None)
    pairs = zip(value["clips"]["value"], value["clips"]["weight"], strict=True)
    return Measured(value["value"], np.array([(v or 0.0, w) for v, w in pairs], dtype=np.float64))
