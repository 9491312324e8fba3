"""The scorer's page, to be opened without a network: the table, histograms, and the worst clips by any metric."""

from __future__ import annotations

import io
import json
import mimetypes
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from shared.data.manifest import Clip
from shared.evaluation.html import data_uri, render
from shared.evaluation.metrics.base import Better, Result
from shared.evaluation.score_clips import ClipSet
from shared.evaluation.score_run import Results, jsonable
from shared.evaluation.score_tables import HEAD, differences, in_words, rows
from shared.evaluation.suites import incomplete
from shared.utils.files import write_atomically

LARGEST, LARGEST_PAGE = 8_000_000, 250_000_000
"""Bytes of a clip that stands in the page, and of all of them; what is larger, or comes later, is linked."""
COLOURS = ("#1f77d0", "#d9660b", "#2a9d57", "#8e44ad", "#b7950b", "#c0392b")
WIDTH, HEIGHT = 300, 60  # of a curve
MOST_NUMBERS = 12  # of a list that is written out


def write_page(
    path: Path,
    result: Mapping[str, Any],
    sets: Sequence[ClipSet],
    measured: Mapping[str, Mapping[str, Results]],
    shown: int,
) -> None:
    """Write the page: all numbers, and of each set the `shown` worst clips by each metric, with a player and curves."""
    per_clip = {name: metric["better"] for name, metric in result["metrics"].items() if not metric["over_sets"]}
    colours = {one.name: COLOURS[number % len(COLOURS)] for number, one in enumerate(sets)}
    entries: list[dict[str, Any]] = []
    left = LARGEST_PAGE
    for one in sets:
        for clip in worst(one.clips, measured[one.name], per_clip, shown):
            results = measured[one.name][clip.id]
            entries.append(entry(one.name, clip, results, per_clip, path.parent, min(left, LARGEST)))
            left -= len(entries[-1]["media"] or "")
    page = render(
        "score.html.j2", title=" / ".join(one.name for one in sets), head=HEAD, rows=list(rows(result)),
        differences=[*differences(result), *incomplete(result.get("suite"))], entries=entries,
        histograms=list(histograms(result, colours)), metrics=result["metrics"], order=list(per_clip),
        sets=[one.name for one in sets], shown=shown,
        facts=result["versions"], compared_anyway=result["compared_anyway"], width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    write_atomically(path, page)


def badness(value: float, better: Better) -> float:
    """How bad a value is: the more, the worse."""
    return {"higher": -value, "lower": value, "zero": abs(value)}[better]


def worst(
    clips: Sequence[Clip], results: Mapping[str, Results], per_clip: Mapping[str, Better], shown: int
) -> list[Clip]:
    """Choose the `shown` worst clips by each metric and as many that it refused, in the order of `clips`; the first
    ones where no metric tells clips apart."""
    chosen: set[str] = set() if per_clip else {clip.id for clip in clips[:shown]}
    for name, better in per_clip.items():
        values = {clip.id: results[clip.id][name].value for clip in clips}
        ranks = {clip: badness(value, better) for clip, value in values.items() if value is not None}
        chosen |= {*sorted(ranks, key=lambda clip: -ranks[clip])[:shown]}
        chosen |= {*[clip for clip, value in values.items() if value is None][:shown]}
    return [clip for clip in clips if clip.id in chosen]


def entry(
    name: str, clip: Clip, results: Results, per_clip: Mapping[str, Better], folder: Path, most: int
) -> dict[str, Any]:
    """Collect what the page shows of a clip, its file if that has `most` bytes at most; `order`: by each metric how bad
    it is, as JSON, null where it was refused."""
    file = clip.video or clip.audio
    assert file is not None, "a clip has one of both"
    kind = mimetypes.guess_type(file.name)[0] or "video/mp4"
    small = file.is_file() and file.stat().st_size <= most
    span = f"#t={clip.start:g}" + ("" if clip.end is None else f",{clip.end:g}") if clip.start or clip.end else ""
    media, link = data_uri(kind, file.read_bytes()) + span if small else None, os.path.relpath(file, folder) + span
    order = {m: None if (v := results[m].value) is None else badness(v, better) for m, better in per_clip.items()}
    return {
        "set": name, "id": clip.id, "text": clip.caption, "kind": kind.partition("/")[0],
        "media": media, "link": link, "scores": [(m, in_words(results[m].value), results[m].refused) for m in per_clip],
        "order": json.dumps(order), "details": [detail for m in results for detail in details(m, results[m])],
    }  # fmt: skip


def details(metric: str, result: Result) -> Iterator[dict[str, Any]]:
    """Facts of a metric: a list of numbers as a curve, all else in words, seconds (`_s`) too."""
    for name, value in _flat(jsonable(result.facts)):
        label = f"{metric}: {name}".replace("_", " ")
        numbers = isinstance(value, list) and len(value) > 1 and all(isinstance(v, int | float | None) for v in value)
        known = [v for v in value if v is not None] if numbers and not name.endswith("_s") else []
        if known:
            low, high = min(known), max(known)
            yield {"label": label, "low": in_words(low), "high": in_words(high), "points": points(value, low, high)}
        else:
            yield {"label": label, "value": _told(value)}


def _told(value: Any) -> str:
    """Write a fact in words: numbers with few digits, of a long list of them its ends."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return in_words(value)
    if isinstance(value, list) and len(value) > MOST_NUMBERS and all(isinstance(v, int | float) for v in value):
        return f"{in_words(value[0])} to {in_words(value[-1])}, {len(value)} numbers"
    return json.dumps(value)[:200]


def _flat(facts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def points(values: Sequence[float | None], low: float, high: float) -> str:
    """Corners of a curve in a picture of WIDTH x HEIGHT; what is not known is left out."""
    span = (high - low) or 1.0
    steps = [(WIDTH * i / (len(values) - 1), v) for i, v in enumerate(values) if v is not None]
    return " ".join(f"{x:.1f},{2 + (HEIGHT - 4) * (1 - (v - low) / span):.1f}" for x, v in steps)


def histograms(result: Mapping[str, Any], colours: Mapping[str, str]) -> Iterator[tuple[str, Markup]]:
    """Name and picture of each metric's values over clips, all sets in one."""
    for name, metric in result["metrics"].items():
        found = {
            model: [value for value in score["clips"].values() if value is not None]
            for model, score in metric["sets"].items()
        }
        every = [value for values in found.values() for value in values]
        if metric["over_sets"] or not every:
            continue
        low, high = min(every), max(every)
        edges: list[float] = np.linspace(low, high if high > low else low + 1.0, 21).tolist()
        figure = Figure(figsize=(4.6, 1.9), layout="constrained")
        axes = figure.subplots()
        for model, values in found.items():
            axes.hist(np.asarray(values), edges, color=colours[model], alpha=0.5, label=model)
        axes.set(xlabel=name, ylabel="clips")
        axes.legend(fontsize=8)
        picture = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": name}):  # the same page for the same numbers
            figure.savefig(picture, format="svg", metadata={"Date": None})
        yield name, Markup(picture.getvalue()[picture.getvalue().index("<svg") :])
