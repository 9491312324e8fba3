"""Tables of a checkpoint's scores; against the committed documents: tests/scripts/test_doc_tables.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.evaluation.checkpoint_tables import command, curve, measures
from shared.evaluation.options import VARIANT_NAMES
from shared.utils.errors import UserError
from shared.utils.files import write_json

CONFIG = {"checkpoint": "c", "level": "simple", "clips": 4, "tasks": ["t2av", "mtv"], "steps": 3, "no_context": False}


def test_the_command_says_what_is_not_default() -> None:
    line = "python scripts/evaluate.py --checkpoint c --level simple --clips 4 --tasks t2av,mtv"
    assert command({"config": CONFIG}) == f"{line} --steps 3 --output DIR"
    other = CONFIG | {"variants": ["dsp"], "steps": "the pipeline's"}
    assert command({"config": other}) == f"{line} --variants dsp --output DIR"
    assert command({"config": other | {"variants": [], "no_context": True}}) == (f"{line} --no-context --output DIR")
    assert command({"config": other | {"variants": [*VARIANT_NAMES]}}) == f"{line} --variants all --output DIR"


def test_a_curve_has_a_row_per_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no metrics of intermediate steps"):
        curve(tmp_path)
    (tmp_path / "curve").mkdir()
    scores = {name: {"headline": 0.5} for name in ("event_f1", "mouth_correlation", "colour")}
    tasks = {task: {"scores": scores} for task in ("t2av", "a2v", "v2a")}
    write_json(tmp_path / "curve/first_00010.json", {"config": CONFIG, "tasks": tasks})
    lines = curve(tmp_path).splitlines()
    assert lines[0] == "Headlines on 4 clips of `simple`:" and len(lines) == 5
    assert lines[2].startswith("| step | t2av event f1 | t2av mouth |")
    assert lines[4] == "| first 00010 |" + " 0.50 |" * 7


def test_measures_stand_beside_what_older_scores_said(tmp_path: Path) -> None:
    few, no = {"value": 0.4, "ceiling": 0.9, "clips": 29}, {"value": None, "ceiling": None, "clips": 0}
    tasks = {
        task: {"scores": {"event_f1": few | {"value": 0.93, "clips": 30}, "colour": few},
               "measures": {"scores": {"events": few | {"clips": 30}, "validity": no | {"value": 0.6, "clips": 30},
                                       "count": few}}}
        for task in ("t2av", "t2v", "mtv", "mtv:text changed")
    }  # fmt: skip
    tasks["t2v"]["measures"]["scores"] = {}
    write_json(tmp_path / "metrics_measures.json", {"config": CONFIG, "tasks": tasks})
    text = measures(tmp_path)
    assert "| measure | ceiling | t2av | t2v | mtv | text changed |" in text
    assert "| events | 0.90 | 0.40 | - | 0.40 | 0.40 |" in text and "| validity |  | 0.60 | - |" in text
    assert "| t2av | event f1 | 0.93 | events | 0.40 | 0.90 |" in text
    assert "| mtv | colour | not measured | validity | 0.60 |  |" in text
    assert "| count |" not in text and "| t2v | event f1" not in text
