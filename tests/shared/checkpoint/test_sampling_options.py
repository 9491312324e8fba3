"""What both sampling scripts ask, and which files they refuse to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoint.sampling_options import SamplingOptions, check_output, existing_folder
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_what_is_not_given_is_left_to_the_pipeline() -> None:
    assert parse(SamplingOptions, None, []).given_arguments() == {}
    given = parse(SamplingOptions, None, ["--steps", "3", "--negative-prompt", ""]).given_arguments()
    assert given == {"num_inference_steps": 3, "negative_prompt": ""}
    with pytest.raises(UserError, match="--prompt is empty"):
        parse(SamplingOptions, None, ["--prompt", " "])


def test_a_file_that_is_given_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "given.mp4").touch()
    deep = tmp_path / "a/b/x.mp4"
    assert existing_folder(deep) == tmp_path
    check_output(deep, [deep], [tmp_path / "given.mp4", None])
    for file in (tmp_path / "given.mp4", tmp_path / "a" / ".." / "given.mp4", tmp_path):
        (tmp_path / "a").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="is a folder or a given file; give another name"):
            check_output(file, [file], [tmp_path / "given.mp4"])
    below = tmp_path / "given.mp4" / "x.mp4"
    with pytest.raises(UserError, match=r"given\.mp4 is no folder that can be written to"):
        check_output(below, [below], [])
