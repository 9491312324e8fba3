"""The report of ablations: one self-contained HTML page, a Markdown file, and blocks of a document."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.ablation import figures
from shared.ablation.results import Results
from shared.ablation.tables import endpoint, facts, markdown, tables
from shared.evaluation.html import page
from shared.utils.errors import UserError
from shared.utils.files import replaced, write_atomically

PAGE, TABLE = "report.html", "table.md"


def write_report(folder: Path, every: Sequence[Results]) -> None:
    """Write FOLDER/report.html and FOLDER/table.md for the results of one plan or more."""
    folder.mkdir(parents=True, exist_ok=True)
    body = "\n".join(part for results in every for part in _sections(results))
    title = ", ".join(results.plan.title or results.plan.name for results in every)
    write_atomically(folder / PAGE, page(title, _STYLE, body))
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
        drawn = list(_drawings(results))
        folder = file.with_suffix("") / results.plan.name / "figures"
        shown = [(caption, folder / f"{_slug(caption)}.svg") for caption, _ in drawn] + _maps(results, file)
        new = replaced(new, results.plan.name, markdown(results) + _images(shown, file), file)
        if check and new != old:
            raise UserError(f"{file}: the tables of {results.plan.name} are not what its results say; write it anew")
        if not check and drawn:
            folder.mkdir(parents=True, exist_ok=True)
            for caption, drawing in drawn:
                write_atomically(folder / f"{_slug(caption)}.svg", drawing)
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
    """A file's name."""
    return re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")


def _drawings(results: Results) -> Iterator[tuple[str, str]]:
    """Captions and figures as SVG: endpoints, loss curves, guidance."""
    if results.runs:
        for metric in results.plan.endpoints:
            yield f"{metric.name}, by seed and as differences".capitalize(), figures.endpoint(results, metric)
        yield from figures.curves(results)
    if results.guidance:
        yield "Adherence to the text against sync, by form of guidance", figures.guidance(results)


def _sections(results: Results) -> Iterator[str]:
    plan = results.plan
    yield f"<h1>{html.escape(plan.title or plan.name)}</h1><p>{html.escape(facts(results))}</p>"
    yield "<h2>Endpoints, written down before the runs</h2>"
    yield from (endpoint(results, metric).html() for metric in plan.endpoints)
    yield from (_figure(caption, drawing) for caption, drawing in _drawings(results))
    yield "<h2>What else was measured</h2>"
    yield from (table.html() for table in tables(results)[len(plan.endpoints) :])
    yield from _pictures(results)


def _pictures(results: Results) -> Iterator[str]:
    """Maps of attention, in the plan's order."""
    shown = [name for name in results.plan.variants if name in results.pictures]
    if shown:
        yield "<h2>Where attention looks</h2>"
    for name in shown:
        data = base64.b64encode(results.pictures[name].read_bytes()).decode()
        label = html.escape(results.plan.label(name))
        yield f"<figure><figcaption>{label}</figcaption><img alt='{label}' src='data:image/png;base64,{data}'></figure>"


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{drawing}</figure>"


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2126;background:#fbfbfa;max-width:1180px;margin:0 auto;
padding:2rem 1.2rem}
h1{font-size:1.5rem;margin-top:2.5rem}
h2{font-size:1.2rem;margin:2.2rem 0 .4rem}
h3{font-size:1rem;margin:1.6rem 0 0}
.note,figcaption{color:#6b7280}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #dfe1e4;vertical-align:top}
.better{color:#1a7f37}
.worse{color:#c2410c}
figure{background:#fff;border:1px solid #dfe1e4;border-radius:10px;padding:.8rem 1rem;margin:1.2rem 0}
figure svg,figure img{width:100%;height:auto}
"""
