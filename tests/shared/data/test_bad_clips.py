"""Clips that cannot be used: named together, refused or skipped, and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.data.bad_clips import LEFT_OUT_NAME, Problem, attempt, noted, refuse, settle, tell_limit, write_left_out
from shared.utils.errors import UserError

BAD = [Problem(f"clip{k}", f"clip 'clip{k}': reason {k}") for k in range(25)]


def test_one_error_names_them_together() -> None:
    refuse([], 3)
    with pytest.raises(UserError) as error:
        refuse(BAD[:3], 9, "; advice")
    reasons = "clip 'clip0': reason 0; clip 'clip1': reason 1; clip 'clip2': reason 2"
    assert str(error.value) == f"3 of 9 clips cannot be used: {reasons}; advice"
    with pytest.raises(UserError, match=r"25 of 30 clips.*reason 19; and 5 more, which scripts/check_data\.py names"):
        refuse(BAD, 30)


def test_they_are_refused_or_skipped_as_long_as_one_is_left(caplog: pytest.LogCaptureFixture) -> None:
    settle([], 0, "refuse")
    with pytest.raises(UserError, match=r"2 of 3 clips cannot be used: .*; data\.on_bad_clip=skip trains without them"):
        settle(BAD[:2], 3, "refuse")
    settle(BAD, 26, "skip")
    assert caplog.messages[0] == "clip 'clip0': reason 0; it is left out" and len(caplog.messages) == 21
    assert caplog.messages[-1] == "5 more clips are left out"
    with pytest.raises(UserError, match=r"3 of 3 clips cannot be used.*; no clip is left"):
        settle(BAD[:3], 3, "skip")


def test_one_process_of_a_run_tells(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, lines in (("1", 0), ("0", 2)):
        monkeypatch.setenv("RANK", rank)
        settle(BAD[:1], 3, "skip")
        tell_limit("data.max_duration", BAD[:1], 3)
        assert len(caplog.messages) == lines


def test_the_list_is_what_is_left_out_now(tmp_path: Path) -> None:
    write_left_out(tmp_path, BAD[:2])
    lines = (tmp_path / LEFT_OUT_NAME).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"id": p.id, "reason": p.message} for p in BAD[:2]]
    write_left_out(tmp_path, [])
    write_left_out(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_errors_are_noted_and_bugs_are_not() -> None:
    def fail(value: int) -> int:
        raise UserError("its sound is silent") if value else KeyError("bug")

    problems: list[Problem] = []
    with noted(problems, "a"):
        fail(1)
    with noted(problems, "b"):
        raise UserError("b.mp4: clip 'b': broken")
    assert [str(problem) for problem in problems] == ["clip 'a': its sound is silent", "b.mp4: clip 'b': broken"]
    assert isinstance(attempt(fail)(1), UserError) and attempt(str)(5) == "5"
    with pytest.raises(KeyError):
        attempt(fail)(0)
