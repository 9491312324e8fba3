"""The table of fakes: what is shown, what is bold, and that a fake which nothing catches is told."""

from __future__ import annotations

from typing import Any

import pytest

from shared.evaluation.fakes import FAKES
from shared.evaluation.fakes_table import caught_by, fakes_table
from shared.evaluation.measures import MEASURES
from shared.utils.errors import UserError


def scores(headline: float | None = 1.0, clips: int = 40, **other: dict[str, Any]) -> dict[str, dict[str, Any]]:
    one = {"value": 0.9, "ceiling": 0.95, "floor": 0.1, "headline": headline, "clips": clips}
    return {name: one | other.get(name, {}) for name in MEASURES}


def test_what_is_far_below_the_ceiling_or_no_better_than_chance_is_caught() -> None:
    found = scores(events={"headline": 0.79}, agreement={"headline": None}, count={"value": None, "headline": None})
    assert caught_by(found) == ["events", "agreement"]


def test_the_table_shows_measures_of_enough_clips_and_who_catches_whom() -> None:
    found = {
        "true": scores(binding={"clips": 29}),
        **dict.fromkeys(FAKES, scores(events={"headline": 0.1, "value": 0.2})),
    }
    table = fakes_table(found, 40)
    assert "| events | 40 | 0.95 | 0.10 | **0.20** |" in table and "| pace | 40 | 0.95 | 0.10 | 0.90 |" in table
    assert "Not shown, of fewer than 30 clips: binding." in table and "| binding |" not in table
    assert "| frozen | the middle frame, all the time | events |" in table


def test_a_fake_that_nothing_catches_is_told() -> None:
    found = {"true": scores(), **dict.fromkeys(FAKES, scores(0.1)), "frozen": scores()}
    with pytest.raises(UserError, match="no measure catches frozen on these 40 clips; give more --clips"):
        fakes_table(found, 40)


def test_without_fakes_ceilings_and_floors_stand_alone() -> None:
    table = fakes_table({"true": scores()}, 40)
    assert "| events | 40 | 0.95 | 0.10 |" in table and "caught by" not in table
