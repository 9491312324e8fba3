"""Options of the scorer that go together or do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.evaluation.score_options import ScoreOptions
from shared.utils.cli import parse
from shared.utils.errors import UserError

ENOUGH = ["a", "--metrics", "temp_c", "--output", "o"]


def test_words_become_values() -> None:
    options = parse(ScoreOptions, "", ["a", "x=b", *ENOUGH[1:], "--weights", "clip=m=1", "--weights", "i3d=n"])
    assert options.clips == [Path("a"), Path("x=b")] and options.metrics == ("temp_c",)
    assert options.weight_paths() == {"clip": Path("m=1"), "i3d": Path("n")}


def test_what_does_not_go_together_is_refused() -> None:
    for more, reason in (
        (["--compare-anyway", "temp_c"], "--compare-anyway belongs to --against"),
        (["--weights", "clip="], "--weights clip=: NAME=PATH is needed"),
        (["--fps", "0"], "--fps"),
    ):
        with pytest.raises(UserError, match=reason):
            parse(ScoreOptions, "", [*ENOUGH, *more])
