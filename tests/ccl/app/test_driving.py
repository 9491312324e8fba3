"""Videos that sound drives: window by window, as on the command line, with texts and pictures in their places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sample_mtv
from app_jobs import finished, recorded

from ccl.app.driving import DrivenRequest
from ccl.app.players import MadeClip
from ccl.app.shelf import Shelf
from shared.data.media import probe, read_video
from shared.utils.errors import UserError

PROMPT = "Scene description: a big yellow bell rings twice under a warm bright light."


def values(shelf: Shelf, media: Path, **given: object) -> dict[str, object]:
    common = {"prompt": PROMPT, "speech": str(media / "voice.wav"), "steps": "1", "seed": "2"}
    return shelf.model_options("assets/puppets") | common | given


def test_a_video_is_that_of_the_command_line(shelf: Shelf, media: Path, tmp_path: Path) -> None:
    request = DrivenRequest(values(shelf, media), tmp_path)
    before = MadeClip(tmp_path / "before.mp4", "before")
    told = recorded(lambda job: request.make(job, shelf, "as given", [before]))
    assert told[-1].state == "done" and told[-1].results == (before, MadeClip(tmp_path / "driven.mp4", "as given"))
    so_far = next(one.results[1] for one in told if len(one.results) > 1)
    assert not so_far.whole and so_far.caption == "as given, the first 2.1 s"
    assert len(read_video(so_far.file, 16)) == 33  # the first window
    assert [one.share for one in told] == sorted(one.share for one in told)
    shell = tmp_path / "shell.mp4"
    words = ["--prompt", PROMPT, "--speech", str(media / "voice.wav"), "--steps", "1", "--seed", "2"]
    sample_mtv.main([*words, "--device", "cpu", "--output", str(shell)])
    assert np.array_equal(read_video(request.file, 16), read_video(shell, 16)) and probe(request.file).has_audio
    assert not (tmp_path / "driven.mp4.partial").exists()


def test_a_mix_is_taken_apart_as_on_the_command_line(shelf: Shelf, media: Path, tmp_path: Path) -> None:
    request = DrivenRequest(values(shelf, media, speech=None, audio=str(media / "beat.wav")), tmp_path)
    assert finished(lambda job: request.make(job, shelf, "")).state == "done"
    shell = tmp_path / "shell.mp4"
    words = ["--prompt", PROMPT, "--audio", str(media / "beat.wav"), "--steps", "1", "--seed", "2"]
    sample_mtv.main([*words, "--device", "cpu", "--output", str(shell)])
    assert np.array_equal(read_video(request.file, 16), read_video(shell, 16))
    with pytest.raises(UserError, match="audio and speech: a mix or its tracks are needed, not both"):
        DrivenRequest(values(shelf, media, audio=str(media / "beat.wav")), tmp_path)


def test_texts_and_pictures_are_placed(shelf: Shelf, media: Path, tmp_path: Path) -> None:
    texts, frames = [(1.5, "Scene description: a cold dark light.")], [(1.0, str(media / "face.png"))]
    request = DrivenRequest(values(shelf, media, fade="0.5"), tmp_path, texts, frames)
    assert request.texts.times == (0, 1.5) and request.texts.fade == 0.5 and request.texts.texts[0] == PROMPT
    finished(lambda job: request.make(job, shelf, ""))
    shown = read_video(request.file, 16)[16].mean((0, 1))
    assert np.abs(shown - (200, 90, 20)).max() < 30
    whole = [(0.0, "Scene description: a drum."), *texts]
    (tmp_path / "b").mkdir()
    assert DrivenRequest(values(shelf, media), tmp_path / "b", whole).texts.texts[0] == "Scene description: a drum."


def test_a_shorter_track_is_told(shelf: Shelf, media: Path, tmp_path: Path) -> None:
    request = DrivenRequest(values(shelf, media, music=str(media / "piano.wav"), window="4"), tmp_path)
    (note,) = finished(lambda job: request.make(job, shelf, "")).notes
    assert "lasts 1.000 s" in note and note.endswith("the shorter is filled with silence")


@pytest.mark.parametrize(
    ("given", "texts", "frames", "said"),
    [
        ({"speech": None}, [], [], "no sound is given; speech, effects or music are needed, or a mix as audio"),
        ({"speech": "bad.wav"}, [], [], "bad.wav: "),
        ({}, [(9.0, "rain")], [], "timed texts: a text begins at 9 s, the video ends at 3 s"),
        ({}, [(1.0, "a"), (0.5, "b")], [], "timed texts: timed prompts are out of order: 0.0, 1.0, 0.5"),
        ({}, [], [(5.0, "face.png")], "keyframe 5: the video ends at 3 s; an earlier time is needed"),
        ({}, [], [(1.0, "bad.png")], "bad.png: "),
        ({"prompt": ""}, [], [], "prompt is empty; a text is needed"),
    ],
)
def test_what_does_not_fit_is_told_before_a_model_is_loaded(
    shelf: Shelf, media: Path, tmp_path: Path, given: dict, texts: list, frames: list, said: str
) -> None:
    given = {name: str(media / one) if name == "speech" and one else one for name, one in given.items()}
    with pytest.raises(UserError) as error:
        DrivenRequest(values(shelf, media, **given), tmp_path, texts, [(at, str(media / file)) for at, file in frames])
    assert str(error.value).startswith(said) and str(media) not in str(error.value)
