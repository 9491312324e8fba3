"""Is one condition as good as another, within d? Differences clip by clip, and a verdict for each sentence.

A sentence compares several scores at once, on the same captions and noise. It fails only if the interval of a score
lies wholly below -d, 95 % for all its scores together by Holm's steps, or if their mean is not above -d / 2. So noise
in one of many scores fails nothing, and neither does a small loss in all of them pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from shared.evaluation.bootstrap import Array, resample, weighted_mean
from shared.utils.markdown import markdown_table
from shared.utils.rng import numpy_generator

RESAMPLES = 10_000
"""More than elsewhere: the first of ten scores has an interval of 99.5 %."""
LEVEL = 0.05
SURE = 100
"""Clips on which a score should count to be compared."""


class Condition(NamedTuple):
    """Which task of which evaluation: its level and what differs from the default; None: as the checkpoint has it."""

    task: str
    seconds: int | None = None
    fps: float | None = None
    held_out: bool = False
    held_out_twins: bool = False


class Sentence(NamedTuple):
    """`new` has the `scores` of `old` within d, on clips of a level."""

    what: str
    d: float
    scores: tuple[str, ...]
    level: str
    new: Condition
    old: Condition


_MAIN = ("events", "agreement", "mouth_agreement", "count", "validity")
_TOLD = ("validity", "events", "count", "kind", "size", "colour", "gender", "side", "shirt", "light", "binding")
_T2AV = Condition("t2av")
SENTENCES = (
    Sentence("clips of 4 s, against 2 s", 0.05, _MAIN, "simple", Condition("t2av", seconds=4), _T2AV),
    Sentence("clips of 8 s, against 2 s", 0.05, _MAIN, "simple", Condition("t2av", seconds=8), _T2AV),
    Sentence("24 frames a second, against the checkpoint's", 0.05, _MAIN, "simple", Condition("t2av", fps=24), _T2AV),
    Sentence(
        "pairs and paraphrases that no training clip has, against usual ones", 0.1, _TOLD, "shows",
        Condition("t2av", held_out=True), Condition("t2av", held_out_twins=True),
    ),
    *(
        Sentence(
            "text changed and tracks kept: sync, against the clip's own text", 0.03,
            ("agreement", "mouth_agreement", "vowels"), level, Condition("mtv:text changed"), Condition("mtv"),
        )
        for level in ("simple", "full", "shows")
    ),
    *(
        Sentence(
            "speech given and the rest made: mouths, against the whole sound given", 0.05,
            ("mouth_agreement", "vowels"), level, Condition("part:given"), Condition("a2v"),
        )
        for level in ("simple", "full", "shows")
    ),
)  # fmt: skip


class Paired(NamedTuple):
    """A score in both conditions on the clips where it counts in both; `interval` of the difference, corrected for the
    other scores, and whether it `fails`: lies wholly below -d."""

    new: float
    old: float
    difference: float
    interval: tuple[float, float]
    clips: int
    fails: bool


class Verdict(NamedTuple):
    """Scores of a sentence, those of too few clips by name, their mean difference, and whether the sentence holds; None
    where no score counts."""

    scores: Mapping[str, Paired]
    few: Sequence[str]
    mean: float | None
    holds: bool | None


def judge(new: Mapping[str, Any], old: Mapping[str, Any], sentence: Sentence, least: int) -> Verdict:
    """Compare two results as metrics.json holds them under "measures"; scores of fewer than `least` clips are left
    out."""
    tables, few = dict[str, Array](), list[str]()
    for name in sentence.scores:
        if name in new["per_clip"] and name in old["per_clip"]:
            rows = _both(new["per_clip"][name], old["per_clip"][name])
            if len(rows) >= max(1, least):
                tables[name] = rows
            else:
                few.append(name)
    if not tables:
        return Verdict({}, few, None, None)
    draws = {name: _differences(rows) for name, rows in tables.items()}
    bounds = holm(draws, -sentence.d)
    scores = {}
    for name, rows in tables.items():
        first, second = float(weighted_mean(rows[:, :2])), float(weighted_mean(rows[:, 2:]))
        interval, fails = bounds[name]
        scores[name] = Paired(first, second, first - second, interval, len(rows), fails)
    mean = float(np.mean([score.difference for score in scores.values()]))
    fails = any(score.fails for score in scores.values())
    return Verdict(scores, few, mean, not fails and mean > -sentence.d / 2)


def _both(new: Mapping[str, Any], old: Mapping[str, Any]) -> Array:
    """Values and weights of the clips where a score counts in both, [clips, 4]."""
    rows = zip(new["value"], new["weight"], old["value"], old["weight"], strict=False)
    return np.array([row for row in rows if row[1] and row[3]], dtype=np.float64).reshape(-1, 4)


def _differences(rows: Array) -> Array:
    """Differences over clips drawn with replacement, the same draws for every score of as many clips."""
    picks = rows[resample(numpy_generator(0, "bootstrap"), len(rows), RESAMPLES)]
    return weighted_mean(picks[..., :2]) - weighted_mean(picks[..., 2:])


def holm(draws: Mapping[str, Array], bound: float) -> dict[str, tuple[tuple[float, float], bool]]:
    """Interval of each difference by Holm's steps, and whether it lies wholly below `bound`. The differences that speak
    most clearly against the bound come first, the k-th of n at 1 - LEVEL / (n - k + 1); after the first that does not
    lie below it none does."""

    def against(name: str) -> float:
        return float((draws[name].mean() - bound) / max(float(draws[name].std()), 1e-12))

    found, rejected = dict[str, tuple[tuple[float, float], bool]](), True
    for rank, name in enumerate(sorted(draws, key=against)):
        tail = LEVEL / (len(draws) - rank) / 2
        low, high = (float(np.quantile(draws[name], share)) for share in (tail, 1 - tail))
        rejected = rejected and high < bound
        found[name] = (low, high), rejected
    return found


def find(evaluations: Sequence[Mapping[str, Any]], level: str, condition: Condition) -> Mapping[str, Any] | None:
    """Find the result of a task under a condition, of the first evaluation that has it."""
    for metrics in evaluations:
        config, task = metrics["config"], metrics["tasks"].get(condition.task)
        seconds = config.get("seconds")
        own = Condition(
            condition.task, None if (level, seconds) == ("simple", 2) else seconds, config.get("fps"),
            bool(config.get("held_out")), bool(config.get("held_out_twins")),
        )  # fmt: skip
        plain = not config["no_context"] and not config.get("as_users_do")
        if task is not None and config["level"] == level and own == condition and plain and "measures" in task:
            return task
    return None


def within_tables(evaluations: Sequence[Mapping[str, Any]], least: int) -> str:
    """Table and verdict of each of SENTENCES for which there are both conditions."""
    parts = []
    for sentence in SENTENCES:
        new, old = (find(evaluations, sentence.level, one) for one in (sentence.new, sentence.old))
        if new is None or old is None:
            continue
        verdict = judge(new["measures"], old["measures"], sentence, least)
        parts.append(f"**{sentence.what}** (`{sentence.level}`): {_said(verdict, sentence.d)}.\n")
        if verdict.scores:
            rows = [_row(name, score) for name, score in verdict.scores.items()]
            head = ["score", "clips", "new", "old", "difference", "corrected interval", ""]
            parts.append(markdown_table(head, rows))
        if verdict.few:
            few = ", ".join(name.replace("_", " ") for name in verdict.few)
            parts.append(f"Not compared, of fewer than {least} clips: {few}.\n")
    return "\n".join(parts)


def _said(verdict: Verdict, d: float) -> str:
    if verdict.holds is None:
        return f"within {d:g} cannot be told"
    mean = f"mean difference {verdict.mean:+.3f}, {-d / 2:+.3f} is needed"
    if verdict.holds:
        return f"within {d:g}; {mean}"
    failed = [name.replace("_", " ") for name, score in verdict.scores.items() if score.fails]
    return f"not within {d:g}{' by ' + ', '.join(failed) if failed else ''}; {mean}"


def _row(name: str, score: Paired) -> list[str | int]:
    low, high = score.interval
    said = "below" if score.fails else f"fewer than {SURE} clips" if score.clips < SURE else ""
    numbers = f"{score.new:.3f}", f"{score.old:.3f}", f"{score.difference:+.3f}"
    return [name.replace("_", " "), score.clips, *numbers, f"{low:+.3f} .. {high:+.3f}", said]
