from __future__ import annotations

from pathlib import Path

import pytest

from shared.curation.ledger import Ledger
from shared.utils.errors import UserError


def test_what_is_written_is_read_back_and_the_last_line_counts(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger.append("a", "shots", "1", verdict="keep")
        ledger.append("a", "shots", "1", verdict="drop")
        assert (ledger.get("a", "shots", "1") or {})["verdict"] == "drop"
        ledger.append("a", "shots", "2", verdict="fail")
    with Ledger(tmp_path / "l") as ledger:
        assert (ledger.get("a", "shots", "2") or {})["verdict"] == "fail"
        assert ledger.get("a", "shots", "1") is None and ledger.get("a", "cut", "2") is None and len(ledger) == 1


def test_what_is_void_counts_no_more(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger.void("a", "demix")
        assert len(ledger) == 0
        ledger.append("a", "demix", "1", verdict="keep")
        ledger.void("a", "demix")
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.get("a", "demix", "1") is None


@pytest.mark.parametrize("torn", [b'{"key": "b", "stage"', b'{"key": "b"}\n', b"\0\0\0\n", b"\xff"])
def test_a_last_line_that_a_kill_tore_is_taken_away(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "l"
    with Ledger(file) as ledger:
        ledger.append("a", "shots", "1", reason="ä")
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    with Ledger(file) as ledger:
        assert file.read_bytes() == whole
        ledger.append("b", "shots", "1", reason="")
    with Ledger(file) as ledger:
        assert ledger.get("a", "shots", "1") and ledger.get("b", "shots", "1")


def test_damage_before_the_end_is_told_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "l"
    with Ledger(file) as ledger:
        for key in "abc":
            ledger.append(key, "shots", "1")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"?" + lines[1] + lines[2])
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"l:2: is damaged before its end; remove that line"):
        Ledger(file)
    assert file.read_bytes() == before


def test_numbers_that_json_has_not_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger, pytest.raises(ValueError, match="Out of range"):
        ledger.append("a", "shots", "1", figures={"x": float("nan")})
    assert (tmp_path / "l").read_bytes() == b""
