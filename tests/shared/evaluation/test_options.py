"""Options of an evaluation: what is left out is filled in from the checkpoint, what does not fit is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.options import VARIANT_NAMES, EvaluationOptions
from shared.utils.cli import parse
from shared.utils.errors import UserError

CONFIG = {"suite": "puppets", "level": "simple", "held_out_seed": 900001}


def options(output: Path, *more: str, control: bool = False) -> EvaluationOptions:
    given = parse(EvaluationOptions, None, ["--checkpoint", "c", "--output", str(output), *more])
    return given.settled({"control": ["mtv.control", "MSTControlNet"]} if control else {})


def test_the_default_is_what_the_checkpoint_can_do(tmp_path: Path) -> None:
    assert options(tmp_path).tasks == ("t2av", "a2v", "v2a")
    chosen = options(tmp_path, control=True)
    assert chosen.tasks == ("t2av", "a2v", "v2a", "mtv")
    assert chosen.variants == ()
    assert options(tmp_path, "--variants", "all", control=True).variants == VARIANT_NAMES
    every = "t2av,t2v,t2a,i2av,i2v,a2v,v2a,mtv"
    assert (
        ",".join(options(tmp_path, "--tasks", every, control=True).tasks or ()) == "t2av,a2v,v2a,t2v,t2a,i2av,i2v,mtv"
    )
    assert options(tmp_path, "--no-context", control=True).tasks == ("t2av", "a2v", "v2a")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "1"], "--clips 1"),
        (["--tasks", "t2x"], "--tasks t2x"),
        (["--text-scale", "a"], "--text-scale a"),
        (["--no-context", "--context-scale", "2"], "--no-context"),
        (["--no-context", "--interval", "0.5,1"], "give no --guidance, --context-scale or --interval with it"),
        (["--level", "hard"], "invalid choice"),
        (["--tasks", "mtv", "--variants", "loud"], "--variants loud"),
        (["--tasks", "mtv", "--speech-scale", "nan"], "--speech-scale nan"),
        (["--tasks", "t2av", "--music-scale", "2"], "--music-scale is for --tasks mtv"),
        (["--tasks", "t2av", "--variants", "none"], "--variants is for --tasks mtv"),
        (["--tasks", "mtv", "--context-scale", "2"], "--context-scale is for --tasks t2av,a2v,v2a"),
        (["--seconds", "3"], "--seconds 3: the clips of level simple last 2, 4, 8 s"),
        (["--level", "full", "--seconds", "7"], "--seconds 7: the clips of level full last 2, 3, 4, 5, 6, 8 s"),
        (["--level", "shows", "--seconds", "7"], "--seconds 7: the clips of level shows last 1, 2, 3, 4, 5, 6, 8 s"),
        (["--level", "full", "--held-out"], "--held-out: level full has no pairs that are held out"),
        (["--held-out-twins"], "--held-out-twins: level simple has no pairs that are held out; give --level shows"),
        (["--level", "shows", "--held-out", "--held-out-twins"], "give one of the two"),
        (["--level", "shows", "--style", "cutout"], "--style cutout: level shows has no such clips"),
        (["--level", "shows", "--conflict"], "--conflict: level shows has no such clips; give --level simple or full"),
        (["--level", "shows", "--name-style"], "--name-style: level shows has no such clips"),
        (["--style", "paper"], "invalid choice"),
        (["--tasks", "shots"], "--tasks shots: level simple has clips of one shot only; give --level shows"),
        (["--level", "shows", "--tasks", "shots", "--each", "9"], "--each chooses clips of one shot"),
        (["--sheet", "a.gif"], "--sheet a.gif: the picture's name must end in .png, .jpg or .webp"),
        (["--tasks", "mtv", "--sheet", "a.png"], "--sheet shows what is made of text"),
        (["--tasks", "part", "--as-users-do"], "--as-users-do is how sample_joint.py samples, which has no part"),
        (["--fps", "0"], "--fps 0"),
        (["--as-users-do"], "--as-users-do is how sample_joint.py samples, which has no mtv"),
        (
            ["--tasks", "t2av", "--as-users-do", "--steps", "4"],
            "--as-users-do leaves every setting as it is; give no --steps",
        ),
        (["--tasks", "t2av,mtv", "--no-context"], "--no-context: mtv has no such route"),
    ],
)
def test_bad_arguments_are_named(more: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        options(tmp_path, *more, control=True)


def test_what_is_given_is_kept_in_its_own_order(tmp_path: Path) -> None:
    given = ("--tasks", "mtv, t2av", "--variants", "dsp,speech-swapped", "--text-scale", "2,3", "--music-scale", "1.5")
    chosen = options(tmp_path, *given, "--interval", ".2,1", control=True)
    assert (chosen.tasks, chosen.variants) == (("t2av", "mtv"), ("speech-swapped", "dsp"))
    assert chosen.scales() == {"text": 2.0, "music": 1.5, "interval": (0.2, 1.0)} and chosen.text_scale == (2.0, 3.0)
    assert options(tmp_path, "--tasks", "mtv", "--variants", "none", control=True).variants == ()
    assert chosen.read_against() is None
    with pytest.raises(UserError, match=r"--against .*: no such file"):
        options(tmp_path, "--against", str(tmp_path / "none.json")).read_against()


def read_against(file: Path) -> dict[str, Any]:
    chosen = EvaluationOptions(checkpoint="c", output="o", tasks="t2av,mtv", against=file).read_against()
    assert chosen is not None
    return chosen


def metrics(**config: Any) -> dict[str, Any]:
    return {"config": {**CONFIG, **config}, "tasks": {"t2av": {"per_clip": {}}, "a2v": {"per_clip": {}}, "mtv": {}}}


def test_tasks_without_values_per_clip_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(metrics()))
    assert set(read_against(tmp_path / "m.json")["tasks"]) == {"t2av", "a2v"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("[]", "not the metrics.json"),
        ("{", "not the metrics.json"),
        (json.dumps({"config": CONFIG, "tasks": 3}), "not the metrics.json"),
        (json.dumps(metrics(level="full")), "its level is full, here simple"),
        (json.dumps({**metrics(), "tasks": {"mtv": {}}}), "no values per clip of t2av, mtv"),
    ],
)
def test_what_cannot_be_compared_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_against(tmp_path / "m.json")
