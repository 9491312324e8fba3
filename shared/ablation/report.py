"""The report of ablations: a self-contained HTML page, a Markdown file, blocks of a document, and the figures."""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from shared.ablation.plan_sections import Metric
from shared.ablation.results import Results, read_results
from shared.ablation.tables import (
    by_setting,
    claims_alone,
    claims_table,
    compared,
    facts,
    growth,
    leading,
    markdown,
    tables,
)
from shared.evaluation.html import data_uri, render
from shared.utils.errors import UserError
from shared.utils.files import replaced, write_atomically
from shared.utils.text_files import read_text

GREY = "#6b7280"
LOSSES = "Training loss"


def report(folders: Sequence[Path], output: Path | None, document: Path | None, check: bool) -> None:
    """Make the report and the document's tables from results alone; with `check` nothing is written."""
    every = read_results(folders)
    if document is not None:
        update_document(document, every, check)
    if output is not None and not check:
        write_report(output, every)


def summarise(output: Path) -> None:
    """Print claims and endpoints of what is there of a plan, and write the report over it."""
    every = read_results([output / "results"])
    for results in every:
        print(facts(results))
        first = [claims_table(results)] if results.plan.family else []
        print("\n".join(table.markdown() for table in (*first, *leading(results))))
    write_report(output, every)


def write_report(folder: Path, every: Sequence[Results]) -> None:
    """Write FOLDER/report.html and FOLDER/table.md for the results of one plan or more, and print their paths."""
    page, table = folder / "report.html", folder / "table.md"
    folder.mkdir(parents=True, exist_ok=True)
    plans: list[dict[str, Any]] = []
    for results in every:
        plan, in_order = results.plan, tables(results)
        count = bool(plan.family) + len(list(leading(results)))
        plans.append({
            "title": plan.title or plan.name, "facts": facts(results),
            "endpoints": in_order[:count], "others": in_order[count:],
            "figures": [(caption, Markup(svg(figure))) for caption, figure in _figures(results)],
            "maps": [(label, data_uri("image/png", file.read_bytes())) for label, file in _maps(results)],
        })  # fmt: skip
    write_atomically(page, render("ablation.html.j2", title=", ".join(plan["title"] for plan in plans), plans=plans))
    texts = [f"## {plan['title']}\n\n{markdown(results)}" for plan, results in zip(plans, every, strict=True)]
    write_atomically(table, "\n".join(texts))
    print(f"{page}\n{table}")


def update_document(file: Path, every: Sequence[Results], check: bool) -> None:
    """Put each plan's tables between its marks in a Markdown file: all that there is between <!-- NAME:begin --> and
    <!-- NAME:end -->, its claims with a figure or three between <!-- NAME claims:begin --> and end.

    Figures are drawn into STEM/NAME/figures/ beside the file; maps of attention are shown where the results lie below
    the file's folder. With `check` nothing is written, and only the text is compared, for another matplotlib draws the
    same figure by other words. UserError where marks are missing or, with `check`, the tables differ.
    """
    old = read_text(file, f"--document {file}")
    new = old
    for results in every:
        name, folder = results.plan.name, file.with_suffix("") / results.plan.name / "figures"
        figures = [(caption, figure, folder / f"{slug(caption)}.svg") for caption, figure in _figures(results)]
        short = [one for one in figures if not one[0].startswith(LOSSES)]
        maps = [(f"Where attention looks: {label}", path) for label, path in _maps(results)]
        parts = {name: (markdown(results), figures, maps), f"{name} claims": (claims_alone(results), short, [])}
        for mark in [mark for mark in parts if f"<!-- {mark}:begin -->" in new] or [name]:
            block, drawn, others = parts[mark]
            for caption, path in [*((caption, path) for caption, _, path in drawn), *others]:
                if file.resolve().parent in path.resolve().parents:
                    address = path.resolve().relative_to(file.resolve().parent).as_posix()
                    block += f"\n**{caption}.**\n\n![{caption}]({address})\n"
            new = replaced(new, mark, block, file)
            for _, figure, path in () if check else drawn:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, svg(figure))
        if check and new != old:
            raise UserError(f"{file}: the tables of {name} are not what its results say; write it anew")
    if new != old:
        write_atomically(file, new)


def slug(caption: str) -> str:
    """Make a file's name of a caption."""
    return re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")


def _maps(results: Results) -> list[tuple[str, Path]]:
    """Labels of variants, and the pictures of where their attention looks."""
    pictures = results.pictures
    return [(results.plan.label(name), pictures[name]) for name in results.plan.variants if name in pictures]


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """Captions and figures, of what has run: endpoints, convergence, loss curves, guidance."""
    for metric in results.plan.endpoints:
        if (figure := endpoint_figure(results, metric)).axes[0].lines:
            yield f"{metric.name}, by seed and as differences".capitalize(), figure
    if results.plan.convergence and (figure := growth_figure(results)).axes[0].lines:
        yield "Growth with training", figure
    yield from loss_figures(results)
    if results.guidance:
        yield "Adherence to the text against sync, by form of guidance", guidance_figure(results)


def endpoint_figure(results: Results, metric: Metric) -> Figure:
    """Draw left every seed's value, right the difference from the reference with its interval; a row per variant of the
    reference's group."""
    plan = results.plan
    group = results.listed()[plan.variants[plan.reference].group]
    names = [name for name in group if results.measured(name, metric.name)]
    figure = Figure(figsize=(9.5, 0.9 + 0.3 * len(names)), layout="constrained")
    values, minus = figure.subplots(1, 2, sharey=True)
    for row, name in enumerate(names):
        seeds = [run.value for run in results.measured(name, metric.name).values()]
        values.plot(seeds, [row] * len(seeds), "o", color=GREY, alpha=0.5, ms=4)
        values.plot([float(np.mean(seeds))], [row], "|", color="black", ms=13)
        if (difference := compared(results, name, metric)) is not None:
            own = list(difference.by_seed.values())
            minus.plot(own, [row] * len(own), "o", color=GREY, alpha=0.5, ms=4)
            if difference.interval is not None:
                minus.plot(difference.interval, [row, row], color="black", lw=2)
            minus.plot([difference.mean], [row], "o", color="black", ms=5)
    values.set_yticks(range(len(names)), [plan.label(name) for name in names])
    values.invert_yaxis()
    minus.axvline(0, color="black", lw=0.8)
    values.set_xlabel(f"{metric.name}: each seed, and the mean")
    minus.set_xlabel(f"minus {plan.label(plan.reference)}, 95 % interval")
    return figure


def growth_figure(results: Results) -> Figure:
    """Draw a metric against the samples that were seen, a line for each way to train."""
    lines = results.plan.convergence
    assert lines is not None, "drawn where the plan has it"
    (metric,) = (one for one in results.plan.metrics if one.name == lines.metric)
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for label, names in lines.lines.items():
        if points := list(growth(results, names, metric)):
            axes.plot([samples for samples, _ in points], [score for _, score in points], "o-", label=label)
    if axes.lines:
        axes.set(xscale="log", xlabel="samples seen", ylabel=metric.name)
        axes.axhline(lines.target, color=GREY, lw=0.8)
        axes.legend()
    return figure


def loss_figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """Yield a figure per loss and group of variants: left the mean over seeds, right the difference from the reference,
    which saw the same samples in the same seed; without it there is none. The mean is a line, least to most a band."""
    plan = results.plan
    names = dict.fromkeys(name for run in results.runs.values() for name in run["curve"])
    groups = dict.fromkeys(variant.group for variant in plan.variants.values())
    for series, group in ((series, group) for series in names for group in groups):
        shown = [n for n, v in plan.variants.items() if v.group == group or n == plan.reference]
        trained = [n for n in shown if plan.source(n) == n and results.of(n)]
        if not trained or (len(trained) == 1 and group != plan.variants[plan.reference].group):
            continue
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        axes = figure.subplots(1, 2)
        for index, name in enumerate(trained):
            _curve(axes, results, name, series, index)
        for side, label in zip(axes, ("loss", f"minus {plan.label(plan.reference)}"), strict=True):
            side.set(xlabel="step", ylabel=f"{label}, exponential average")
        if axes[1].lines:
            figure.legend(loc="outside lower center", fontsize=8, ncols=4)
            yield f"{LOSSES}, {series}" + (f": {group}" if len(groups) > 1 else ""), figure


def _curve(axes: Any, results: Results, name: str, series: str, index: int) -> None:
    curves, base = (
        {seed: run["curve"][series] for seed, run in results.of(variant).items() if run["curve"].get(series)}
        for variant in (name, results.plan.reference)
    )
    if not curves:
        return
    logged = [curve["step"] for curve in (*curves.values(), *base.values())]  # each run logs a task at steps of its own
    steps = np.linspace(max(run[0] for run in logged), min(run[-1] for run in logged), 200)
    losses = {seed: np.interp(steps, curve["step"], curve["loss"]) for seed, curve in curves.items()}
    is_reference = name == results.plan.reference
    colour = "black" if is_reference else mpl.colormaps["tab10"](index % 10)
    style = {"color": colour, "ls": ("-", "--", ":")[index // 10 % 3], "lw": 2 if is_reference else 1.2}
    axes[0].plot(steps, np.mean(list(losses.values()), axis=0), label=results.plan.label(name), **style)
    pairs = [(loss, base[seed]) for seed, loss in losses.items() if seed in base]
    if pairs:
        minus = np.array([loss - np.interp(steps, other["step"], other["loss"]) for loss, other in pairs])
        axes[1].plot(steps, minus.mean(0), **style)
        axes[1].fill_between(steps, minus.min(0), minus.max(0), color=colour, alpha=0.12, lw=0)


def guidance_figure(results: Results) -> Figure:
    """Draw adherence against sync, a line per form through its settings in the plan's order."""
    sweep = results.plan.guidance
    assert sweep is not None, "drawn where the plan has it"
    across, up = sweep.sync[0], sweep.adherence[0]
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    forms: dict[str, list[tuple[float, float, str]]] = {}
    for setting, measured in by_setting(results):
        seeds = [[run.value for run in measured[metric.name].values()] for metric in (across, up)]
        if all(seeds):
            x, y = (float(np.mean(values)) for values in seeds)
            forms.setdefault(setting.form, []).append((x, y, setting.name.partition("_")[2].replace("_", ", ")))
    for form, dots in forms.items():
        axes.plot([x for x, _, _ in dots], [y for _, y, _ in dots], "o-", label=form)
        for x, y, name in dots:
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set(xlabel=f"{across.name} (sync)", ylabel=f"{up.name} (adherence)")
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
