"""Results of ablations that somebody changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.ablation.result_schema import read_result
from shared.utils.errors import UserError

RUN: dict[str, Any] = {
    "kind": "run", "variant": "a", "seed": 0, "commit": "abc", "machine": {"cores": 2, "torch": "2", "gpus": []},
    "seconds": {"train": 1.5}, "values": {"loss": {"value": 1.0, "interval": None, "clips": None}, "other": None},
    "curve": {"t2av both": {"step": [1, 2], "loss": [0.5, 0.25]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variant": ["a"]}, "variant: Input should be a valid string"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"values": {"loss": {"value": "high"}}}, r"values\.loss\.value: Input should be a valid number"),
        ({"values": []}, "values: Input should be a valid dictionary"),
        ({"curve": {"t2av both": [1, 2]}}, r"curve\.t2av both"),
        ({"machine": None}, "machine: Input should be"),
        ({"kind": 5}, "not the result of a run"),
        ({"kind": "guidance"}, "points: Field required"),
    ],
)
def test_a_result_that_somebody_changed_is_one_line_with_its_key(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = tmp_path / "a-0.json"
    file.write_text(json.dumps(RUN))
    assert read_result(file) == RUN
    file.write_text(json.dumps(RUN | change))
    with pytest.raises(UserError, match=rf"a-0\.json: {said}"):
        read_result(file)
