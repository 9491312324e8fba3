"""The command that tries the measures on fakes: what it refuses, and a run of a few clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_measures
from shared.utils.errors import UserError


def test_a_document_without_marks_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; give a document that has marks"):
        check_measures.main(["--document", str(tmp_path / "none.md")])
    (tmp_path / "a.md").write_text("# Measures")
    with pytest.raises(UserError, match="has no marks <!-- simple:begin -->"):
        check_measures.main(["--document", str(tmp_path / "a.md")])
    with pytest.raises(UserError, match="leave out --ceilings"):
        check_measures.main(["--document", str(tmp_path / "a.md"), "--ceilings"])


def test_codecs_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="video codec"):
        check_measures.main(["--codecs", str(tmp_path)])


def test_every_fake_is_caught_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "a.md"
    document.write_text("<!-- simple:begin -->\n<!-- simple:end -->\nrest")
    check_measures.main(["--clips", "4", "--document", str(document)])
    text = document.read_text()
    assert "| event-less | nothing happens, in neither stream |" in text and text.endswith("<!-- simple:end -->\nrest")
    assert "Not shown, of fewer than 30 clips: validity" in capsys.readouterr().out
