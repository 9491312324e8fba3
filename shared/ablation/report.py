"""The report of ablations: one self-contained HTML page, a Markdown file, and blocks of a document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shared.ablation import figures
from shared.ablation.results import Results, read_results
from shared.ablation.tables import endpoint, facts, markdown, tables
from shared.evaluation.html import Markup, data_uri, render
from shared.utils.errors import UserError
from shared.utils.files import replaced, write_atomically

PAGE, TABLE = "report.html", "table.md"


def report(folders: Sequence[Path], output: Path | None, document: Path | None, check: bool) -> None:
    """Make the report and the document's tables from results alone; with `check` nothing is written."""
    every = read_results(folders)
    if document is not None:
        update_document(document, every, check)
    if output is not None and not check:
        write_report(output, every)
        print(f"{output / PAGE}\n{output / TABLE}")


def summarise(output: Path) -> None:
    """Write the report over what is there of a plan, and print its endpoints."""
    every = read_results([output / "results"])
    write_report(output, every)
    for results in every:
        print(facts(results))
        print("\n".join(endpoint(results, metric).markdown() for metric in results.plan.endpoints))
    print(f"{output / PAGE}\n{output / TABLE}")


def write_report(folder: Path, every: Sequence[Results]) -> None:
    """Write FOLDER/report.html and FOLDER/table.md for the results of one plan or more."""
    folder.mkdir(parents=True, exist_ok=True)
    plans = [_contents(results) for results in every]
    title = ", ".join(plan["title"] for plan in plans)
    write_atomically(folder / PAGE, render("ablation.html.j2", title=title, plans=plans))
    text = "\n".join(f"## {results.plan.title or results.plan.name}\n\n{markdown(results)}" for results in every)
    write_atomically(folder / TABLE, text)


def update_document(file: Path, every: Sequence[Results], check: bool) -> None:
    """Put each plan's tables between its marks <!-- NAME:begin --> and <!-- NAME:end --> in a Markdown file.

    Figures are drawn into STEM/NAME/figures/ beside the file; maps of attention are shown from the results where these
    lie below the file's folder. With `check` nothing is written, and only the text is compared: another matplotlib
    draws the same figure by other words.

    Raises UserError where marks are missing or, with `check`, the tables differ.
    """
    try:
        old = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--document {file}: cannot be read ({error.strerror})") from None
    new = old
    for results in every:
        drawn = list(_figures(results))
        folder = file.with_suffix("") / results.plan.name / "figures"
        shown = [(caption, folder / f"{_slug(caption)}.svg") for caption, _ in drawn] + _maps(results, file)
        new = replaced(new, results.plan.name, markdown(results) + _images(shown, file), file)
        if check and new != old:
            raise UserError(f"{file}: the tables of {results.plan.name} are not what its results say; write it anew")
        if not check and drawn:
            folder.mkdir(parents=True, exist_ok=True)
            for caption, figure in drawn:
                write_atomically(folder / f"{_slug(caption)}.svg", figures.svg(figure))
    if new != old:
        write_atomically(file, new)


def _maps(results: Results, file: Path) -> list[tuple[str, Path]]:
    """Captions and files of the maps of attention that a document can show."""
    shown = [name for name in results.plan.variants if name in results.pictures]
    maps = [(f"Where attention looks: {results.plan.label(name)}", results.pictures[name]) for name in shown]
    return [(caption, path) for caption, path in maps if file.resolve().parent in path.resolve().parents]


def _images(shown: Sequence[tuple[str, Path]], file: Path) -> str:
    """Markdown; paths are from the document's folder on."""
    lines = [
        f"**{caption}.**\n\n![{caption}]({path.resolve().relative_to(file.resolve().parent).as_posix()})\n"
        for caption, path in shown
    ]
    return "".join(f"\n{line}" for line in lines)


def _slug(caption: str) -> str:
    """Return a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """Captions and figures: endpoints, loss curves, guidance."""
    if results.runs:
        for metric in results.plan.endpoints:
            yield f"{metric.name}, by seed and as differences".capitalize(), figures.endpoint(results, metric)
        yield from figures.curves(results)
    if results.guidance:
        yield "Adherence to the text against sync, by form of guidance", figures.guidance(results)


def _contents(results: Results) -> dict[str, Any]:
    """Return what the page shows of one plan."""
    plan, every = results.plan, tables(results)
    count = len(plan.endpoints)
    pictures = {plan.label(name): results.pictures[name] for name in plan.variants if name in results.pictures}
    return {
        "title": plan.title or plan.name,
        "facts": facts(results),
        "endpoints": every[:count],
        "figures": [(caption, Markup(figures.svg(figure))) for caption, figure in _figures(results)],
        "others": every[count:],
        "maps": [(label, data_uri("image/png", file.read_bytes())) for label, file in pictures.items()],
    }
