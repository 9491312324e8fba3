from __future__ import annotations

import config_page
import pytest

from shared.utils.errors import UserError


def test_the_page_is_what_the_code_says() -> None:
    assert config_page.make_page() == config_page.PAGE.read_text(encoding="utf-8"), "run make docs"


def test_a_stale_page_is_told_and_renewed(tmp_path, monkeypatch) -> None:
    page = tmp_path / "configuration.md"
    page.write_text("old")
    monkeypatch.setattr(config_page, "PAGE", page)
    with pytest.raises(UserError, match="run make docs"):
        config_page.main(["--check"])
    config_page.main([])
    config_page.main(["--check"])
    assert page.read_text().startswith("# Configuration keys")
