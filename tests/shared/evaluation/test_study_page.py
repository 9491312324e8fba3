"""The page of a study: it holds the clips and says nothing of whose they are; a spoilt clip is plainly worse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, in_browser
from drawn_clips import write_clip

from shared.data.media import probe, read_video
from shared.evaluation.score_clips import ClipSet, read_clips
from shared.evaluation.study import StudyConfig, plan
from shared.evaluation.study_page import spoil, write_study
from shared.utils.errors import UserError


@pytest.fixture
def sets(tmp_path: Path) -> list[ClipSet]:
    for number, name in enumerate(("secret", "other")):
        for clip in range(3):
            write_clip(tmp_path / name / f"{clip}.mp4", 3 * number + clip, seconds=0.5, text="</script><b>")
    return [ClipSet(name, tmp_path / name, read_clips(tmp_path / name)) for name in ("secret", "other")]


def test_the_page_is_blind_and_whole(sets: list[ClipSet], tmp_path: Path) -> None:
    given = {
        "title": "Which?",
        "sets": {one.name: one.path for one in sets},
        "criteria": {"sync": "Sync?", "look": "Look?"},
    }
    config = StudyConfig.model_validate(given | {"trials": 3, "catch": 1, "raters": 2})
    key = write_study(tmp_path / "out", config, sets, plan(config, sets))
    text = (tmp_path / "out/index.html").read_text()
    assert "secret" not in text and "catch" not in text.lower()
    found = re.search(r'<script id=data type="application/json">(.*?)</script>', text, re.S)
    assert found
    page = json.loads(found[1])
    assert page["study"] == key["study"] and page["criteria"] == [["sync", "Sync?"], ["look", "Look?"]]
    assert [len(trials) for trials in page["raters"]] == [4, 4]
    for trials in page["raters"]:
        for trial in trials:
            assert trial["text"] == "</script><b>" and trial["id"] in key["trials"]
            assert {trial["left"], trial["right"]} <= page["media"].keys() and trial["left"] != trial["right"]
    assert all(address.startswith("data:video/mp4;base64,") for address in page["media"].values())
    assert json.loads((tmp_path / "out/key.json").read_text()) == key
    write_study(tmp_path / "out", config, sets, plan(config, sets))  # the same study again
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(UserError, match="holds another study"):
        write_study(tmp_path / "out", other, sets, plan(other, sets))


def test_a_spoilt_clip_is_coarse_and_silent(sets: list[ClipSet], tmp_path: Path) -> None:
    clip = sets[0].clips[0]
    spoil(clip, tmp_path / "spoilt.mp4")
    info = probe(tmp_path / "spoilt.mp4")
    assert not info.has_audio and info.fps == 8
    frames, clean = read_video(tmp_path / "spoilt.mp4", 8), read_video(str(clip.video), 8)
    assert frames.shape == clean.shape
    steps = [np.abs(np.diff(one.astype(float), axis=2)).mean((0, 1, 3)) for one in (frames, clean)]
    inside = np.arange(47) % 4 != 3  # blocks of four pixels
    assert steps[0][inside].mean() < 0.5 * steps[0][~inside].mean()


def test_a_rater_votes_in_a_browser(sets: list[ClipSet], tmp_path: Path) -> None:
    chromium()
    given = {"title": "Which?", "sets": {one.name: one.path for one in sets}, "criteria": {"sync": "S?", "look": "L?"}}
    config = StudyConfig.model_validate(given | {"trials": 1, "catch": 1, "raters": 2})
    write_study(tmp_path / "out", config, sets, plan(config, sets))
    script = """
      const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
      const watch = () => { for (const side of ["left", "right"]) at(side).onended(); };
      localStorage.clear(); at("rater").value = 2; at("begin").click();
      press("ArrowLeft"); const tooEarly = [votes.length, at("count").textContent];
      watch(); press("ArrowLeft"); press("Backspace"); press("ArrowRight"); press("ArrowDown");
      const kept = JSON.parse(localStorage.getItem(store())).length; at("begin").click(); const resumed = votes.length;
      press("ArrowLeft"); const unseen = votes.length; watch(); press("ArrowLeft"); press("ArrowLeft");
      return {tooEarly, kept, resumed, unseen, votes, ended: !at("end").hidden, file: at("save").download,
        trials: data.raters[1].map(trial => trial.id)};"""
    found = in_browser(tmp_path / "out/index.html", script, tmp_path)
    assert found["tooEarly"] == [0, "Please watch both clips to their end first."]
    assert (found["kept"], found["resumed"], found["unseen"]) == (2, 2, 2)
    assert [vote["choice"] for vote in found["votes"]] == ["right", "tie", "left", "left"]
    assert [vote["criterion"] for vote in found["votes"]] == ["sync", "look"] * 2
    assert [vote["trial"] for vote in found["votes"]] == [trial for trial in found["trials"] for _ in range(2)]
    assert found["ended"] and found["file"] == "votes-2.json"
