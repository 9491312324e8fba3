"""What raters preferred: shares with intervals, Bradley-Terry strengths, and how far raters agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.bootstrap import RESAMPLES, interval
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]

LEAST_CAUGHT = 2 / 3
"""Share of catch trials' answers that a rater has to have right, or none of his votes count."""
PRIOR = 0.5
"""Wins that each model has over each other beforehand, so that one which always wins has a strength too."""
CHOICES = {"left", "right", "tie"}


class Vote(NamedTuple):
    """A rater's answer on one criterion: `score` is 1 for the set `one`, 0 for `two`, 0.5 for neither; `one` comes
    before `two` in the study."""

    rater: int
    criterion: str
    item: str
    one: str
    two: str
    score: float


def read_votes(files: Sequence[Path], key: Mapping[str, Any]) -> tuple[list[Vote], dict[int, float]]:
    """Votes of all files, and each rater's share of right answers in catch trials (1 without any). UserError for a file
    of another study, of a rater who is there twice, or damaged."""
    votes: list[Vote] = []
    caught: dict[int, float] = {}
    for file in files:
        said = read_json(file, advice="ask for the file again")
        if said.get("study") != key["study"]:
            raise UserError(f"{file}: is of another study; give the votes of the page beside key.json")
        rater, given = said.get("rater"), said.get("votes")
        if not isinstance(rater, int) or not isinstance(given, list):
            raise UserError(f"{file}: has no rater and votes; ask for the file again")
        if rater in caught:
            raise UserError(f"{file}: a second file of rater {rater}; give one for each rater")
        right = []
        for vote in given:
            trial = _trial(file, rater, vote, key)
            if trial["catch"]:
                right.append(vote["choice"] == trial["catch"])
            else:
                votes.append(_vote(rater, vote, trial, key["sets"]))
        caught[rater] = float(np.mean(right)) if right else 1.0
    return votes, caught


def _trial(file: Path, rater: int, vote: Any, key: Mapping[str, Any]) -> dict[str, Any]:
    fields = vote if isinstance(vote, dict) else {}
    name = str(fields.get("trial"))
    known = name in key["trials"] and name.startswith(f"{rater:03d}-")
    if not known or fields.get("criterion") not in key["criteria"] or fields.get("choice") not in CHOICES:
        raise UserError(f"{file}: {str(vote)[:100]} is no vote of rater {rater} in this study; ask for the file again")
    found: dict[str, Any] = key["trials"][name]
    return found


def _vote(rater: int, vote: Mapping[str, str], trial: Mapping[str, Any], sets: Sequence[str]) -> Vote:
    one, two = sorted((trial["left"], trial["right"]), key=sets.index)
    score = {"left": 1.0, "right": 0.0, "tie": 0.5}[vote["choice"]]
    return Vote(rater, vote["criterion"], trial["item"], one, two, score if one == trial["left"] else 1 - score)


def analyse(votes: Sequence[Vote], caught: Mapping[int, float], key: Mapping[str, Any]) -> dict[str, Any]:
    """Results by criterion, of the raters who had enough catch trials right. UserError if nobody had."""
    left_out = sorted(rater for rater, share in caught.items() if share < LEAST_CAUGHT)
    votes = [vote for vote in votes if vote.rater not in left_out]
    if not votes:
        raise UserError("no vote counts: nobody voted, or all raters had too few catch trials right")
    criteria = {name: criterion([v for v in votes if v.criterion == name], key["sets"]) for name in key["criteria"]}
    return {"raters": len(caught), "left_out": left_out, "catch": dict(caught), "criteria": criteria}


def criterion(votes: Sequence[Vote], sets: Sequence[str]) -> dict[str, Any]:
    """Preference share of each pair, strengths of all sets, and agreement. Intervals are bootstrapped over raters and
    items at once: a vote counts as often as its rater times its item was drawn."""
    weights = _draws(votes)
    pairs, scores = [(vote.one, vote.two) for vote in votes], np.array([vote.score for vote in votes])
    shares = []
    for pair in (pair for pair in combinations(sets, 2) if pair in set(pairs)):
        of_pair = np.array([one == pair for one in pairs])
        counted = weights[:, of_pair]
        with np.errstate(invalid="ignore"):
            drawn = (counted * scores[of_pair]).sum(1) / counted.sum(1)
        answers = Counter(scores[of_pair].tolist())
        shares.append({
            "one": pair[0], "two": pair[1], "share": float(scores[of_pair].mean()), "interval": interval(drawn),
            "votes": int(of_pair.sum()), "for_one": answers[1.0], "for_two": answers[0.0], "ties": answers[0.5],
        })  # fmt: skip
    wins = _wins(pairs, scores, np.concatenate([np.ones((1, len(votes))), weights]), sets)
    strengths = bradley_terry(wins)
    told = {
        name: {"strength": float(strengths[0, n]), "interval": interval(strengths[1:, n])}
        for n, name in enumerate(sets)
    }
    return {"votes": len(votes), "pairs": shares, "bradley_terry": told, "agreement": agreement(votes)}


def _draws(votes: Sequence[Vote]) -> Array:
    """How often each vote counts in each resample of raters and of items, [RESAMPLES, votes]."""
    draw, product = numpy_generator(0, "study", "bootstrap"), np.ones((RESAMPLES, len(votes)))
    for names in ([str(vote.rater) for vote in votes], [vote.item for vote in votes]):
        known = {name: number for number, name in enumerate(sorted(set(names)))}
        times = draw.multinomial(len(known), [1 / len(known)] * len(known), size=RESAMPLES)
        product *= times[:, [known[name] for name in names]]
    return product


def _wins(pairs: Sequence[tuple[str, str]], scores: Array, weights: Array, sets: Sequence[str]) -> Array:
    """Sum wins over votes, ties as halves, by `weights` [R, votes]: [R, sets, sets], row over column, and PRIOR."""
    wins = np.full((len(weights), len(sets), len(sets)), PRIOR)
    for one, two in set(pairs):
        i, j, of_pair = sets.index(one), sets.index(two), np.array([pair == (one, two) for pair in pairs])
        wins[:, i, j] += weights[:, of_pair] @ scores[of_pair]
        wins[:, j, i] += weights[:, of_pair] @ (1 - scores[of_pair])
    wins[:, range(len(sets)), range(len(sets))] = 0
    return wins


def bradley_terry(wins: Array, steps: int = 200) -> Array:
    """Log-strengths of mean 0, of which sigmoid(s_i - s_j) is the chance that i is preferred to j: maximum likelihood
    by Hunter's minorisation (2004, Annals of Statistics 32). wins [..., S, S], i over j -> [..., S]."""
    games, won = wins + np.swapaxes(wins, -1, -2), wins.sum(-1)
    power = np.ones(won.shape)
    for _ in range(steps):
        power = won / (games / (power[..., :, None] + power[..., None, :])).sum(-1)
        power /= np.exp(np.log(power).mean(-1, keepdims=True))
    return np.log(power)


def agreement(votes: Collection[Vote]) -> float | None:
    """Krippendorff's alpha of answers (one, two, neither) to the same comparison: 1 all agree, 0 as by chance; None
    where no comparison has two raters, or all answers are one."""
    by_comparison: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for vote in votes:
        by_comparison[vote.item, vote.one, vote.two].append(vote.score)
    units = [Counter(scores) for scores in by_comparison.values() if len(scores) > 1]
    total = sum((unit for unit in units), Counter[float]())
    count = total.total()
    expected = count**2 - sum(times**2 for times in total.values())
    if not units or not expected:
        return None
    unlike = [(unit.total() ** 2 - sum(times**2 for times in unit.values())) / (unit.total() - 1) for unit in units]
    return 1 - (count - 1) * sum(unlike) / expected


def summary(result: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal."""
    out = ", ".join(map(str, result["left_out"]))
    lines = [f"{result['raters']} raters" + (f"; left out, too few catch trials right: {out}" if out else "")]
    for name, found in result["criteria"].items():
        alpha = "-" if found["agreement"] is None else f"{found['agreement']:.2f}"
        lines.append(f"{name}: {found['votes']} votes, agreement (Krippendorff's alpha) {alpha}")
        for pair in found["pairs"]:
            low, high = pair["interval"]
            share = f"{pair['share']:.0%} [{low:.0%}, {high:.0%}]"
            lines.append(f"  {pair['one']} over {pair['two']}: {share} of {pair['votes']} votes, {pair['ties']} ties")
        strengths = (f"{one} {value['strength']:+.2f}" for one, value in found["bradley_terry"].items())
        lines.append(f"  Bradley-Terry: {', '.join(strengths)}")
    return lines
