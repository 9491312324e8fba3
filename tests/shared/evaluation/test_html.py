"""Pages stand by themselves, and what they are given is text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from shared.evaluation.doctor_page import doctor_page
from shared.evaluation.html import Markup, data_uri, render

VOID = ("meta", "br", "img")


class Reader(HTMLParser):
    """Texts by tag; every element must be closed by its own end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: dict[str, list[dict[str, str | None]]] = {}
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.setdefault(tag, []).append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())


def plan(**changes: object) -> dict[str, object]:
    table = {"title": "F1", "note": "Higher.", "head": ["variant", "verdict"], "rows": [["<a>", "1 better"], ["b", ""]]}
    empty: dict[str, object] = {"title": "A & B", "facts": "two runs", "others": [], "figures": [], "maps": []}
    return empty | {"endpoints": [table]} | changes


def test_text_is_escaped_and_markup_is_not() -> None:
    figures = [("a < b", Markup("<svg><path></path></svg>"))]
    page = Reader(render("ablation.html.j2", title="<title>", plans=[plan(figures=figures)]))
    assert page.texts["title"] == ["<title>"] and page.texts["h1"] == ["A & B"]
    assert page.texts["td"] == ["<a>", "1 better", "b"] and page.texts["figcaption"] == ["a < b"]
    assert len(page.attributes["svg"]) == 1
    assert [one.get("class") for one in page.attributes["td"]] == [None, "better", None, None]


def test_a_page_asks_nothing_of_the_network() -> None:
    picture = data_uri("image/png", b"\x89PNG")
    text = render("ablation.html.j2", title="t", plans=[plan(maps=[("ccl", picture)])])
    assert Reader(text).attributes["img"] == [{"alt": "ccl", "src": "data:image/png;base64,iVBORw=="}]
    assert "http" not in text and "<link" not in text and "<script" not in text


def test_a_value_that_lacks_is_told() -> None:
    with pytest.raises(UndefinedError, match="facts"):
        render("ablation.html.j2", title="t", plans=[{"title": "A"}])


def test_the_doctors_page_has_the_worst_first() -> None:
    clips = [
        {"id": "a", "verdict": "ok", "refused": [], "warnings": [], "facts": {"fps": 8.0}},
        {"id": "b", "verdict": "warn", "refused": [], "warnings": ["quiet"], "facts": {"level": float("-inf")}},
        {"id": "<c>", "verdict": "refuse", "refused": ["broken"], "warnings": ["quiet"], "facts": {}},
    ]
    page = Reader(doctor_page("3 clips: 1 ok\nfps: 8", clips))
    assert page.texts["th"] == ["clip", "verdict", "why", "fps", "level"]
    assert page.texts["td"] == ["<c>", "refuse", "broken; quiet", "b", "warn", "quiet", "-inf", "a", "ok", "8.0"]
    assert [row.get("class") for row in page.attributes["tr"]] == [None, "refuse", "warn", "ok"]
    assert page.texts["p"] == ["3 clips: 1 ok", "fps: 8"]
