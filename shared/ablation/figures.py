"""The figures of an ablation: endpoints, loss curves (the paper's Figure 5), guidance; and any figure as SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from shared.ablation.results import Results
from shared.ablation.sections import Metric
from shared.ablation.statistics import spread, verdict
from shared.ablation.tables import by_setting, compared

COLOURS = {"better": "#1a7f37", "worse": "#c2410c"}
GREY = "#6b7280"


def endpoint(results: Results, metric: Metric) -> Figure:
    """Draw left every seed's value, right the difference from the reference with its interval; a row per variant."""
    plan = results.plan
    names = [name for group in results.listed().values() for name in group if results.measured(name, metric.name)]
    figure = Figure(figsize=(9.5, 0.9 + 0.3 * len(names)), layout="constrained")
    values, minus = figure.subplots(1, 2, sharey=True)
    for row, name in enumerate(names):
        measured = results.measured(name, metric.name)
        found = spread(measured)
        assert found is not None, "variants without values are left out"
        values.plot([one.value for one in measured.values()], [row] * found.seeds, "o", color=GREY, alpha=0.5, ms=4)
        values.plot([found.mean], [row], "|", color="black", ms=13)
        _difference(minus, row, results, name, metric)
    values.set_yticks(range(len(names)), [plan.label(name) for name in names])
    values.invert_yaxis()
    minus.axvline(0, color="black", lw=0.8)
    values.set_xlabel(f"{metric.name}: each seed, and the mean")
    minus.set_xlabel(f"minus {plan.label(plan.reference)}, 95 % interval")
    return figure


def _difference(axes: Any, row: int, results: Results, name: str, metric: Metric) -> None:
    found = compared(results, name, metric)
    if found is None:
        return
    colour = COLOURS.get(verdict(found, metric.better), GREY)
    if found.interval is not None:
        axes.plot(found.interval, [row, row], color=colour, lw=2)
    axes.plot([found.mean], [row], "o", color=colour, ms=5)


def curves(results: Results) -> Iterator[tuple[str, Figure]]:
    """Yield a figure per loss and group of variants: left the mean over seeds, right the difference from the reference.

    That saw the same samples in the same seed; the mean is a line, least to greatest a band.
    """
    plan = results.plan
    names = dict.fromkeys(name for run in results.runs.values() for name in run["curve"])
    groups = dict.fromkeys(variant.group for variant in plan.variants.values())
    for series in names:
        for group in groups:
            shown = [n for n, v in plan.variants.items() if v.group == group or n == plan.reference]
            trained = [n for n in shown if plan.source(n) == n and results.of(n)]
            if not trained or (len(trained) == 1 and group != plan.variants[plan.reference].group):
                continue
            figure = Figure(figsize=(11, 4.2), layout="constrained")
            axes = figure.subplots(1, 2)
            for place, name in enumerate(trained):
                _curve(axes, results, name, series, place)
            for one, label in zip(axes, ("loss", f"minus {plan.label(plan.reference)}"), strict=True):
                one.set_xlabel("step")
                one.set_ylabel(f"{label}, exponential average")
            if axes[0].lines:
                figure.legend(loc="outside lower center", fontsize=8, ncols=4)
                yield f"Training loss, {series}" + (f": {group}" if len(groups) > 1 else ""), figure


def _curve(axes: Any, results: Results, name: str, series: str, place: int) -> None:
    own, base = (_by_seed(results, one, series) for one in (name, results.plan.reference))
    if not own:
        return
    steps = np.linspace(*_common(list(own.values()) + list(base.values())), 200)
    rows = {seed: np.interp(steps, *curve) for seed, curve in own.items()}
    is_reference = name == results.plan.reference
    colour = "black" if is_reference else mpl.colormaps["tab10"](place % 10)
    style = {"color": colour, "ls": ("-", "--", ":")[place // 10 % 3], "lw": 2 if is_reference else 1.2}
    axes[0].plot(steps, np.mean(list(rows.values()), axis=0), label=results.plan.label(name), **style)
    minus = np.array([row - np.interp(steps, *base[seed]) for seed, row in rows.items() if seed in base])
    if len(minus):
        axes[1].plot(steps, minus.mean(0), **style)
        axes[1].fill_between(steps, minus.min(0), minus.max(0), color=colour, alpha=0.12, lw=0)


def _by_seed(results: Results, name: str, series: str) -> dict[int, tuple[list[float], list[float]]]:
    """Return steps and losses of the seeds that have this curve."""
    found = {seed: run["curve"].get(series, {}) for seed, run in results.of(name).items()}
    return {seed: (curve["step"], curve["loss"]) for seed, curve in found.items() if curve.get("step")}


def _common(curves: list[tuple[list[float], list[float]]]) -> tuple[float, float]:
    """Return the first and the last step that all of them reach; each has logged the task at steps of its own."""
    return max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)


def guidance(results: Results) -> Figure:
    """Draw adherence against sync, a line per form through its settings in the plan's order."""
    plan = results.plan
    assert plan.guidance is not None, "drawn where the plan has it"
    across, up = plan.guidance.sync[0], plan.guidance.adherence[0]
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    forms: dict[str, list[tuple[float, float, str]]] = {}
    for setting, measured in by_setting(results):
        found = [spread(measured[metric.name]) for metric in (across, up)]
        if all(found):
            x, y = (one.mean for one in found if one is not None)
            forms.setdefault(setting.form, []).append((x, y, setting.name.partition("_")[2].replace("_", ", ")))
    for form, dots in forms.items():
        axes.plot([dot[0] for dot in dots], [dot[1] for dot in dots], "o-", label=form)
        for x, y, name in dots:
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xlabel(f"{across.name} (sync)")
    axes.set_ylabel(f"{up.name} (adherence)")
    axes.legend()
    return figure


def svg(figure: Figure) -> str:
    """Return the figure as an element of a page: no prolog, no metadata, text as text, the same each time."""
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ablation"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawn = text.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.S)
    return re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", drawn))
