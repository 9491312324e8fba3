"""Events as they are told, and agreement beside what a habit reaches."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.event_scores import agreement, event_scores, fixed_times_agreement, match


def at(*seconds: float) -> np.ndarray:
    return np.array(seconds)


def test_match_is_one_to_one() -> None:
    assert match(np.array([0.5, 0.55]), np.array([0.52]), 0.1) == [(0.5, 0.52)]
    assert match(np.array([0.1, 0.9]), np.array([0.3, 0.95]), 0.1) == [(0.9, 0.95)]
    assert match(np.zeros(0), np.array([0.3]), 0.1) == []


@pytest.mark.parametrize(
    ("told", "asked", "seen", "heard", "precision", "recall", "both"),
    [
        (2, True, at(0.5, 1.5), at(0.52, 1.45), (2, 2), (2, 2), 1),
        (2, True, at(0.5), at(0.5), (1, 1), (1, 2), 2 / 3),  # one of two, in perfect agreement
        (1, True, at(0.5, 1.5), at(0.5, 1.5), (1, 2), (1, 1), 2 / 3),  # one too many
        (2, True, at(0.5, 1.5), at(0.9, 1.9), (0, 2), (0, 2), 0),  # right numbers, at other times
        (2, True, at(0.5, 1.5), at(), (0, 2), (0, 2), 0),  # not heard
        (2, True, at(), at(), (0, 0), (0, 2), 0),  # nothing happens
        (None, True, at(0.5, 1.0, 1.5), at(0.5, 1.0), (2, 3), (1, 1), 0.8),
        (None, True, at(), at(), (0, 0), (0, 1), 0),
        (0, False, at(), at(), (0, 0), (0, 0), 1),
        (0, False, at(1.0), at(1.0), (0, 1), (0, 0), 0),  # nothing is asked to happen
        (2, True, at(0.5, 1.5), None, (2, 2), (2, 2), 1),  # video alone
        (3, True, None, at(0.5, 1.5), (2, 2), (2, 3), 0.8),  # sound alone
    ],
)
def test_events_are_asked_for(
    told: int | None, asked: bool, seen: np.ndarray | None, heard: np.ndarray | None, precision: tuple[int, int],
    recall: tuple[int, int], both: float,
) -> None:  # fmt: skip
    scores = event_scores(told, asked, seen, heard)
    assert scores["event_precision"] == precision and scores["event_recall"] == recall
    assert scores["events"] == (pytest.approx(both), 1)


def test_a_habit_agrees_with_itself_and_so_do_fixed_times() -> None:
    """What always hits at one second agrees perfectly; shuffled, and with the best fixed times, it does as well."""
    habit = [at(1.0)] * 6
    assert all(agreement(seen, heard) == (2, 2) for seen, heard in zip(habit, habit[::-1], strict=True))
    assert fixed_times_agreement([(onsets, 2.0) for onsets in habit]) == 1
    rng = np.random.default_rng(0)
    free = [(np.sort(rng.uniform(0.2, 1.8, 2)), 2.0) for _ in range(200)]
    found = fixed_times_agreement(free)
    assert found is not None and 0.2 < found < 0.6
    assert fixed_times_agreement([(at(), 2.0)]) is None
