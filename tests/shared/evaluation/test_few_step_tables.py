"""A distilled folder beside its teacher: differences clip by clip, verdicts, and scores by how many evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.few_step_tables import few_steps
from shared.utils.errors import UserError

CLIPS = 40


def evaluation(
    checkpoint: str, value: float, steps: Any = "the pipeline's", evaluations: float = 64.0
) -> dict[str, Any]:
    config = {
        "checkpoint": checkpoint, "level": "simple", "clips": CLIPS, "tasks": ["t2av"], "seed": 0, "steps": steps,
        "guidance": {"form": "dual"},
    }  # fmt: skip
    each = {"value": [value] * CLIPS, "weight": [1.0] * CLIPS}
    scores = {"events": {"value": value, "clips": CLIPS}, "count": {"value": 0.5, "clips": 3}}
    measures = {"per_clip": {"events": each}, "scores": scores}
    return {"config": config, "tasks": {"t2av": {"measures": measures, "evaluations": evaluations}}}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    student, teacher = tmp_path / "few", tmp_path / "teacher"
    (student / "curve").mkdir(parents=True)
    teacher.mkdir()
    write(teacher / "metrics.json", evaluation("teacher", 0.9))
    write(student / "metrics.json", evaluation("few", 0.89, evaluations=4))
    write(student / "curve/b.json", evaluation("few", 0.89, 4, 4))
    write(student / "curve/a.json", evaluation("teacher", 0.5, 4, 4))
    write(student / "curve/c.json", evaluation("few", 0.7, 1, 1))
    return student, teacher


def write(file: Path, metrics: dict[str, Any]) -> None:
    file.write_text(json.dumps(metrics), encoding="utf-8")


def test_near_and_far_are_told_apart(folders: tuple[Path, Path]) -> None:
    student, teacher = folders
    page = few_steps(student, teacher)
    assert "| events | 0.89 (-0.01) |" in page and "- t2av: within 0.03; mean difference -0.010" in page
    write(student / "metrics.json", evaluation("few", 0.8))
    assert "- t2av: not within 0.03; mean difference -0.100, above -0.015 is needed; below: events" in few_steps(
        *folders
    )


def test_each_evaluation_has_the_teachers_of_its_clips(folders: tuple[Path, Path]) -> None:
    student, teacher = folders
    full, eight = evaluation("few", 0.6, evaluations=4), evaluation("few", 0.91, 8, 8)
    full["config"]["level"] = "full"
    write(student / "metrics_full.json", full)
    write(student / "metrics_8.json", eight)
    write(teacher / "metrics_f.json", full | {"config": full["config"] | {"checkpoint": "teacher"}})
    page = few_steps(student, teacher)
    assert "| events | 0.91 (+0.01) |" in page and "| events | 0.60 (+0.00) |" in page
    assert "--level full" in page and "--steps 8" in page and page.count("within 0.03; mean") == 3


def test_the_fewest_evaluations_come_first(folders: tuple[Path, Path]) -> None:
    rows = [line for line in few_steps(*folders).partition("by the number")[2].splitlines() if "| 0." in line]
    assert [row.split("|")[1:4] for row in rows] == [
        [" few steps ", " 1 ", " 1 "], [" few steps ", " 4 ", " 4 "], [" teacher, dual ", " 4 ", " 4 "],
    ]  # fmt: skip
    assert [row.split("|")[5].strip() for row in rows] == ["0.70", "0.89", "0.50"]
    assert all("| - |" in row for row in rows)  # 3 clips are too few for count


def test_what_cannot_be_compared_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    student, teacher = folders
    other = evaluation("teacher", 0.9)
    other["config"]["clips"] = 12
    write(teacher / "metrics.json", other)
    with pytest.raises(
        UserError, match=r"has no evaluation of these clips \(level simple, clips 40, .*evaluate it on them"
    ):
        few_steps(*folders)
    with pytest.raises(UserError, match=r"no metrics\*\.json"):
        few_steps(tmp_path / "nothing", teacher)
    write(teacher / "metrics.json", evaluation("teacher", 0.9))
    for file in (student / "curve").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="curve: no metrics of other numbers of steps"):
        few_steps(*folders)
