"""The truth of a clip, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.puppets.clip import render_clip, sample_spec
from shared.puppets.truth import read_truth
from shared.utils.errors import UserError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    truth = render_clip(sample_spec(3, 0)).truth
    (tmp_path / "t.json").write_text(json.dumps(truth))
    assert read_truth(tmp_path / "t.json") == truth


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"characters": []}', "has no objects"), ("[1]", "no JSON object"), ("", "is damaged")],
)
def test_what_is_no_truth_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=rf"t\.json:? .*{said}"):
        read_truth(tmp_path / "t.json")
