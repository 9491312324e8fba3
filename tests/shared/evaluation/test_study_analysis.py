"""What votes say: shares, strengths and agreement against known answers; raters who do not look are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.evaluation.study_analysis import Vote, agreement, analyse, bradley_terry, criterion, read_votes, summary
from shared.utils.errors import UserError
from shared.utils.files import write_json

KEY: dict[str, Any] = {
    "study": "s", "sets": ["a", "b"], "criteria": {"sync": "?"},
    "trials": {
        "001-001": {"item": "i", "left": "b", "right": "a", "catch": ""},
        "001-002": {"item": "j", "left": "a", "right": "a", "catch": "left"},
        "002-001": {"item": "i", "left": "a", "right": "b", "catch": ""},
        "002-002": {"item": "j", "left": "a", "right": "a", "catch": "left"},
    },
}  # fmt: skip


def save(file: Path, rater: int, *choices: str, study: str = "s") -> Path:
    votes = [
        {"trial": f"{rater:03d}-{n:03d}", "criterion": "sync", "choice": c} for n, c in enumerate(choices, start=1)
    ]
    write_json(file, {"study": study, "rater": rater, "votes": votes})
    return file


def test_sides_are_undone_and_inattentive_raters_left_out(tmp_path: Path) -> None:
    files = [save(tmp_path / "1.json", 1, "left", "left"), save(tmp_path / "2.json", 2, "left", "right")]
    votes, caught = read_votes(files, KEY)
    assert [(vote.one, vote.two, vote.score) for vote in votes] == [("a", "b", 0.0), ("a", "b", 1.0)]
    assert caught == {1: 1.0, 2: 0.0}
    result = analyse(votes, caught, KEY)
    pair = result["criteria"]["sync"]["pairs"][0]
    assert result["left_out"] == [2] and (pair["share"], pair["votes"], pair["for_two"]) == (0.0, 1, 1)
    assert "left out, too few catch trials right: 2" in summary(result)[0]
    with pytest.raises(UserError, match="no vote counts"):
        analyse(votes, {1: 0.0, 2: 0.0}, KEY)


def test_files_that_are_no_votes_are_refused(tmp_path: Path) -> None:
    good = save(tmp_path / "1.json", 1, "left")
    for file, reason in (
        (save(tmp_path / "o.json", 2, "left", study="t"), "is of another study"),
        (save(tmp_path / "d.json", 1, "left"), "a second file of rater 1"),
        (save(tmp_path / "c.json", 2, "up"), "is no vote of rater 2"),
        (save(tmp_path / "t.json", 2, "tie", "tie", "tie"), "is no vote of rater 2"),
    ):
        with pytest.raises(UserError, match=reason):
            read_votes([good, file], KEY)


def draws(strength: dict[str, float], raters: int, items: int, seed: int = 0) -> list[Vote]:
    draw, names = np.random.default_rng(seed), sorted(strength)
    votes = []
    for rater in range(raters):
        for item in range(items):
            one, two = sorted(draw.permutation(names)[:2].tolist())
            chance = 1 / (1 + np.exp(strength[two] - strength[one]))
            votes.append(Vote(rater, "c", str(item), one, two, float(draw.random() < chance)))
    return votes


def test_strengths_are_found_again() -> None:
    truth = {"a": 0.8, "b": 0.0, "c": -0.8}
    found = criterion(draws(truth, 20, 30), ["a", "b", "c"])
    for name, value in truth.items():
        low, high = found["bradley_terry"][name]["interval"]
        assert low < value < high and high - low < 0.8
    assert abs(sum(one["strength"] for one in found["bradley_terry"].values())) < 1e-9
    share = found["pairs"][0]
    assert share["one"] == "a" and share["interval"][0] < 1 / (1 + np.exp(-0.8)) < share["interval"][1]


def test_bradley_terry_of_two_is_the_logarithm_of_the_odds_and_never_infinite() -> None:
    strengths = bradley_terry(np.array([[0.0, 30.0], [10.0, 0.0]]))
    assert strengths[0] - strengths[1] == pytest.approx(np.log(3), abs=1e-6)
    always = criterion([Vote(rater, "c", "i", "a", "b", 1.0) for rater in range(5)], ["a", "b"])
    assert np.isfinite(always["bradley_terry"]["a"]["strength"]) and always["agreement"] is None


def test_agreement() -> None:
    def vote(rater: int, item: str, score: float) -> Vote:
        return Vote(rater, "c", item, "a", "b", score)

    same = [vote(rater, item, float(item == "i")) for rater in range(3) for item in "ij"]
    assert agreement(same) == 1
    assert agreement([vote(0, "i", 1.0), vote(1, "j", 0.0)]) is None
    rows = draws({"a": 0.0, "b": 0.0}, 30, 40)
    assert abs(agreement(rows) or 0) < 0.05
    # Krippendorff (2011): units 1 1, 1 0, 0 0 -> 1 - (6 - 1) * 2 / 18
    three = [vote(0, "i", 1), vote(1, "i", 1), vote(0, "j", 1), vote(1, "j", 0), vote(0, "k", 0), vote(1, "k", 0)]
    assert agreement(three) == pytest.approx(1 - 5 * 2 / 18)
