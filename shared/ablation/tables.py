"""The tables of an ablation: its claims, endpoints, the other metrics, guidance, convergence, and what was run.

Only the claims of the primary family have verdicts; of all else there are numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from shared.ablation.claims import claims
from shared.ablation.plan import GuidanceSetting
from shared.ablation.plan_sections import Metric, PerStream
from shared.ablation.results import Results, from_json
from shared.ablation.statistics import Difference, Measured, difference, spread
from shared.utils.markdown import markdown_table

BySeed = Mapping[int, Measured]

NONE = "\N{EN DASH}"  # stands where there is no number
COMPARED = ("seeds", "mean", "sd", "min .. max", "difference", "95 % interval", "bootstrap")


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


def claims_alone(results: Results) -> str:
    """Say what was run, and the claims of a plan."""
    return "\n".join([f"{facts(results)}\n", *([claims_table(results).markdown()] if results.plan.family else [])])


def tables(results: Results) -> list[Table]:
    """Claims and endpoints first, as the plan has them, then what else was measured, and what was run."""
    plan = results.plan
    in_order = [claims_table(results)] if plan.family else []
    in_order += [*leading(results)]
    main = plan.variants[plan.reference].group
    groups = results.listed()
    for title in dict.fromkeys(metric.table for metric in plan.secondary):
        metrics = [metric for metric in plan.secondary if metric.table == title]
        for group, names in groups.items():
            measured = [one for one in metrics if any(results.measured(name, one.name) for name in names)]
            if measured or group == main:
                name = title if group == main else f"{title}, {group}"
                in_order.append(secondary(results, name, names, measured or metrics))
    if results.guidance:
        in_order += [guidance(results), *guided_endpoints(results)]
    if plan.convergence:
        in_order.append(convergence(results))
    return [*in_order, variants(results)]


def leading(results: Results) -> Iterator[Table]:
    """Yield the tables of the endpoints, of the reference's group and then of others that were run."""
    plan, groups = results.plan, results.listed()
    for metric in plan.endpoints:
        for group, names in groups.items():
            if group == plan.variants[plan.reference].group:
                yield endpoint(results, metric, names)
            elif any(results.measured(name, metric.name) for name in names):
                table = endpoint(results, metric, names)
                yield table._replace(title=f"{metric.name}, {group}", note="Exploratory. " + table.note)


def claims_table(results: Results) -> Table:
    """Lay out the primary family: what was expected beforehand, and what came out."""
    plan, rows = results.plan, []
    metrics = {metric.name: metric for metric in plan.endpoints}
    for claim in claims(results):
        contrast, found = claim.contrast, claim.found
        metric = metrics[contrast.metric]
        cells = [contrast.claim, plan.label(contrast.variant), contrast.metric]
        cells += [f"{_number(contrast.expected, metric, '+')} (power {claim.power:.2f})"]
        if found is None:
            cells += ["0", *[NONE] * 5]
        else:
            clips = NONE if found.clips is None else str(found.clips)
            cells += [str(len(found.by_seed)), clips, _number(found.mean, metric, "+")]
            cells += [_interval(found.interval, metric), _interval(found.bootstrap, metric)]
            cells += [_probability(claim.corrected)]
        rows.append([*cells, claim.verdict])
    head = ["claim", f"{plan.label(plan.reference)} against", "endpoint", "expected", "seeds", "clips", "effect"]
    head += ["95 % interval", "bootstrap", "p, corrected", "verdict"]
    note = f"{plan.label(plan.reference)} minus the other, so that above 0 is for the claim; paired by seed. "
    note += (
        "Interval and p are Student's t over seeds, p corrected for the whole family by Holm's steps; the bootstrap "
    )
    note += "draws seeds and clips. Smaller than a bound: the interval lies within it on both sides. "
    note += "Power is that of finding what was expected."
    return Table("Claims", note, head, rows)


def convergence(results: Results) -> Table:
    """Lay out how a metric grows with training, and the samples that a score takes, between two on their logarithm."""
    plan, rows = results.plan, []
    assert plan.convergence is not None, "asked for where the plan has it"
    lines, target = plan.convergence.lines, plan.convergence.target
    (metric,) = (one for one in plan.metrics if one.name == plan.convergence.metric)
    most = max(map(len, lines.values()))
    for label, names in lines.items():
        points = list(growth(results, names, metric))
        cells = [f"{_number(score, metric)} at {samples:,}" for samples, score in points]
        rows.append([label, *cells, *[NONE] * (most - len(cells)), reached(points, target, metric)])
    head = ["", *(f"training {i}" for i in range(1, most + 1)), f"samples to {_number(target, metric)}"]
    note = "Exploratory. Means over seeds, and the samples that were seen."
    return Table(f"{metric.name} by training", note, head, rows)


def growth(results: Results, names: Sequence[str], metric: Metric) -> Iterator[tuple[int, float]]:
    """Yield samples and mean score of variants that were run."""
    for name in names:
        over_seeds = spread(results.measured(name, metric.name))
        seen = [run.get("samples") for run in results.of(name).values()]
        if over_seeds is not None and seen and seen[0] is not None:
            yield int(seen[0]), over_seeds.mean


def reached(points: Sequence[tuple[int, float]], target: float, metric: Metric) -> str:
    """Say with how many samples a line first reaches a score."""
    turn = -1.0 if metric.better == "lower" else 1.0
    if not points:
        return NONE
    if turn * points[0][1] >= turn * target:
        return f"at most {points[0][0]:,}"
    for (few, low), (many, high) in pairwise(points):
        if turn * high >= turn * target:
            return f"{round(few * (many / few) ** ((target - low) / (high - low))):,}"
    return f"more than {points[-1][0]:,}"


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


def endpoint(results: Results, metric: Metric, names: Sequence[str]) -> Table:
    """One endpoint of some variants: mean and spread over seeds, and each one's difference from what it is compared
    with."""
    plan, bounds = results.plan, results.bounds(metric.name)
    note = _direction(metric)
    if bounds:
        note += f"Floor {_number(bounds[0], metric)}, ceiling {_number(bounds[1], metric)}. "
    note += "Differences are paired by seed; the interval is Student's t over seeds, the bootstrap of seeds and clips."
    rows = []
    for name in names:
        other, measured = plan.compared_with(name), results.measured(name, metric.name)
        is_base = plan.shown_as(name) == plan.shown_as(other)
        base = None if is_base else results.measured(other, metric.name)
        rows.append([plan.label(name), *_compared(measured, base, metric, plan.label(other))])
    return Table(metric.name, note, ["variant", *COMPARED], rows)


def _direction(metric: Metric) -> str:
    return f"{metric.better.capitalize()} is better. " if metric.better else ""


def _compared(measured: BySeed, base: BySeed | None, metric: Metric, other: str) -> list[str]:
    """Return the cells under COMPARED: spread over seeds, and the difference from `base`, called `other`; None: that
    is it."""
    over_seeds = spread(measured)
    if over_seeds is None:
        return ["0", *[NONE] * 6]
    mean, std, low, high = (_number(value, metric) for value in over_seeds[1:])
    cells = [str(over_seeds.seeds), mean, std, f"{low} .. {high}"]
    if base is None:
        return [*cells, "the reference", "", ""]
    minus = difference(measured, base, metric.name)
    if minus is None:
        return [*cells, *[NONE] * 3]
    told = f"{_number(minus.mean, metric, '+')} from {other}"
    return [*cells, told, _interval(minus.interval, metric), _interval(minus.bootstrap, metric)]


def secondary(results: Results, title: str, names: Sequence[str], metrics: Sequence[Metric]) -> Table:
    """Metrics of some variants: mean and deviation over seeds."""
    plan, rows = results.plan, []
    for name in names if plan.reference in names else [plan.reference, *names]:
        cells = (_mean(results.measured(name, metric.name), metric) for metric in metrics)
        rows.append([plan.label(name), *cells])
    bounds = [results.bounds(metric.name) for metric in metrics]
    for index, label in enumerate(("floor", "ceiling") if any(bounds) else ()):
        pairs = zip(bounds, metrics, strict=True)
        rows.append([label, *(_number(bound[index], metric) if bound else "" for bound, metric in pairs)])
    note = "Exploratory. Mean ± standard deviation over seeds."
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
            rows.append([own_label, *_compared(measured, None if name == reference else base, metric, label)])
        yield Table(f"{metric.name}, by guidance", f"Exploratory. {_direction(metric)}", ["guidance", *COMPARED], rows)


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
    own = [f"of {group} {', '.join(map(str, seeds))}" for group, seeds in plan.group_seeds.items()]
    note = "; ".join([f"Seeds {', '.join(map(str, plan.seeds))}", *own])
    return Table("The variants", f"{note}.", head, rows)


def compared(results: Results, variant: str, metric: Metric) -> Difference | None:
    """Return a variant minus what it is compared with; None for that itself, or where runs lack."""
    plan, other = results.plan, results.plan.compared_with(variant)
    if plan.shown_as(variant) == plan.shown_as(other):
        return None
    measured, base = (results.measured(name, metric.name) for name in (variant, other))
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


def _probability(p: float | None) -> str:
    return NONE if p is None else f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def _interval(ends: Sequence[float] | None, metric: Metric) -> str:
    return NONE if ends is None else " .. ".join(_number(end, metric, "+") for end in ends)


def _scale(scale: PerStream | None) -> str:
    if scale is None:
        return NONE
    return ", ".join(f"{value:g}" for value in (scale if isinstance(scale, tuple) else (scale,)))


def _size(value: float | None) -> str:
    if value is None:
        return NONE
    units = (("G", 1e9), ("M", 1e6), ("k", 1e3))
    return next((f"{value / size:.3g} {unit}" for unit, size in units if value >= size), f"{value:g}")
