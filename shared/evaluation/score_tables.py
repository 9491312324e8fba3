"""Numbers of the scorer over clips, each with all that it can be trusted by, and as lines of tables.

metrics.json has under "metrics", by name: what moves the number ("preprocessing"), its hash and that of the weights,
and by set of clips value, interval, clips that count and clips that were refused, by reason.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shared.evaluation.bootstrap import compare_score, interval, resample, weighted_mean
from shared.evaluation.metrics.base import Result
from shared.utils.rng import numpy_generator

ByClip = Mapping[str, Result]
HEAD = ("metric", "clips of", "value [95 % interval]", "n", "refused")
BETTER = {"higher": "higher is better", "lower": "lower is better", "zero": "nearest to 0 is best"}
CSV_COLUMNS = (
    "metric", "clips", "value", "low", "high", "n", "n_refused", "refused", "at_size", "better", "preprocessing_hash",
    "weights",
)  # fmt: skip


def refusals(results: ByClip) -> dict[str, int]:
    """How many clips were refused, by reason, most first."""
    return dict(Counter(result.refused for result in results.values() if result.value is None).most_common())


def over_clips(results: ByClip) -> dict[str, Any]:
    """Weighted mean over clips, its 95 % bootstrap interval (None for fewer than two clips), and each clip's value."""
    counted = {name: result for name, result in results.items() if result.value is not None and result.weight > 0}
    rows = np.array([(result.value, result.weight) for result in counted.values()], dtype=np.float64)
    spread = None
    if len(rows) > 1:
        spread = interval(weighted_mean(rows[resample(numpy_generator(0, "bootstrap"), len(rows))]))
    refused = refusals(results)
    return {
        "value": float(weighted_mean(rows)) if len(rows) else None, "interval": spread, "n": len(rows),
        "n_refused": sum(refused.values()), "refused": refused,
        "clips": {name: result.value for name, result in results.items()},
        "clip_weights": {name: result.weight for name, result in results.items()},
    }  # fmt: skip


def difference(new: Mapping[str, Any], old: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Mean of `new` minus that of `old`, as `over_clips` tells them, on the clips (of new, of old) that both have, with
    a paired bootstrap interval over these clips; None where there is none."""
    sides = [[one["clips"].get(pair[side]) for pair in pairs] for side, one in enumerate((new, old))]
    weights = [[one["clip_weights"].get(pair[side], 0.0) for pair in pairs] for side, one in enumerate((new, old))]
    columns = [
        {
            "value": [value or 0.0 for value in values],
            "weight": [w * (v is not None) for v, w in zip(values, ws, strict=True)],
        }
        for values, ws in zip(sides, weights, strict=True)
    ]
    compared = compare_score(columns[0], columns[1])
    return {
        "new": compared["new"], "old": compared["old"], "difference": compared["difference"],
        "interval": compared["interval"] if compared["clips"] > 1 else None, "n": compared["clips"],
    }  # fmt: skip


def in_words(value: float | None, spread: Sequence[float] | None = None, form: str = ".4g") -> str:
    """Write a number with its interval, "0.95 [0.93, 0.97]"; "-" for none."""
    if value is None:
        return "-"
    return f"{value:{form}}" + (f" [{spread[0]:{form}}, {spread[1]:{form}}]" if spread else "")


def told_refusals(score: Mapping[str, Any]) -> str:
    """How many clips were refused and why, "2: 1 no video, 1 silent"; "" for none."""
    if not score["n_refused"]:
        return ""
    return f"{score['n_refused']}: " + ", ".join(f"{count} {reason}" for reason, count in score["refused"].items())


def told(score: Mapping[str, Any]) -> str:
    """Tell a score with its interval; of a distance of sets also what it is at their own size."""
    text = in_words(score["value"], score["interval"])
    return text if score.get("at_size") is None else f"{text} ({in_words(score['at_size'])} at this size)"


def why(score: Mapping[str, Any]) -> str:
    """Tell why there is no value, and which clips were refused."""
    return "; ".join(filter(None, (score.get("why_none", ""), told_refusals(score))))


def rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """Cells of a table: metric, set of clips, value, clips that count, and what was refused."""
    for name, metric in metrics["metrics"].items():
        for model, score in metric["sets"].items():
            yield f"{name} ({BETTER[metric['better']]})", model, told(score), str(score["n"]), why(score)


def differences(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Lines about pairs of sets, of this run and against another."""
    for name, metric in metrics["metrics"].items():
        for pair in [*metric["pairs"], *metric.get("against", [])]:
            line = (
                f"{name}: {pair['of']} minus {pair['minus']}: {in_words(pair['difference'], pair['interval'], '+.4g')}"
            )
            alike = "" if pair.get("measured_alike", True) else ", measured in another way"
            yield f"{line} on {pair['n']} clips{alike}"


def summary(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a table for a terminal, then differences."""
    table = [HEAD, *rows(metrics)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from differences(metrics)


def csv_rows(metrics: Mapping[str, Any]) -> str:
    """Make a table for other programs: a line for each metric and set of clips."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for name, metric in metrics["metrics"].items():
        for model, score in metric["sets"].items():
            low, high = score["interval"] or ("", "")
            value = "" if score["value"] is None else score["value"]
            row = [name, model, value, low, high, score["n"], score["n_refused"], why(score)]
            size = score.get("at_size")
            writer.writerow(
                [*row, "" if size is None else size, metric["better"], metric["preprocessing_hash"], metric["weights"]]
            )
    return text.getvalue()


def latex_rows(metrics: Mapping[str, Any]) -> str:
    """Rows of a LaTeX table: a comment with the columns, then a line for each set of clips."""
    names = list(metrics["metrics"])
    lines = ["% clips & " + " & ".join(names)]
    for model in metrics["clips"]:
        scores = [metrics["metrics"][name]["sets"][model] for name in names]
        cells = [
            in_words(score["value"], score["interval"]).replace("-", "$-$") if score["value"] is not None else "--"
            for score in scores
        ]
        lines.append(f"{escaped(model)} & {' & '.join(cells)} \\\\")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Write a name so that LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
