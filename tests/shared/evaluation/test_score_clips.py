"""Whose clips they are, by folder, manifest and name, and which belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.data.manifest import Clip
from shared.evaluation.score_clips import keys, read_clips, read_sets
from shared.utils.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("a text\nand more" if name.endswith("txt") else "x")
    return folder


def test_a_folder_of_videos_with_and_without_texts_and_one_of_sounds(tmp_path: Path) -> None:
    clips = read_clips(touch(tmp_path / "a", "1.mp4", "1.txt", "2.MP4", "2.wav", ".hidden.mp4"))
    assert [(clip.id, clip.caption) for clip in clips] == [("1", "a text"), ("2", "")]
    assert all(clip.video == clip.audio for clip in clips)
    assert [clip.video for clip in read_clips(touch(tmp_path / "b", "1.wav"))] == [None]


def test_a_manifest_in_the_folder_counts(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "1.mp4", "2.mp4")
    (folder / "manifest.jsonl").write_text('{"id": "7", "video": "2.mp4", "caption": "c"}\n')
    assert (
        [clip.id for clip in read_clips(folder)] == ["7"] == [clip.id for clip in read_clips(folder / "manifest.jsonl")]
    )


def test_names_of_sets(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a", "1.mp4"), touch(tmp_path / "b" / "a", "1.mp4")
    assert [one.name for one in read_sets([a, Path(f"ours={b}")])] == ["a", "ours"]
    for given, reason in (
        ([a, b], "a second set of clips called 'a'"),
        ([Path(f"={a}")], "'' cannot be the name of a set"),
        ([Path(f"..={a}")], "'..' cannot be the name of a set"),
        ([Path(f"reference={a}")], "'reference' cannot be the name of a set"),
        ([touch(tmp_path / "empty", "1.txt")], "no clip in it"),
        ([touch(tmp_path / "twice", "1.mp4", "1.mkv")], "a second clip called '1'"),
        ([tmp_path / "nowhere"], "no such manifest"),
    ):
        with pytest.raises(UserError, match=reason):
            read_sets(given)


def test_pairs_by_name_and_by_text(tmp_path: Path) -> None:
    def clip(name: str, caption: str) -> Clip:
        return Clip(id=name, video=tmp_path / "x.mp4", caption=caption)

    clips = [clip("1", "a"), clip("2", "b")]
    assert keys(clips, "name") == {"1": "1", "2": "2"} and keys(clips, "text") == {"1": "a", "2": "b"}
    with pytest.raises(UserError, match="clips '1' and '2' have one text"):
        keys([clip("1", "a"), clip("2", "a")], "text")
    with pytest.raises(UserError, match="clip '3' has no text"):
        keys([clip("3", "")], "text")
