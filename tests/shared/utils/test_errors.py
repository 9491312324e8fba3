"""What the user did wrong is told in one line; what we did wrong keeps its traceback."""

from __future__ import annotations

import pytest

from shared.utils.errors import UserError, exit_for_failed_clips, run_main


def test_a_user_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("clips.jsonl: line 3:\n  not JSON")

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 2 and capsys.readouterr().err == "error: clips.jsonl: line 3: not JSON\n"


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("shape mismatch"), KeyError("x")])
def test_any_other_error_is_not_caught(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run_main(main)


def test_a_torchaudio_that_wants_cuda_is_told_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError("libtorchaudio.so: undefined symbol")

    with pytest.raises(SystemExit):
        run_main(main)
    assert "python -m shared.utils.environment" in capsys.readouterr().err


def test_clips_that_failed_are_told_and_end_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    exit_for_failed_clips([], 3, "manifest is")
    with pytest.raises(SystemExit) as stop:
        exit_for_failed_clips([("a", "no sound"), ("b", "too short")], 3, "manifest is")
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and lines[:2] == ["failed: clip 'a': no sound", "failed: clip 'b': too short"]
    assert lines[2:] == ["2 of 3 clips failed; the manifest is without them"]
