"""The tables of an ablation: endpoints, the other metrics, guidance, and what was run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from shared.ablation.plan import GuidanceSetting, Metric, PerStream
from shared.ablation.results import Results, from_json
from shared.ablation.statistics import LEAST_SEEDS, UNTOLD, Difference, Measured, difference, spread, verdict
from shared.utils.markdown import markdown_table

BySeed = Mapping[int, Measured]

NONE = "\N{EN DASH}"  # stands where there is no number


class Table(NamedTuple):
    """A title, a sentence, and rows of text under a head."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Lines of a document."""
        return f"**{self.title}.** {self.note}\n\n{markdown_table(self.head, self.rows)}"


def markdown(results: Results) -> str:
    """All tables of a plan, as a document holds them."""
    return "\n".join([f"{facts(results)}\n", *(table.markdown() for table in tables(results))])


def tables(results: Results) -> list[Table]:
    """Endpoints first, as the plan has them, then what else was measured."""
    plan = results.plan
    in_order = [endpoint(results, metric) for metric in plan.endpoints]
    for title in dict.fromkeys(metric.table for metric in plan.secondary):
        metrics = [metric for metric in plan.secondary if metric.table == title]
        for group, names in results.listed().items():
            has_reference = group == plan.variants[plan.reference].group
            in_order.append(secondary(results, title if has_reference else f"{title}, {group}", names, metrics))
    if results.guidance:
        in_order += [guidance(results), *guided_endpoints(results)]
    return [*in_order, variants(results)]


def facts(results: Results) -> str:
    """Say what was run, in a sentence or two, and plainly what is missing."""
    runs = list(results.runs.values())
    if not runs:
        return "No run of this plan is done yet."
    on = (run["machine"] for run in runs)
    machines = sorted({", ".join([*m["gpus"], f"{m['cores']} cores", f"torch {m['torch']}"]) for m in on})
    commits = ", ".join(sorted({run["commit"] for run in runs}))
    hours = sum(sum(run["seconds"].values()) for run in runs) / 3600
    done = f"Plan `{results.plan.name}`: {len(runs)} runs of {hours:.1f} hours in all, commit {commits}, "
    missing = f" Not run: {', '.join(results.missing())}." if results.missing() else ""
    return f"{done}on {' and '.join(machines)}.{missing}"


def endpoint(results: Results, metric: Metric) -> Table:
    """One endpoint: every variant's mean and spread over seeds and its difference from the reference."""
    plan, bounds = results.plan, results.bounds(metric.name)
    has_clips = any(run.clips is not None for run in results.measured(plan.reference, metric.name).values())
    note = f"Endpoint. {_direction(metric)}"
    if bounds:
        floor, ceiling = (_number(value, metric) for value in bounds)
        note += f"Floor {floor} (sound and picture of two clips), "
        note += f"ceiling {ceiling} (a clip itself through the codecs). "
    note += f"Differences are paired by seed{' and clip' if has_clips else ''}. "
    note += f"A verdict needs {LEAST_SEEDS} seeds that agree and an interval without 0."
    rows, base = [], results.measured(plan.reference, metric.name)
    for name in (name for names in results.listed().values() for name in names):
        own_base = None if plan.shown_as(name) == plan.reference else base
        rows.append([plan.label(name), *_compared(results.measured(name, metric.name), own_base, metric)])
    return Table(metric.name, note, ["variant", *_compared_head(plan.label(plan.reference))], rows)


def _direction(metric: Metric) -> str:
    return f"{metric.better.capitalize()} is better. " if metric.better else ""


def _compared_head(reference: str) -> list[str]:
    return ["seeds", "mean", "sd", "min .. max", f"minus {reference}", "95 % interval", "verdict"]


def _compared(measured: BySeed, base: BySeed | None, metric: Metric) -> list[str]:
    """Return the cells under `_compared_head`: spread over seeds, and the difference from `base`; None: that is it."""
    over_seeds = spread(measured)
    if over_seeds is None:
        return ["0", *[NONE] * 6]
    mean, std, low, high = (_number(value, metric) for value in over_seeds[1:])
    cells = [str(over_seeds.seeds), mean, std, f"{low} .. {high}"]
    if base is None:
        return [*cells, "", "", "the reference"]
    minus = difference(measured, base, metric.name)
    if minus is None:
        return [*cells, NONE, NONE, UNTOLD]
    ends = " .. ".join(_number(end, metric, "+") for end in minus.interval) if minus.interval else NONE
    return [*cells, _number(minus.mean, metric, "+"), ends, verdict(minus, metric.better)]


def secondary(results: Results, title: str, names: Sequence[str], metrics: Sequence[Metric]) -> Table:
    """Metrics of some variants: mean, deviation over seeds and, where it can be told, a verdict."""
    plan, rows = results.plan, []
    for name in names if plan.reference in names else [plan.reference, *names]:
        cells = [plan.label(name)]
        for metric in metrics:
            word = verdict(compared(results, name, metric), metric.better)
            mean = _mean(results.measured(name, metric.name), metric)
            cells.append(mean if word == UNTOLD else f"{mean} {word}")
        rows.append(cells)
    bounds = [results.bounds(metric.name) for metric in metrics]
    for index, label in enumerate(("floor", "ceiling") if any(bounds) else ()):
        pairs = zip(bounds, metrics, strict=True)
        rows.append([label, *(_number(bound[index], metric) if bound else "" for bound, metric in pairs)])
    reference = plan.label(plan.reference)
    note = f"Mean ± standard deviation over seeds; a word where the difference from {reference} can be told."
    return Table(title, note, ["variant", *(metric.name for metric in metrics)], rows)


def guidance(results: Results) -> Table:
    """Forms and scales of guidance: adherence to the text against sync."""
    plan = results.plan
    assert plan.guidance is not None, "results of guidance are of a plan that has it"
    rows = []
    for setting, measured in by_setting(results):
        scales = [_scale(scale) for scale in (setting.text_scale, setting.context_scale)]
        rows.append([setting.form, *scales, *(_mean(measured[metric.name], metric) for metric in plan.guided_metrics)])
    note = f"{plan.label(plan.guidance.variant)}, seeds {', '.join(map(str, sorted(results.guidance)))}."
    head = ["form", "text scale", "context scale", *(metric.name for metric in plan.guided_metrics)]
    return Table("Forms of guidance", note, head, rows)


def guided_endpoints(results: Results) -> Iterator[Table]:
    """Yield the endpoints that are measured under each setting of guidance too, compared with that of reference."""
    plan = results.plan
    reference = plan.guidance.reference if plan.guidance else None
    paths = {metric.path for metric in plan.endpoints} if reference else set()
    for metric in (metric for metric in plan.guided_metrics if metric.path in paths):
        settings = {setting.name: (setting.label, measured[metric.name]) for setting, measured in by_setting(results)}
        label, base = settings[str(reference)]
        rows = []
        for name, (own_label, measured) in settings.items():
            rows.append([own_label, *_compared(measured, None if name == reference else base, metric)])
        note = f"{_direction(metric)}Differences are paired by seed and clip."
        yield Table(f"{metric.name}, by guidance", note, ["guidance", *_compared_head(label)], rows)


def by_setting(results: Results) -> Iterator[tuple[GuidanceSetting, dict[str, dict[int, Measured]]]]:
    """Yield each setting of the plan's guidance, with its metrics by name and seed."""
    plan = results.plan
    for index, setting in enumerate(plan.guidance.settings if plan.guidance else []):
        runs = {seed: run["points"][index]["values"] for seed, run in sorted(results.guidance.items())}
        names = [metric.name for metric in plan.guided_metrics]
        yield setting, {n: {seed: from_json(run[n]) for seed, run in runs.items() if run.get(n)} for n in names}


def variants(results: Results) -> Table:
    """Say what each variant is, and what it costs."""
    plan, rows = results.plan, []
    for name, variant in plan.variants.items():
        differs = [f"the training of {plan.label(variant.same_as)}"] if variant.same_as else []
        differs += [f"{key}={_plain(value)}" for key, value in variant.overrides.items()]
        differs += [f"{key}={_plain(value)} in evaluation" for key, value in variant.evaluate.items()]
        runs = list(results.of(name).values())
        sizes = [_size(runs[0][key] if runs else None) for key in ("parameters", "cross_modal_parameters", "flops")]
        minutes = [sum(run["seconds"].values()) / 60 for run in runs]
        mean_minutes = f"{sum(minutes) / len(minutes):.1f}" if minutes else NONE
        rows.append([plan.label(name), variant.question, ", ".join(differs), *sizes, mean_minutes])
    head = ["variant", "asks", "differs by", "parameters", "cross-modal", "FLOPs", "minutes a run"]
    return Table("The variants", f"Seeds {', '.join(map(str, plan.seeds))}.", head, rows)


def compared(results: Results, variant: str, metric: Metric) -> Difference | None:
    """Return a variant minus the reference; None for the reference itself, or where runs lack."""
    if results.plan.shown_as(variant) == results.plan.reference:
        return None
    measured, base = (results.measured(name, metric.name) for name in (variant, results.plan.reference))
    return difference(measured, base, metric.name)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mean(measured: BySeed, metric: Metric) -> str:
    if (over_seeds := spread(measured)) is None:
        return NONE
    deviation = "" if over_seeds.std is None else f" ± {_number(over_seeds.std, metric)}"
    return f"{_number(over_seeds.mean, metric)}{deviation}"


def _number(value: float | None, metric: Metric, sign: str = "") -> str:
    return NONE if value is None else f"{value:{sign}.{metric.digits}f}"


def _scale(scale: PerStream | None) -> str:
    if scale is None:
        return NONE
    return ", ".join(f"{value:g}" for value in (scale if isinstance(scale, tuple) else (scale,)))


def _size(value: float | None) -> str:
    if value is None:
        return NONE
    units = (("G", 1e9), ("M", 1e6), ("k", 1e3))
    return next((f"{value / size:.3g} {unit}" for unit, size in units if value >= size), f"{value:g}")
