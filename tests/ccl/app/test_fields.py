"""Fields: a picture is handed over unread, so that a damaged one is refused by the project's own reader."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from app_page import need

from ccl.app.jobs import Update


def test_a_damaged_picture_is_handed_over(tmp_path: Path) -> None:
    need()
    from ccl.app import fields

    (tmp_path / "bad.png").write_text("no picture")
    field = fields.picture("First frame")
    assert field.preprocess(SimpleNamespace(path=str(tmp_path / "bad.png"))) == str(tmp_path / "bad.png")
    assert field.preprocess(None) is None


def test_an_update_has_a_line_and_players() -> None:
    need()
    from ccl.app.fields import shown

    line, players = shown(Update("done", "done"))
    assert "done" in line and players == ""


@pytest.mark.parametrize("name", ["first", "last"])
def test_a_checkpoint_is_chosen(name: str) -> None:
    need()
    from ccl.app.fields import checkpoint

    names = ["a/first", "b/last"]
    chosen = checkpoint(names) if name == "first" else checkpoint(names, "B", names[-1])
    assert str(chosen.value).endswith(name)
