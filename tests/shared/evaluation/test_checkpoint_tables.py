"""Tables of a checkpoint's scores; against the committed documents: tests/scripts/test_doc_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.checkpoint_tables import command, control, curve, measures_table, results
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

    given = other | {"seconds": 4, "fps": 24.0, "each": 30, "held_out": True, "seed": 7}
    told = "--variants dsp --seconds 4 --fps 24 --each 30 --held-out --seed 7 --against old.json --output DIR"
    assert command({"config": given, "against": {"file": "old.json"}}) == f"{line} {told}"


def measured(**values: float) -> dict[str, Any]:
    scores = {
        name: {"value": value, "floor": 0.1, "ceiling": 0.9, "headline": value, "clips": 29 if value < 0 else 30}
        for name, value in values.items()
    }
    return {"scores": {}, "measures": {"scores": scores, "per_clip": {}}}


def test_a_curve_has_a_row_per_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no metrics of intermediate steps"):
        curve(tmp_path)
    (tmp_path / "curve").mkdir()
    tasks = {task: measured(events=0.5, mouth_agreement=0.25) for task in ("t2av", "v2a")}
    write_json(tmp_path / "curve/10_joint.json", {"config": CONFIG, "tasks": tasks})
    lines = curve(tmp_path).splitlines()
    assert lines[0] == "Values on 4 clips of `simple`:" and len(lines) == 5
    assert lines[2].startswith("| after | t2av events | t2av agreement | t2av mouth | t2av count |")
    assert lines[4] == "| 10 joint | 0.50 |  | 0.25 |  |  |  | 0.50 | 0.25 |"


def test_measures_of_enough_clips_are_shown_by_task() -> None:
    tasks = {"t2av": measured(events=0.4, count=-1), "t2v": measured(validity=0.6), "mtv:dsp": measured(events=0.3)}
    text = measures_table({"config": CONFIG, "tasks": tasks})
    assert text.splitlines() == [
        "| measure | floor | ceiling | t2av | t2v |",
        "| --- | --- | --- | --- | --- |",
        "| validity | 0.10 | 0.90 | - | 0.60 |",
        "| events | 0.10 | 0.90 | 0.40 | - |",
    ]


def test_variants_stand_beside_their_base_and_an_older_checkpoint_beside_the_newer(tmp_path: Path) -> None:
    change = {"difference": -0.25, "interval": [-0.5, 0.0], "old": 0.65, "new": 0.4, "clips": 30}
    swapped = measured(events=0.4) | {"paired": {"base": "mtv", "scores": {}, "measures": {"events": change}}}
    config = CONFIG | {"held_out_seed": 9, "seed": 0, "variants": ["speech-swapped"]}
    against = {"file": "old.json", "measures": {"mtv": {"events": change}, "t2av": {}}}
    metrics = {"config": config, "tasks": {"mtv": measured(events=0.97), "mtv:speech swapped": swapped}}
    write_json(tmp_path / "metrics.json", metrics | {"against": against})
    text = control(tmp_path)
    assert "--variants speech-swapped --steps 3 --against old.json --output DIR`" in text
    assert "| speech swapped | 30 | events | 0.40 | 0.10 | 0.90 | 0.40 | -0.25 | -0.50 .. +0.00 |" in text
    page = results(tmp_path)
    assert "| simple | mtv | events | 30 | 0.97 |" in page and "| events | 0.10 | 0.90 | 0.97 |" in page
    assert "| measure, old to new | mtv | t2av |" in page and "| events | 0.65 to 0.40 | - |" in page
