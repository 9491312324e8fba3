from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from shared.utils.config_page import argument_table, key_tables
from shared.utils.config_sections import Count, Rate, Section


class Inner(Section):
    """What is inside."""

    rate: Rate = Field(default=0.5, description="How often.")


class Outer(Section):
    steps: Count = Field(description="Steps.")
    size: tuple[int, int] | None = Field(default=None, description="Pixels.")
    kinds: list[Literal["a", "b"]] = Field(default=["a"], description="Kinds.")
    scales: dict[str, float] = Field(default={"x": 1.0}, description="Scales.")
    inner: Inner = Inner()
    several: list[Inner] = Field(default=[], description="Many of them.")


def test_a_key_has_its_values_default_and_meaning() -> None:
    lines = key_tables(Outer).splitlines()
    assert lines[2:8] == [
        "| `steps` | whole number from 1 | needed | Steps. |",
        "| `size` | [whole number, whole number] or null | null | Pixels. |",
        "| `kinds` | some of a, b | [a] | Kinds. |",
        "| `scales` | by name: number | {x: 1.0} | Scales. |",
        "| `inner` | a section | | [What is inside.](#inner) |",
        "| `several` | a list of sections | [] | [Many of them.](#several) |",
    ]


def test_a_section_has_a_table_of_its_own() -> None:
    page = key_tables(Outer, ["inner"])
    assert "## inner\n\nWhat is inside.\n" in page and "| `rate` | number from 0 to 1 | 0.5 | How often. |" in page
    assert "steps" not in page


def test_a_key_without_a_description_is_refused() -> None:
    class Bare(Section):
        steps: int = 1

    with pytest.raises(ValueError, match=r"Bare\.steps has no description"):
        key_tables(Bare)


def test_arguments_are_those_of_the_docstring() -> None:
    class Model:
        """A model.

        Args:
            width, depth: sizes: both,
                on two lines.
            bias: whether it has one.

        Raises:
            ValueError: for no width.
        """

        def __init__(self, width: int, depth: int = 2, bias: bool = True) -> None: ...

    assert argument_table(Model).splitlines()[2:] == [
        "| `width`, `depth` | | 2 | sizes: both, on two lines. |",
        "| `bias` | | true | whether it has one. |",
    ]
