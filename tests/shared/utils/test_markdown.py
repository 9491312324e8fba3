"""Tables of Markdown."""

from __future__ import annotations

from shared.utils.markdown import markdown_table


def test_a_table_has_a_head_and_escapes_bars() -> None:
    assert markdown_table(["a", "b|c"], [["x | y", 1], ["", 2.5]]) == (
        "| a | b\\|c |\n| --- | --- |\n| x \\| y | 1 |\n|  | 2.5 |\n"
    )
