"""Pages stand by themselves."""

from __future__ import annotations

from html.parser import HTMLParser

from shared.evaluation.html import page


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self.open[-1] if self.open else ""] = data


def test_the_title_is_text_and_the_body_html() -> None:
    reader = Reader()
    reader.feed(page("a < b", "p{color:red}", "<p>so {it} is</p>"))
    assert reader.open == []
    assert reader.texts["title"] == "a < b" and reader.texts["style"] == "p{color:red}"
    assert reader.texts["p"] == "so {it} is"
