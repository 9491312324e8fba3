"""What a checkpoint of the puppets should reach, score by score, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from shared.evaluation.within import Condition, find
from shared.utils.markdown import markdown_table


class Goal(NamedTuple):
    """A score of some tasks of a level: its headline should be at least `least`; or its share of the true clips' at
    most `most`, or at most `near` away from 1."""

    level: str
    tasks: tuple[str, ...]
    score: str
    least: float | None = None
    most: float | None = None
    near: float | None = None

    def reached(self, score: Mapping[str, Any]) -> bool | None:
        """Whether a score, as metrics.json holds it, is as good; None where it has no such value."""
        value = score["headline"] if self.least is not None else of_true(score)
        if value is None:
            return None
        if self.least is not None:
            return bool(value >= self.least)
        return bool(value <= self.most) if self.most is not None else bool(abs(value - 1) <= (self.near or 0))

    @property
    def said(self) -> str:
        """What is asked for, in words."""
        if self.least is not None:
            return f"headline at least {self.least:g}"
        return f"at most {self.most:g} of true" if self.most is not None else f"within {self.near:.0%} of true"


def of_true(score: Mapping[str, Any]) -> float | None:
    """Share of the true clips' value; None where it is not defined."""
    if score["value"] is None or not score["ceiling"]:
        return None
    return float(score.get("of_true") or score["value"] / score["ceiling"])


_BOTH, _SEEN, _HEARD = ("t2av", "i2av"), ("t2v",), ("t2a",)
_REGIONS = ("objects", "people", "rest")
GOALS = (
    *(Goal("simple", (*_BOTH, *_SEEN, *_HEARD), name, least=0.8) for name in ("events", "count")),
    *(Goal("simple", _BOTH, name, least=0.9) for name in ("agreement", "mouth_agreement")),
    Goal("simple", (*_BOTH, *_SEEN), "validity", least=0.8),
    *(Goal("simple", (*_BOTH, *_SEEN), f"blockiness_{region}", most=1.4) for region in _REGIONS),
    *(Goal("simple", (*_BOTH, *_SEEN), f"energy_{region}", near=0.15) for region in _REGIONS),
    Goal("simple", _HEARD, "once", least=0.95),
    Goal("simple", ("t2av",), "pace", least=0.8),
    Goal("shows", ("t2av",), "vowels", least=0.8),
    Goal("full", ("t2av",), "events", least=0.75),
    Goal("full", ("t2av",), "mouth_agreement", least=0.85),
    Goal("full", ("t2av",), "speaker", least=0.9),
    Goal("full", ("t2av",), "binding", least=0.8),
    Goal("full", ("t2av",), "validity", least=0.7),
    Goal("simple", ("mtv",), "events", least=0.95),
    Goal("simple", ("mtv",), "mouth_agreement", least=0.93),
    Goal("simple", ("mtv",), "light", least=0.9),
    Goal("shows", ("mtv",), "vowels", least=0.85),
    Goal("full", ("mtv:speaker unmentioned",), "speaker", least=0.9),
    Goal("simple", ("mtv:text changed",), "looks", least=0.95),
    Goal("shows", ("shots",), "looks", least=0.8),
)
CUT = 0.9
"""Least share that validity around a seam should have of that elsewhere, both as headlines."""
SEAMS = (("shows", "shots"), ("simple", "retake"))
"""Levels and tasks that have seams: cuts, or where given seconds end."""


def goals_table(evaluations: Sequence[Mapping[str, Any]], least: int) -> str:
    """Row for each goal of which there is a score of at least `least` clips; empty without any."""
    rows = [*_rows(evaluations, least)]
    head = ["level", "task", "score", "clips", "value", "ceiling", "floor", "headline", "of true", "goal", "reached"]
    return markdown_table(head, rows) if rows else ""


def _rows(evaluations: Sequence[Mapping[str, Any]], least: int) -> Iterator[list[str | int]]:
    for goal in GOALS:
        for task in goal.tasks:
            result = find(evaluations, goal.level, Condition(task)) or {"measures": {"scores": {}}}
            score = result["measures"]["scores"].get(goal.score)
            if score is None or score["clips"] < max(1, least):
                continue
            numbers = [_number(score.get(name)) for name in ("value", "ceiling", "floor")]
            told = score if goal.least is not None else {**score, "of_true": of_true(score)}
            shares = [_with_interval(told, name) for name in ("headline", "of_true")]
            what = goal.level, task, goal.score.replace("_", " "), score["clips"]
            yield [*what, *numbers, *shares, goal.said, _answer(goal.reached(score))]
    for level, task in SEAMS:
        seams = find(evaluations, level, Condition(task))
        if seams is not None and (ratio := seams["cut"]["ratio"])["value"] is not None:
            near, other = (seams["cut"]["scores"][name] for name in ("validity_cut", "validity_elsewhere"))
            if near["clips"] >= least:
                low, high = ratio["interval"]
                told = f"{_number(near['headline'])} / {_number(other['headline'])} = {ratio['value']:.2f}"
                told += f" [{low:.2f}, {high:.2f}]"
                numbers = [_number(near[name]) for name in ("value", "ceiling", "floor")]
                goal_said, reached = f"seam over elsewhere at least {CUT:g}", _answer(ratio["value"] >= CUT)
                yield [level, task, "validity at the seam", near["clips"], *numbers, told, "", goal_said, reached]


def _with_interval(score: Mapping[str, Any], name: str) -> str:
    ends = score.get(f"{name}_interval")
    return _number(score.get(name)) + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _answer(reached: bool | None) -> str:
    return "" if reached is None else "yes" if reached else "no"
