"""check_metrics.py on two clips: the table stands in the document, and what it cannot measure is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_metrics import main
from shared.utils.errors import UserError


def test_the_table_stands_in_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- damages:begin -->\nold\n<!-- damages:end -->\nafter\n")
    main(["--clips", "2", "--metrics", "onset_sync", "--device", "cpu", "--document", str(page)])
    text = page.read_text()
    assert "| silence | 2 refused: silent |" in text and "old" not in text and text.startswith("before\n")
    assert "| none |" in capsys.readouterr().out and text.endswith("<!-- damages:end -->\nafter\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--metrics", "fad", "--weights", "vggish=x"], "--metrics fad: compares sets"),
        (["--metrics", "temp_c"], "--metrics temp_c: needs weights"),
        (["--document", "nowhere.md"], "nowhere.md"),
    ],
)
def test_refusals(words: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        main(["--clips", "2", *words])
