"""Files of clips: every usual ending, hidden and stray files, names in two Unicode compositions."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data.clip_files import existing
from shared.data.manifest import Problem, manifest_entries, read_manifest
from shared.data.media import read_audio, read_image, write_audio
from shared.utils.errors import UserError

NAME = "Café Zoë"
NFC, NFD = unicodedata.normalize("NFC", NAME), unicodedata.normalize("NFD", NAME)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    return folder


@pytest.mark.parametrize("ending", ["m4v", "avi", "MP4", "MOV", "mpg", "ts", "3gp", "WebM"])
@pytest.mark.parametrize("text", ["txt", "TXT", "Txt"])
def test_every_usual_ending_in_any_case_is_a_clip(tmp_path: Path, ending: str, text: str) -> None:
    (clip,) = read_manifest(fill(tmp_path, f"a.{ending}", f"a.{text}"))
    assert (clip.id, clip.video, clip.caption) == ("a", tmp_path / f"a.{ending}", f"a.{text}")


def test_hidden_files_are_passed_over_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "a.mp4", "a.txt", "._a.mp4", "._a.txt", ".DS_Store", "._b.mov", ".b.txt")
    (tmp_path / "more.mp4").mkdir()
    assert [clip.id for clip in read_manifest(tmp_path)] == ["a"] and not caplog.messages
    fill(tmp_path, "README.txt", "notes.TXT", *(f"{k}.json" for k in range(5)))
    assert [clip.id for clip in read_manifest(tmp_path)] == ["a"]
    assert caplog.messages == [
        f"{tmp_path}: left out: README.txt, notes.TXT; no video has their name",
        f"{tmp_path}: left out: 0.json, 1.json, 2.json and 2 more; they are no clips",
    ]


def test_video_and_text_pair_in_any_composition(tmp_path: Path) -> None:
    assert NFC != NFD
    (clip,) = read_manifest(fill(tmp_path, f"{NFD}.mp4", f"{NFC}.txt"))
    assert (clip.id, clip.caption) == (NFD, f"{NFC}.txt")
    fill(tmp_path, f"{NFC}.mp4")
    (problem,) = manifest_entries(tmp_path)
    assert isinstance(problem, Problem) and "two compositions" in problem.message


def test_media_are_opened_by_a_name_in_any_composition(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / f"{NFD}.png")
    write_audio(tmp_path / f"{NFD}.wav", np.full((1, 800), 0.1, np.float32), 16000)
    assert read_image(tmp_path / f"{NFC}.png").shape == (8, 8, 3)
    assert read_audio(tmp_path / f"{NFC}.wav", 16000).shape == (1, 800)


@pytest.mark.parametrize(("disk", "told"), [(NFC, NFD), (NFD, NFC)])
def test_a_manifest_names_files_in_any_composition(tmp_path: Path, disk: str, told: str) -> None:
    (tmp_path / disk).mkdir()
    fill(tmp_path / disk, f"{disk}.mp4", f"{disk}.wav", f"{disk}1.wav")
    line = {"id": "a", "video": f"{told}/{told}.mp4", "audio": f"{told}/{told}.wav", "caption": "x"}
    line["tracks"] = {"music": f"{told}/{told}1.wav"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line, ensure_ascii=False), encoding="utf-8")
    (clip,) = read_manifest(tmp_path)
    folder = tmp_path / disk
    assert clip.video == folder / f"{disk}.mp4" and clip.audio == folder / f"{disk}.wav"
    assert clip.tracks == {"music": folder / f"{disk}1.wav"}
    gone = tmp_path / f"{told}/{told}2.wav"
    assert existing(gone) == gone
    (folder / f"{disk}.mp4").unlink()
    with pytest.raises(UserError, match="does not exist"):
        read_manifest(tmp_path)
