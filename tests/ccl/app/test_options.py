"""Fields of the page are read as the command line is, and messages are put into the words of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl.app.options import AppOptions, asked, label, plain, plainly
from ccl.generate import JointOptions
from shared.checkpoint.loading import few_step_checkpoint, shipped_checkpoint
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_it_listens_to_this_machine_alone_unless_told_otherwise() -> None:
    options = parse(AppOptions, None, [])
    assert options.host == "127.0.0.1" and options.checkpoint == [few_step_checkpoint(), shipped_checkpoint()]
    assert parse(AppOptions, None, ["--host", "0.0.0.0"]).host == "0.0.0.0"


def test_checkpoints_are_told_apart() -> None:
    assert label(Path("/a/run/checkpoint")) == "run/checkpoint"
    with pytest.raises(UserError, match="two folders end in run/checkpoint; give each once, or rename one"):
        parse(AppOptions, None, ["--checkpoint", "/a/run/checkpoint", "/b/run/checkpoint"])


def test_fields_are_read_as_options() -> None:
    given = {"prompt": "--a bell", "output": "x.mp4", "steps": "2", "duration": "", "audio": None, "lossless": False}
    options = asked(JointOptions, given | {"text_scale": "3,2", "seed": 7})
    assert (options.prompt, options.steps, options.duration, options.seed) == ("--a bell", 2, None, 7)
    assert options.text_scale == (3, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": "many"}, "steps many: Input should be a valid integer, unable to parse string as an integer"),
        ({"steps": "0"}, "steps 0: Input should be greater than or equal to 1"),
        ({"prompt": " "}, "prompt is empty; a text is needed"),
        ({"duration": "200"}, "duration 200: at most 120 s at once; give window for more"),
    ],
)
def test_what_is_refused_is_told_without_dashes(given: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as error, plainly():
        asked(JointOptions, {"prompt": "a bell", "output": "x.mp4"} | given)
    assert str(error.value) == said


def test_files_are_told_by_name() -> None:
    text = "/tmp/x/1/a.wav: is silent; /tmp/x/1: no such folder; --seed 3 - 2"
    assert plain(text, ["/tmp/x/1", None, Path("/tmp/x/1/a.wav")]) == "a.wav: is silent; 1: no such folder; seed 3 - 2"
