"""Evaluations that are compared are of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.conditions import conditions_page, read_evaluations
from shared.utils.errors import UserError
from shared.utils.files import write_json

CONFIG = {"checkpoint": "c", "held_out_seed": 9, "seed": 0, "steps": 4, "level": "simple", "no_context": False,
          "tasks": ["t2av"]}  # fmt: skip
VALUES = {"value": [0.5] * 30, "weight": [1] * 30}
SCORE = {"value": 0.5, "ceiling": 1, "floor": 0, "headline": 0.5, "headline_interval": [0.4, 0.6], "clips": 30}


def write(folder: Path, clips: int = 30, **config: Any) -> Path:
    folder.mkdir()
    measures = {"scores": {"events": SCORE | {"clips": clips}}, "per_clip": {"events": VALUES}}
    write_json(folder / "metrics.json", {"config": CONFIG | config, "tasks": {"t2av": {"measures": measures}}})
    return folder


def test_goals_and_comparisons_are_on_one_page(tmp_path: Path) -> None:
    page = conditions_page(read_evaluations([write(tmp_path / "a"), write(tmp_path / "b", seconds=4)]))
    assert "| simple | t2av | events | 30 |" in page and "**clips of 4 s, against 2 s** (`simple`): within 0.05" in page
    assert len(read_evaluations([tmp_path / "a/metrics.json"])) == 1
    with pytest.raises(UserError, match="no goal is measured on 30 clips, and no two conditions"):
        conditions_page(read_evaluations([write(tmp_path / "c", 29)]))


def test_shots_are_chosen_otherwise(tmp_path: Path) -> None:
    folders = write(tmp_path / "a", each=3), write(tmp_path / "b", tasks=["shots"]), write(tmp_path / "c")
    assert len(read_evaluations(folders[:2])) == 2
    with pytest.raises(UserError, match="its each is None, that of the others 3"):
        read_evaluations(folders)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"checkpoint": "d"}, "its checkpoint is d, that of the others c"),
        ({"steps": 5}, "its steps is 5, that of the others 4"),
        ({"seed": 1}, "its seed is 1"),
    ],
)
def test_other_settings_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_evaluations([write(tmp_path / "a"), write(tmp_path / "b", **config)])


def test_what_is_no_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none/metrics\.json cannot be read .*; give folders that evaluate\.py wrote"):
        read_evaluations([tmp_path / "none"])
    for content in ({"config": {}}, {"config": CONFIG, "tasks": {"t2av": {}}}, {"config": 3, "tasks": {}}):
        write_json(tmp_path / "metrics.json", content)
        with pytest.raises(UserError, match=r"not the metrics\.json of an evaluation with measures"):
            read_evaluations([tmp_path])
