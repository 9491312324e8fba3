"""Two runs are compared where they measured alike, or where that is asked for by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.score_against import check_same, counterpart, read_against, set_difference, unlike
from shared.utils.errors import UserError
from shared.utils.files import write_json


def fact(fps: float = 8.0, weights: str = "w") -> dict[str, Any]:
    return {"preprocessing": {"fps": fps, "size": 4}, "preprocessing_hash": str(fps), "weights": weights}


def test_another_way_to_measure_is_refused_in_one_line_unless_asked_for() -> None:
    there = {"file": "m.json", "metrics": {"temp_c": fact(4.0), "text_c": fact()}}
    check_same({"text_c": fact(), "fvd": fact()}, there, ())
    with pytest.raises(UserError) as error:
        check_same({"text_c": fact(), "temp_c": fact()}, there, ())
    assert str(error.value) == (
        "--against m.json: temp_c was measured in another way (fps: 8.0 here, 4.0 there); "
        "measure both alike, or give --compare-anyway temp_c"
    )
    check_same({"temp_c": fact()}, there, ("temp_c",))
    assert unlike(fact(), fact()) == "" and unlike(fact(), fact(weights="v")) == "other weights"


def test_what_is_compared_with_what() -> None:
    assert counterpart("a", {"a": 0, "b": 0}) == "a" and counterpart("c", {"a": 0}) == "a"
    assert counterpart("c", {"a": 0, "b": 0}) is None


def test_distances_of_two_runs() -> None:
    def score(value: float | None, half: float | None) -> dict[str, Any]:
        return {
            "value": value,
            "n": 9,
            "interval": None if half is None or value is None else [value - half, value + half],
        }

    found = set_difference(score(10.0, 3.0), score(4.0, 4.0))
    assert found["difference"] == 6 and found["interval"] == pytest.approx([1, 11])
    assert set_difference(score(10.0, None), score(4.0, 4.0))["interval"] is None
    assert set_difference(score(None, None), score(4.0, 4.0))["difference"] is None


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    with pytest.raises(UserError, match="cannot be read"):
        read_against(file, ["temp_c"])
    write_json(file, {"tasks": {}})
    with pytest.raises(UserError, match=r"is of another program; give a metrics\.json of score\.py"):
        read_against(file, ["temp_c"])
    write_json(file, {"metrics": {"fvd": fact()}})
    with pytest.raises(UserError, match="has none of temp_c; it has fvd"):
        read_against(file, ["temp_c"])
    assert read_against(file, ["fvd"])["file"] == str(file)
