"""The tables of an ablation, endpoints, the other metrics, guidance, and what was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.ablation.results import Results, from_json
from shared.ablation.sections import GuidanceSetting, Metric
from shared.ablation.statistics import LEAST_SEEDS, Difference, Measured, difference, spread, verdict
from shared.utils.markdown import markdown_table

NONE = "\N{EN DASH}"
"""Stands where there is no number."""


@dataclass(frozen=True)
class Table:
    """A title, a sentence, and rows of text under a head."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        return f"**{self.title}.** {self.note}\n\n{markdown_table(self.head, self.rows)}"


def markdown(results: Results) -> str:
    """All tables of a plan, as a document holds them."""
    return "\n".join([f"{facts(results)}\n", *(table.markdown() for table in tables(results))])


def tables(results: Results) -> list[Table]:
    """Endpoints first, as the plan has them, then what else was measured."""
    plan = results.plan
    made = [endpoint(results, metric) for metric in plan.endpoints]
    for title in dict.fromkeys(metric.table for metric in plan.secondary):
        metrics = [metric for metric in plan.secondary if metric.table == title]
        for group, names in results.listed().items():
            own = group == plan.variants[plan.reference].group
            made.append(others(results, title if own else f"{title}, {group}", names, metrics))
    if results.guidance:
        made += [guidance(results), *guided_endpoints(results)]
    return [*made, variants(results)]


def facts(results: Results) -> str:
    """Say what was run, in a sentence or two, and plainly what is missing."""
    runs = list(results.runs.values())
    if not runs:
        return "No run of this plan is done yet."
    machines = sorted({_machine(run) for run in runs})
    commits = sorted({run["commit"] for run in runs})
    hours = sum(sum(run["seconds"].values()) for run in runs) / 3600
    told = [
        f"Plan `{results.plan.name}`: {len(runs)} runs of {hours:.1f} hours in all",
        f"commit {', '.join(commits)}",
        f"on {' and '.join(machines)}.",
    ]
    missing = results.missing()
    lack = f" Not run: {', '.join(missing)}." if missing else ""
    return ", ".join(told) + lack


def endpoint(results: Results, metric: Metric) -> Table:
    """One endpoint: every variant's mean and spread over seeds and its difference from the reference."""
    reference = results.plan.label(results.plan.reference)
    head = ["variant", *_compared_head(reference)]
    direction = f" {metric.better.capitalize()} is better." if metric.better else ""
    note = (
        f"Endpoint.{direction}{_bounds(results, metric)} Differences are paired by seed"
        f"{' and clip' if _has_clips(results, metric) else ''}. "
        f"A verdict needs {LEAST_SEEDS} seeds that agree and an interval without 0."
    )
    rows = [_endpoint_row(results, name, metric) for names in results.listed().values() for name in names]
    return Table(metric.name, note, head, rows)


def _bounds(results: Results, metric: Metric) -> str:
    found = results.bounds(metric.name)
    if found is None:
        return ""
    floor, ceiling = (_number(value, metric) for value in found)
    return f" Floor {floor} (sound and picture of two clips), ceiling {ceiling} (a clip itself through the codecs)."


def _endpoint_row(results: Results, variant: str, metric: Metric) -> list[str]:
    own, minus = results.measured(variant, metric.name), compared(results, variant, metric)
    is_reference = _shown(results, variant) == results.plan.reference
    return [results.plan.label(variant), *_compared_cells(own, minus, metric, is_reference)]


def _compared_head(reference: str) -> list[str]:
    return ["seeds", "mean", "sd", "min .. max", f"minus {reference}", "95 % interval", "verdict"]


def _compared_cells(
    own: dict[int, Measured], minus: Difference | None, metric: Metric, is_reference: bool
) -> list[str]:
    """Mean and spread over seeds, and the difference from the reference."""
    found = spread(own)
    if found is None:
        return ["0", *[NONE] * 6]
    cells = [str(found.seeds), _number(found.mean, metric), _number(found.std, metric)]
    cells.append(f"{_number(found.low, metric)} .. {_number(found.high, metric)}")
    if is_reference:
        return [*cells, "", "", "the reference"]
    if minus is None:
        return [*cells, NONE, NONE, verdict(None, metric.better)]
    return [*cells, _signed(minus.mean, metric), _interval(minus, metric), verdict(minus, metric.better)]


def others(results: Results, title: str, names: Sequence[str], metrics: Sequence[Metric]) -> Table:
    """Metrics of some variants: mean, deviation over seeds and, where it can be told, a verdict."""
    reference = results.plan.reference
    names = names if reference in names else [reference, *names]
    rows = [[results.plan.label(name), *(_other_cell(results, name, metric) for metric in metrics)] for name in names]
    bounds = [results.bounds(metric.name) for metric in metrics]
    for place, label in enumerate(("floor", "ceiling")):
        if any(bounds):
            pairs = zip(bounds, metrics, strict=True)
            rows.append([label, *(_number(found[place], metric) if found else "" for found, metric in pairs)])
    note = (
        "Mean ± standard deviation over seeds; a word where the difference from "
        f"{results.plan.label(reference)} can be told."
    )
    return Table(title, note, ["variant", *(metric.name for metric in metrics)], rows)


def _other_cell(results: Results, variant: str, metric: Metric) -> str:
    mean = _mean(results.measured(variant, metric.name), metric)
    word = verdict(compared(results, variant, metric), metric.better)
    return mean if word.startswith("cannot") else f"{mean} {word}"


def guidance(results: Results) -> Table:
    """Forms and scales of guidance: adherence to the text against sync."""
    plan = results.plan
    assert plan.guidance is not None, "results of guidance are of a plan that has it"
    rows = []
    for setting, measured in points(results):
        scales = [_scale(scale) for scale in (setting.text_scale, setting.context_scale)]
        rows.append([setting.form, *scales, *(_mean(measured[metric.name], metric) for metric in plan.guided_metrics)])
    note = f"{plan.label(plan.guidance.variant)}, seeds {', '.join(map(str, sorted(results.guidance)))}."
    head = ["form", "text scale", "context scale", *(metric.name for metric in plan.guided_metrics)]
    return Table("Forms of guidance", note, head, rows)


def guided_endpoints(results: Results) -> Iterator[Table]:
    """Yield the endpoints that are measured under each setting of guidance too, compared with the setting of reference."""
    plan = results.plan
    assert plan.guidance is not None, "results of guidance are of a plan that has it"
    reference, paths = plan.guidance.reference, {metric.path for metric in plan.endpoints}
    for metric in plan.guided_metrics:
        if reference is None or metric.path not in paths:
            continue
        found = {setting.name: (setting, measured[metric.name]) for setting, measured in points(results)}
        base = found[reference][1]
        rows = []
        for name, (setting, own) in found.items():
            minus = None if name == reference else difference(own, base, metric.name)
            rows.append([setting.label, *_compared_cells(own, minus, metric, name == reference)])
        note = (
            f"{metric.better.capitalize()} is better. " if metric.better else ""
        ) + "Differences are paired by seed and clip."
        head = ["guidance", *_compared_head(found[reference][0].label)]
        yield Table(f"{metric.name}, by guidance", note, head, rows)


def points(results: Results) -> Iterator[tuple[GuidanceSetting, dict[str, dict[int, Measured]]]]:
    """Each setting of the plan's guidance, with its metrics by seed."""
    plan = results.plan
    for place, setting in enumerate(plan.guidance.settings if plan.guidance else []):
        runs = {seed: run["points"][place]["values"] for seed, run in sorted(results.guidance.items())}
        yield (
            setting,
            {
                metric.name: {seed: from_json(found[metric.name]) for seed, found in runs.items() if found[metric.name]}
                for metric in plan.guided_metrics
            },
        )


def variants(results: Results) -> Table:
    """Return what each variant is, and what it costs."""
    plan, rows = results.plan, []
    for name, variant in plan.variants.items():
        runs = list(results.of(name).values())
        first = runs[0] if runs else {}
        sizes = [_size(first.get(key)) for key in ("parameters", "cross_modal_parameters", "flops")]
        minutes = [sum(run["seconds"].values()) / 60 for run in runs]
        spent = f"{sum(minutes) / len(minutes):.1f}" if minutes else NONE
        rows.append([plan.label(name), variant.question, _differs(results, name), *sizes, spent])
    head = ["variant", "asks", "differs by", "parameters", "cross-modal", "FLOPs", "minutes a run"]
    return Table("The variants", f"Seeds {', '.join(map(str, plan.seeds))}.", head, rows)


def compared(results: Results, variant: str, metric: Metric) -> Difference | None:
    """Return a variant minus the reference; None for the reference itself, or where runs lack."""
    plan = results.plan
    if _shown(results, variant) == plan.reference:
        return None
    own, base = (results.measured(name, metric.name) for name in (variant, plan.reference))
    return difference(own, base, metric.name)


def _shown(results: Results, variant: str) -> str:
    """Variant whose numbers stand under this name."""
    return results.plan.source(variant) if results.plan.is_alias(variant) else variant


def _has_clips(results: Results, metric: Metric) -> bool:
    found = results.measured(results.plan.reference, metric.name)
    return any(measured.clips is not None for measured in found.values())


def _differs(results: Results, name: str) -> str:
    variant = results.plan.variants[name]
    told = [f"{key}={_plain(value)}" for key, value in variant.overrides.items()]
    told += [f"{key}={_plain(value)} in evaluation" for key, value in variant.evaluate.items()]
    if variant.same_as:
        told.insert(0, f"the training of {results.plan.label(variant.same_as)}")
    return ", ".join(told)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _machine(run: dict[str, object]) -> str:
    machine = run["machine"]
    assert isinstance(machine, dict)
    parts = [*machine["gpus"], f"{machine['cores']} cores", f"torch {machine['torch']}"]
    return ", ".join(parts)


def _mean(measured: dict[int, Measured], metric: Metric) -> str:
    found = spread(measured)
    if found is None:
        return NONE
    return _number(found.mean, metric) + ("" if found.std is None else f" ± {_number(found.std, metric)}")


def _number(value: float | None, metric: Metric) -> str:
    return NONE if value is None else f"{value:.{metric.digits}f}"


def _signed(value: float, metric: Metric) -> str:
    return f"{value:+.{metric.digits}f}"


def _interval(found: Difference, metric: Metric) -> str:
    return NONE if found.interval is None else " .. ".join(_signed(end, metric) for end in found.interval)


def _scale(scale: float | tuple[float, float] | None) -> str:
    if scale is None:
        return NONE
    return ", ".join(f"{value:g}" for value in (scale if isinstance(scale, tuple) else (scale,)))


def _size(value: object) -> str:
    if not isinstance(value, int | float):
        return NONE
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"
