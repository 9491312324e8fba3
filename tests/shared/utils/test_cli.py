"""Options: words of a command line become checked values, and what is wrong is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import model_validator

from shared.utils.cli import Options, PerStream, exclusive, option, parse, parse_command, some_of
from shared.utils.errors import UserError


class Example(Options):
    """An example."""

    prompt: str = option(help="what to see")
    steps: int = option(24, "solver steps", ge=1)
    scale: float | None = option(None, "how much")
    size: tuple[int, int] = option((64, 64), "pixels", metavar=("HEIGHT", "WIDTH"))
    results: list[Path] = option([], "folders")
    overrides: list[str] = option([], "one key", name="set", repeat=True)
    form: Literal["dual", "none"] = option("dual", "of guidance")
    text_scale: PerStream | None = option(None, "of the text", metavar="V[,A]")
    check: bool = option(False, "only compare")
    ema: bool | None = option(None, "the average")
    local_rank: int = option(0, hidden=True)

    @model_validator(mode="after")
    def _sized(self) -> Example:
        if self.check and not self.results:
            raise ValueError("--check: there is nothing to compare without --results")
        return self


def test_words_become_values() -> None:
    given = parse(
        Example, "doc",
        ["--prompt", "a bell", "--steps", "3", "--scale=2", "--size", "32", "48", "--set", "a=1", "--set", "b=2",
         "--results", "x", "y", "--form", "none", "--text-scale", "3,2", "--check", "--no-ema"],
    )  # fmt: skip
    assert (given.prompt, given.steps, given.scale, given.size) == ("a bell", 3, 2.0, (32, 48))
    assert given.overrides == ["a=1", "b=2"] and given.results == [Path("x"), Path("y")]
    assert given.form == "none" and given.text_scale == (3.0, 2.0) and given.check and given.ema is False


class Positional(Options):
    """An example with words that belong to no option."""

    clips: list[Path] = option(help="any number", positional=True)
    steps: int = option(24, "solver steps")


def test_words_without_an_option(tmp_path: Path) -> None:
    assert parse(Positional, None, ["a", "b", "--steps", "2"]).clips == [Path("a"), Path("b")]
    for words, reason in (([], "CLIPS is needed"), (["--stepz"], "unknown option --stepz; the nearest is --steps")):
        with pytest.raises(UserError, match=reason):
            parse(Positional, None, words)


class Writing(Options):
    """An example that writes."""

    output: Path = option(help="OUT.txt", writes="file")
    report: Path | None = option(None, "a folder", writes="folder")


def test_the_places_that_options_write_to_are_tried(tmp_path: Path) -> None:
    """Folders may be missing, and nothing is left of the trial."""
    given = parse(Writing, None, ["--output", str(tmp_path / "new/out.txt"), "--report", str(tmp_path / "new/report")])
    assert given.output == tmp_path / "new/out.txt" and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    out = ["--output", str(tmp_path / "out.txt")]
    for words, said in (
        (["--output", str(tmp_path / "folder")], r"^--output .*folder: is a folder; give the name of a file"),
        ([*out, "--report", str(tmp_path / "file")], r"^--report .*file: is a file; give a folder"),
        (["--output", str(tmp_path / "file/out.txt")], r"^--output .*file is no folder that can be written to"),
        ([*out, "--report", str(tmp_path / "file/a/b")], r"^--report .*file is no folder that can be written to"),
        (["--output", str(tmp_path / ("x" * 300))], r"^--output .*|^.*File name too long"),
        (["--output", "/proc/nothing/out.txt"], r"^--output /proc/nothing/out\.txt: cannot be written there \("),
    ):
        with pytest.raises(UserError, match=said):
            parse(Writing, None, words)
    assert (tmp_path / "file").read_text() == "kept" and sorted(p.name for p in tmp_path.iterdir()) == [
        "file",
        "folder",
    ]


def test_defaults_are_the_fields() -> None:
    given = parse(Example, None, ["--prompt", ""])
    assert (given.steps, given.scale, given.size, given.ema, given.check) == (24, None, (64, 64), None, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--prompt is needed"),
        (["--promt", "x"], "unknown option --promt; the nearest is --prompt"),
        (["--prompt", "x", "--stpes", "3"], "unknown option --stpes; the nearest is --steps"),
        (["--prompt", "x", "--step", "3"], "unknown option --step; the nearest is --steps"),
        (["--prompt", "x", "word"], "word: belongs to no option"),
        (["--prompt", "x", "--steps", "0"], "--steps 0: Input should be greater than or equal to 1"),
        (["--prompt", "x", "--steps", "three"], "--steps three: Input should be a valid integer"),
        (["--prompt", "x", "--scale", "nan"], "--scale nan: Input should be a finite number"),
        (["--prompt", "x", "--size", "3"], "--size: expected 2 arguments"),
        (["--prompt", "x", "--form", "dul"], "--form: invalid choice: 'dul'"),
        (["--prompt", "x", "--text-scale", "a"], "--text-scale a: one number, or two as VIDEO,AUDIO"),
        (["--prompt", "x", "--check"], "--check: there is nothing to compare without --results"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Example, None, words)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


class Text(Options):
    prompt: str | None = option(None)
    timed_prompts: Path | None = option(None)
    frames: int | None = option(None)
    seconds: float | None = option(None)

    @model_validator(mode="after")
    def _one_of_each(self) -> Text:
        exclusive(self, "prompt", "timed_prompts", required=True)
        exclusive(self, "frames", "seconds")
        return self


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of the options --prompt --timed-prompts is needed (see --help)"),
        (["--timed-prompts", "x", "--prompt", "y"], "--timed-prompts: not allowed with --prompt (see --help)"),
        (["--prompt", "", "--seconds", "1", "--frames", "0"], "--seconds: not allowed with --frames (see --help)"),
    ],
)
def test_options_that_exclude_each_other(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Text, None, words)
    assert str(error.value) == said
    assert parse(Text, None, ["--prompt", ""]).seconds is None


def test_help_tells_every_option_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Example, "What it does.", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and text.count("What it does.") == 1 and "local-rank" not in text
    for part in ("--steps N solver steps (default: 24)", "--size HEIGHT WIDTH", "{dual,none}", "--ema, --no-ema"):
        assert part in text


def test_commands_have_options_of_their_own() -> None:
    class Other(Options):
        """Count."""

        count: int = option(2, "how many")

    assert parse_command({"one": Example, "two": Other}, "doc", ["two", "--count", "5"]) == ("two", Other(count=5))
    with pytest.raises(UserError, match=r"unknown option --coun; the nearest is --count"):
        parse_command({"two": Other}, "doc", ["two", "--coun", "5"])
    with pytest.raises(UserError, match="invalid choice"):
        parse_command({"two": Other}, "doc", ["three"])


def test_names_between_commas_come_in_their_own_order() -> None:
    read = some_of(("one", "two", "three"), "none")
    assert read("three, one,one") == ("one", "three") and read("none") == () and read(("two",)) == ("two",)
    with pytest.raises(ValueError, match="four: give some of one,two,three, or none"):
        read("one,four")
    with pytest.raises(ValueError, match=r"none: give some of one$"):
        some_of(("one",))("none")
    assert some_of(("one", "two"), every="all")("all") == ("one", "two")
    with pytest.raises(ValueError, match=r"some: give some of one, or none, or all$"):
        some_of(("one",), "none", "all")("some")
