"""study.py: a page, votes as it saves them, and the analysis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from drawn_clips import write_clip

from scripts.study import main
from shared.utils.errors import UserError


def test_from_clips_to_strengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate("ab"):
        for clip in range(2):
            write_clip(tmp_path / name / f"{clip}.mp4", 2 * number + clip, seconds=0.5)
    study = {
        "title": "t",
        "sets": {"a": "a", "b": "b"},
        "criteria": {"sync": "?"},
        "trials": 2,
        "catch": 1,
        "raters": 2,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    words = [str(tmp_path / "study.yaml"), "--output", str(tmp_path / "o")]
    main(words)
    key = json.loads((tmp_path / "o/key.json").read_text())
    files = []
    for rater in (1, 2):
        trials = {name: trial for name, trial in key["trials"].items() if name.startswith(f"{rater:03d}")}
        choices = {
            name: trial["catch"] or ("left" if trial["left"] == "a" else "right") for name, trial in trials.items()
        }
        votes = [{"trial": name, "criterion": "sync", "choice": choice} for name, choice in choices.items()]
        files.append(tmp_path / f"{rater}.json")
        files[-1].write_text(json.dumps({"study": key["study"], "rater": rater, "votes": votes}))
    main([*words, "--votes", *map(str, files)])
    out = capsys.readouterr().out
    assert "a over b: 100% [100%, 100%] of 4 votes, 0 ties" in out
    result = json.loads((tmp_path / "o/study.json").read_text())
    assert result["raters"] == 2 and result["left_out"] == []
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(study | {"criteria": {"look": "?"}}))
    with pytest.raises(UserError, match=r"key\.json: is of another study than"):
        main([str(tmp_path / "other.yaml"), *words[1:], "--votes", str(files[0])])
    with pytest.raises(UserError, match=r"key\.json cannot be read"):
        main([words[0], "--output", str(tmp_path / "new"), "--votes", str(files[0])])
