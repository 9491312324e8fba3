"""Clips of the page are those of the command line, and what it refuses the page refuses in the same words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sample_joint
from app_jobs import finished, recorded

from ccl.app.jobs import Job
from ccl.app.making import JointRequest, seeds_from
from ccl.app.shelf import Shelf
from shared.data.media import probe, read_audio, read_video
from shared.utils.errors import UserError

PROMPT = "Scene description: a big yellow bell rings twice under a warm bright light."


def values(shelf: Shelf, **given: object) -> dict[str, object]:
    return shelf.model_options("assets/puppets") | {"prompt": PROMPT, "steps": "2", "duration": "0.5"} | given


def test_a_clip_is_that_of_the_command_line(shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = JointRequest(values(shelf), [3, 4], tmp_path)
    told = recorded(lambda job: request.make(job, shelf))
    files = [clip.file for clip in told[-1].results]
    assert told[-1].state == "done" and [file.name for file in files] == ["clip_seed_3.mp4", "clip_seed_4.mp4"]
    assert "seed 4: step 2 of 2" in [one.line for one in told] and [len(one.results) for one in told][-4:-1] != []
    assert [one.share for one in told] == sorted(one.share for one in told)
    shell = tmp_path / "shell.mp4"
    words = ["--prompt", PROMPT, "--steps", "2", "--duration", "0.5", "--seed", "4", "--output", str(shell)]
    sample_joint.main([*words, "--device", "cpu"])
    assert np.array_equal(read_video(files[1], 16), read_video(shell, 16))
    assert np.array_equal(read_audio(files[1], 16000), read_audio(shell, 16000))


def test_what_is_given_is_carried(shelf: Shelf, media: Path, tmp_path: Path) -> None:
    request = JointRequest(values(shelf, audio=str(media / "voice.wav"), image=str(media / "face.png")), [0], tmp_path)
    (clip,) = finished(lambda job: request.make(job, shelf)).results
    assert probe(clip.file).duration == pytest.approx(0.5, abs=0.05)
    first = read_video(clip.file, 16)[0].mean((0, 1))
    assert np.abs(first - (200, 90, 20)).max() < 25
    sound = JointRequest(values(shelf, task="t2a"), [0], tmp_path)
    assert finished(lambda job: sound.make(job, shelf)).results[0].file.suffix == ".wav"


def test_a_long_clip_is_told_window_by_window(shelf: Shelf, tmp_path: Path) -> None:
    request = JointRequest(values(shelf, steps="1", duration="3", window="2"), [0], tmp_path)
    told = recorded(lambda job: request.make(job, shelf))
    assert "seed 0: step 1 of 1 of window 2 of 2" in [one.line for one in told] and told[-1].state == "done"
    assert [one.share for one in told] == sorted(one.share for one in told)


def test_a_clip_can_be_cancelled(shelf: Shelf, tmp_path: Path) -> None:
    request = JointRequest(values(shelf, steps="400"), [0], tmp_path)

    def work(job: Job) -> None:
        tell = job.progress

        def progress(line: str, share: float) -> None:
            if "step 2 of" in line:
                job.cancel()
            tell(line, share)

        job.progress = progress  # type: ignore[method-assign]
        request.make(job, shelf)

    update = finished(work)
    assert update.state == "cancelled" and not update.results and not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("field", ["audio", "image", "video"])
def test_a_bad_file_is_refused_as_on_the_command_line(shelf: Shelf, media: Path, tmp_path: Path, field: str) -> None:
    bad = media / {"audio": "bad.wav", "image": "bad.png", "video": "bad.mp4"}[field]
    words = ["--prompt", PROMPT, f"--{field}", str(bad), "--output", str(tmp_path / "x.mp4")]
    with pytest.raises(UserError) as shell:
        sample_joint.main(words)
    with pytest.raises(UserError) as page:
        JointRequest(values(shelf, **{field: str(bad)}), [0], tmp_path)
    assert str(page.value) == str(shell.value).replace(str(bad), bad.name) and str(media) not in str(page.value)


def test_seeds_of_a_grid() -> None:
    assert seeds_from("", "", 4) == [0] and seeds_from("7", "3", 4) == [7, 8, 9] and seeds_from("-1", "1", 4) == [-1]
    for first, count, said in (("x", "1", "seed x: a whole"), ("1", "5", "clips is 5; a whole number from 1 to 4")):
        with pytest.raises(UserError, match=said):
            seeds_from(first, count, 4)
