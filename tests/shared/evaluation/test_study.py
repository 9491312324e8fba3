"""Plans of a study: balanced over raters, sides and orders; what cannot be one is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.data.manifest import Clip
from shared.evaluation.score_clips import ClipSet
from shared.evaluation.study import StudyConfig, Trial, as_key, plan, read_study
from shared.utils.errors import UserError


def sets(*names: str, clips: int = 6) -> list[ClipSet]:
    return [
        ClipSet(name, Path(name), [Clip(id=str(n), video=Path(name) / f"{n}.mp4", caption="") for n in range(clips)])
        for name in names
    ]


def config(**changes: Any) -> StudyConfig:
    given = {"title": "t", "sets": {"a": "a", "b": "b"}, "criteria": {"c": "?"}, "trials": 4, "catch": 2, "raters": 9}
    return StudyConfig.model_validate(given | changes)


def test_comparisons_and_sides_are_balanced_over_raters() -> None:
    raters = plan(config(), sets("a", "b", "c"))
    shown: Counter[Any] = Counter()
    left: Counter[Any] = Counter()
    for trials in raters:
        votes = [trial for trial in trials if not trial.catch]
        comparisons = [(trial.item, *sorted((trial.left, trial.right))) for trial in votes]
        assert len(votes) == len(set(comparisons)) == 4
        shown.update(comparisons)
        left.update((trial.item, *sorted((trial.left, trial.right)), trial.left) for trial in votes)
    assert len(shown) == 18 and max(shown.values()) - min(shown.values()) <= 1
    for (item, one, two), times in shown.items():
        assert abs(left[item, one, two, one] - left[item, one, two, two]) <= times % 2
    assert plan(config(), sets("a", "b")) == plan(config(), sets("a", "b")) != plan(config(seed=1), sets("a", "b"))


def test_catch_trials_show_one_clip_twice_on_either_side() -> None:
    catches = [trial for trials in plan(config(raters=20), sets("a", "b")) for trial in trials if trial.catch]
    assert len(catches) == 40 and {trial.catch for trial in catches} == {"left", "right"}
    assert all((trial.left, trial.left_clip) == (trial.right, trial.right_clip) for trial in catches)
    places = {n for trials in plan(config(raters=20), sets("a", "b")) for n, trial in enumerate(trials) if trial.catch}
    assert places == set(range(6))
    assert as_key([[Trial("i", "a", "b", "1", "2")]])["001-001"]["left_clip"] == "1"


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    for name, clips in (("a", "12"), ("b", "2"), ("c", "3")):
        (tmp_path / name).mkdir()
        for clip in clips:
            (tmp_path / name / f"{clip}.mp4").write_text("x")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/2.wav").write_text("x")

    def read(**changes: Any) -> tuple[StudyConfig, list[ClipSet]]:
        given = {"title": "t", "sets": {"a": "a", "b": "b"}, "criteria": {"c": "?"}, "trials": 1, "catch": 1}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(given | changes))
        return read_study(tmp_path / "study.yaml")

    settings, found = read()
    assert len(plan(settings, found)) == 20
    for changes, reason in (
        ({"sets": {"a": "a", "c": "c"}}, "a and c have no clip of one name"),
        ({"sets": {"a": "a"}}, "sets"),
        ({"sets": {"a": "a", "d": "d"}}, "clip '2' is no whole video with its own sound"),
        ({"trails": 3}, "trails"),
    ):
        with pytest.raises(UserError, match=reason):
            read(**changes)
    with pytest.raises(UserError, match="trials = 2: there are 1 comparisons; give no more"):
        plan(*read(trials=2))
