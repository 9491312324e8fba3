"""The commit of the code, where there is a git checkout."""

from __future__ import annotations

import subprocess

import pytest

from shared.utils.version import commit


def test_the_commit_is_told_with_a_mark_or_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(answer: object) -> None:
        def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            if isinstance(answer, Exception):
                raise answer
            assert command[0] == "git" and "--dirty" in command
            return subprocess.CompletedProcess(command, 0, str(answer))

        monkeypatch.setattr(subprocess, "run", fake)

    run("12ab34cd56ef-dirty\n")
    assert commit() == "12ab34cd56ef-dirty"
    for error in (FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")):
        run(error)
        assert commit() == "unknown"
