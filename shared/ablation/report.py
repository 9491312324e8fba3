"""The report of ablations: one self-contained HTML page, a Markdown file, and blocks of a document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from shared.ablation import figures
from shared.ablation.results import Results, read_results
from shared.ablation.tables import endpoint, facts, markdown, tables
from shared.evaluation.html import data_uri, render
from shared.utils.errors import UserError
from shared.utils.files import replaced, write_atomically


def report(folders: Sequence[Path], output: Path | None, document: Path | None, check: bool) -> None:
    """Make the report and the document's tables from results alone; with `check` nothing is written."""
    every = read_results(folders)
    if document is not None:
        update_document(document, every, check)
    if output is not None and not check:
        write_report(output, every)


def summarise(output: Path) -> None:
    """Print the endpoints of what is there of a plan, and write the report over it."""
    every = read_results([output / "results"])
    for results in every:
        print(facts(results))
        print("\n".join(endpoint(results, metric).markdown() for metric in results.plan.endpoints))
    write_report(output, every)


def write_report(folder: Path, every: Sequence[Results]) -> None:
    """Write FOLDER/report.html and FOLDER/table.md for the results of one plan or more, and print their paths."""
    page, table = folder / "report.html", folder / "table.md"
    folder.mkdir(parents=True, exist_ok=True)
    plans = [_contents(results) for results in every]
    write_atomically(page, render("ablation.html.j2", title=", ".join(plan["title"] for plan in plans), plans=plans))
    texts = [f"## {plan['title']}\n\n{markdown(results)}" for plan, results in zip(plans, every, strict=True)]
    write_atomically(table, "\n".join(texts))
    print(f"{page}\n{table}")


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
        folder = file.with_suffix("") / results.plan.name / "figures"
        drawn = {caption: (figure, folder / f"{_slug(caption)}.svg") for caption, figure in _figures(results)}
        shown = [(caption, path) for caption, (_, path) in drawn.items()]
        maps = [(f"Where attention looks: {label}", path) for label, path in _maps(results)]
        shown += [(caption, path) for caption, path in maps if file.resolve().parent in path.resolve().parents]
        new = replaced(new, results.plan.name, markdown(results) + _images(shown, file), file)
        if check and new != old:
            raise UserError(f"{file}: the tables of {results.plan.name} are not what its results say; write it anew")
        for figure, path in () if check else drawn.values():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, figures.svg(figure))
    if new != old:
        write_atomically(file, new)


def _maps(results: Results) -> list[tuple[str, Path]]:
    """Labels of variants, and the pictures of where their attention looks."""
    pictures = results.pictures
    return [(results.plan.label(name), pictures[name]) for name in results.plan.variants if name in pictures]


def _images(shown: Sequence[tuple[str, Path]], file: Path) -> str:
    """Markdown of captions and pictures; paths are from the document's folder on."""
    lines = ""
    for caption, path in shown:
        lines += f"\n**{caption}.**\n\n![{caption}]({path.resolve().relative_to(file.resolve().parent).as_posix()})\n"
    return lines


def _slug(caption: str) -> str:
    """Return a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """Captions and figures: endpoints, loss curves, guidance."""
    for metric in results.plan.endpoints if results.runs else ():
        yield f"{metric.name}, by seed and as differences".capitalize(), figures.endpoint(results, metric)
    yield from figures.curves(results)
    if results.guidance:
        yield "Adherence to the text against sync, by form of guidance", figures.guidance(results)


def _contents(results: Results) -> dict[str, Any]:
    """Return what the page shows of one plan."""
    plan, every = results.plan, tables(results)
    count = len(plan.endpoints)
    return {
        "title": plan.title or plan.name, "facts": facts(results), "endpoints": every[:count], "others": every[count:],
        "figures": [(caption, Markup(figures.svg(figure))) for caption, figure in _figures(results)],
        "maps": [(label, data_uri("image/png", file.read_bytes())) for label, file in _maps(results)],
    }  # fmt: skip
