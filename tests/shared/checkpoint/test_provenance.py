"""Licence and base of weights, as the card of what they go on from says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoint.provenance import provenance


def test_a_card_says_its_own_and_what_began_from_nothing_is_this_projects(tmp_path: Path) -> None:
    assert provenance(None) == {"license": "apache-2.0"}
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model: some/wan\n---\n# A\n")
    assert provenance(str(tmp_path)) == {"license": "mit", "license_name": None, "base_model": "some/wan"}


@pytest.mark.parametrize("text", [None, "# A\n", "---\nlicense: [\n---\n# A\n"])
def test_where_no_card_says_it_nobody_knows(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert provenance(str(tmp_path)) == {"license": "other", "license_name": "that-of-what-it-was-made-of"}
