"""Pages stand by themselves, and what they are given is text."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from pages import Page

from shared.evaluation.html import data_uri, render


def plan(**changes: object) -> dict[str, object]:
    table = {"title": "F1", "note": "Higher.", "head": ["variant", "verdict"], "rows": [["<a>", "1 better"], ["b", ""]]}
    empty: dict[str, object] = {"title": "A & B", "facts": "two runs", "others": [], "figures": [], "maps": []}
    return empty | {"endpoints": [table]} | changes


def test_text_is_escaped_and_markup_is_not() -> None:
    figures = [("a < b", Markup("<svg><path></path></svg>"))]
    page = Page(render("ablation.html.j2", title="<title>", plans=[plan(figures=figures)]))
    assert page.texts["title"] == ["<title>"] and page.texts["h1"] == ["A & B"]
    assert page.texts["td"] == ["<a>", "1 better", "b"] and page.texts["figcaption"] == ["a < b"]
    assert len(page.attributes["svg"]) == 1
    assert [one.get("class") for one in page.attributes["td"]] == [None, "better", None, None]


def test_a_page_asks_nothing_of_the_network() -> None:
    picture = data_uri("image/png", b"\x89PNG")
    text = render("ablation.html.j2", title="t", plans=[plan(maps=[("ccl", picture)])])
    assert Page(text).attributes["img"] == [{"alt": "ccl", "src": "data:image/png;base64,iVBORw=="}]
    assert "http" not in text and "<link" not in text and "<script" not in text


def test_a_value_that_lacks_is_told() -> None:
    with pytest.raises(UndefinedError, match="facts"):
        render("ablation.html.j2", title="t", plans=[{"title": "A"}])
