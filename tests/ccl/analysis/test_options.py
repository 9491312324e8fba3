"""Options of the probes: what does not go together is refused; the rest is told in the file."""

from __future__ import annotations

import re

import pytest

from ccl.analysis.options import PROBES, ProbeOptions
from shared.utils.cli import parse
from shared.utils.errors import UserError

BASE = ["--checkpoint", "c", "--manifest", "m.jsonl", "--output", "p.json"]


def test_the_settings_name_files_and_probes() -> None:
    options = parse(ProbeOptions, None, [*BASE, "--probes", "gain, loss", "--against", "towers", "--seed", "3"])
    settings = options.settings()
    assert settings["against"] == "towers" and settings["probes"] == ("loss", "gain") and settings["seed"] == 3
    assert parse(ProbeOptions, None, BASE).settings() | {"against": None, "probes": PROBES, "steps": 16} == (
        parse(ProbeOptions, None, BASE).settings()
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--probes", "loss", "--pictures", "maps"], "--pictures shows attention"),
        (["--probes", "gain", "--against", "towers"], "--against compares losses"),
        (["--probes", "steps"], "--probes steps measures distances to --teacher"),
        (["--teacher", "t"], "--probes steps measures distances to --teacher"),
        (["--output", "probe.txt"], "--output probe.txt: the name of a file is needed, and must end in .json"),
    ],
)
def test_what_does_not_go_together_is_refused(more: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        parse(ProbeOptions, None, [*BASE, *more])
