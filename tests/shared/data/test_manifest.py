"""Manifests: defaults, relative paths, folders of captioned clips, errors that name line, clip and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flaky_store import flaky_store

from shared.data.manifest import Clip, Problem, claim_folder, manifest_entries, read_manifest, subset, write_manifest
from shared.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", "b.wav", "effects.wav", "b.json"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def manifest(folder: Path, *lines: str | dict) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "manifest.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder / "manifest.jsonl"


A = {"id": "a", "video": "a.mp4", "caption": "A ball bounces."}


def test_sound_and_audio_caption_default_to_the_videos(folder: Path) -> None:
    (clip,) = read_manifest(manifest(folder, A | {"audio_caption": None}, ""))
    assert clip.video == clip.audio == folder / "a.mp4"
    assert clip.audio_caption == "A ball bounces."
    assert (clip.start, clip.end, clip.tracks, clip.subsets) == (0.0, None, {}, [])


def test_a_manifest_is_found_in_its_folder_and_read_from_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(folder, A)
    monkeypatch.chdir(folder.parent)
    assert read_manifest(folder.name)[0].video == folder / "a.mp4"


def test_what_is_written_is_read_back(folder: Path) -> None:
    full = Clip(
        id="b",
        video=folder / "b.mp4",
        audio=folder / "b.wav",
        caption="ä",
        audio_caption="",
        tracks={"effects": folder / "effects.wav", "speech1": folder / "b.wav"},
        speakers=["a man in red"],
        subsets=["face", "conflict"],
        start=0.5,
        end=2.5,
        truth=folder / "b.json",
        transcript="Good day.",
        language="en",
        words=[(0.1, 0.5, "Good"), (0.5, 0.9, "day.")],
    )
    clips = [Clip(id="a", video=folder / "a.mp4", caption="x"), full]
    write_manifest(folder / "manifest.jsonl", clips)
    assert read_manifest(folder) == clips
    text = (folder / "manifest.jsonl").read_text(encoding="utf-8")
    assert str(folder) not in text and json.loads(text.splitlines()[0]) == A | {"caption": "x"}
    assert not list(folder.glob(".*"))


def test_a_sound_needs_no_video(folder: Path) -> None:
    (clip,) = read_manifest(manifest(folder, {"id": "s", "audio": "b.wav", "caption": ""}))
    assert clip.video is None and clip.audio == folder / "b.wav"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "not JSON"),
        ("[1]", "dictionary"),
        (A, "clip 'a' is already on line 1"),
        (A | {"id": "c", "video": "gone.mp4"}, "clip 'c': video file .*gone.mp4 does not exist"),
        (A | {"id": "c", "tracks": {"music": "gone.wav"}}, "clip 'c': music file"),
        (A | {"id": "c", "colour": "red"}, "clip 'c': colour"),
        (A | {"id": "c", "tracks": {"drums": "b.wav"}}, "clip 'c': tracks: unknown .'drums'."),
        (A | {"id": "c", "start": -1}, "clip 'c': start"),
        (A | {"id": "c", "start": 2, "end": 1}, "clip 'c': end 1.0 is not after start 2.0"),
        ({"id": "c", "caption": "x"}, "clip 'c': neither video nor audio"),
        ({"id": "c", "video": "a.mp4"}, "clip 'c': caption: Field required"),
        (A | {"id": "c", "words": [[0.5, 0.4, "no"]]}, "words: 'no' is spoken from 0.5 to 0.4 s; words begin in order"),
        (A | {"id": "c", "words": [[1, 2, "a"], [0.5, 2, "b"]]}, "words: 'b' is spoken from 0.5 to 2 s"),
        ({"id": "", "video": "a.mp4", "caption": "x"}, "id: "),
    ],
)
def test_a_bad_line_is_named_with_its_clip_and_reason(folder: Path, line: str | dict, reason: str) -> None:
    with pytest.raises(UserError, match=rf"manifest\.jsonl:2: .*{reason}"):
        read_manifest(manifest(folder, A, line))


@pytest.mark.parametrize("content", ["", "\n\n", b"\xff\xfe\xfa"])
def test_a_manifest_without_clips_is_refused(folder: Path, content: str | bytes) -> None:
    path = folder / "manifest.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"manifest\.jsonl: (holds no clip|cannot be read)"):
        read_manifest(path)
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(folder / "gone.jsonl")


def test_a_folder_of_captioned_clips(folder: Path) -> None:
    (folder / "a.txt").write_text("A bell rings.\n", encoding="utf-8")
    (folder / "b.txt").write_text("A man talks.\nA low voice.\n", encoding="utf-8")
    first, second = read_manifest(folder)
    assert (first.id, first.video, first.caption) == ("a", folder / "a.mp4", "A bell rings.")
    assert first.audio_caption == "A bell rings."
    assert (second.id, second.caption, second.audio_caption) == ("b", "A man talks.", "A low voice.")
    (folder / "a.txt").write_text("", encoding="utf-8")
    assert read_manifest(folder)[0].caption == ""


def test_a_folder_that_does_not_pair_up_is_refused(folder: Path) -> None:
    (folder / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="clip 'b' has no caption"):
        read_manifest(folder)
    (folder / "b.txt").write_text("1\n2\n3", encoding="utf-8")
    with pytest.raises(UserError, match=r"b\.txt: 3 lines"):
        read_manifest(folder)
    (folder / "b.txt").write_text("1", encoding="utf-8")
    (folder / "b.mov").write_bytes(b"x")
    with pytest.raises(UserError, match="two endings"):
        read_manifest(folder)


TIMED = [[0, "A bell rings."], [1.5, "A drum is hit."]]


def test_texts_over_time_are_kept_and_make_a_caption(folder: Path) -> None:
    timed = {"id": "t", "video": "a.mp4", "prompts": TIMED}
    told = timed | {"id": "u", "caption": "Two shots."}
    clips = read_manifest(manifest(folder, A, timed, told))
    assert [clip.prompts for clip in clips] == [[], *[[(0.0, "A bell rings."), (1.5, "A drum is hit.")]] * 2]
    assert [clip.caption for clip in clips[1:]] == ["A bell rings. A drum is hit.", "Two shots."]
    assert clips[1].audio_caption == clips[1].caption
    assert [clip.audio_prompts for clip in clips] == [clip.prompts for clip in clips]
    write_manifest(folder / "again.jsonl", clips)
    assert read_manifest(folder / "again.jsonl") == clips
    lines = [json.loads(line) for line in (folder / "again.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "prompts" not in lines[0] and "caption" not in lines[1] and lines[2]["caption"] == "Two shots."


HEARD = [[0, "A knock."], [1, "A ring."]]


@pytest.mark.parametrize(
    ("more", "audio_caption", "audio_prompts", "written"),
    [
        ({}, "A bell rings. A drum is hit.", TIMED, set()),
        ({"audio_caption": "Noise."}, "Noise.", [], {"audio_caption"}),
        ({"audio_caption": ""}, "", [], {"audio_caption"}),
        ({"audio_caption": "A bell rings. A drum is hit."}, "A bell rings. A drum is hit.", [], {"audio_caption"}),
        ({"audio_prompts": HEARD}, "A knock. A ring.", HEARD, {"audio_prompts"}),
        ({"audio_prompts": HEARD, "audio_caption": "All."}, "All.", HEARD, {"audio_prompts", "audio_caption"}),
        ({"audio_prompts": HEARD, "audio_caption": ""}, "", HEARD, {"audio_prompts", "audio_caption"}),
    ],
)
def test_the_sound_has_texts_over_time_of_its_own_or_those_of_the_picture(
    folder: Path, more: dict[str, object], audio_caption: str, audio_prompts: list[object], written: set[str]
) -> None:
    clips = read_manifest(manifest(folder, {"id": "t", "video": "a.mp4", "prompts": TIMED} | more))
    assert clips[0].audio_caption == audio_caption
    assert [list(pair) for pair in clips[0].audio_prompts] == [list(pair) for pair in audio_prompts]  # type: ignore[call-overload]
    write_manifest(folder / "again.jsonl", clips)
    assert read_manifest(folder / "again.jsonl") == clips
    line = json.loads((folder / "again.jsonl").read_text(encoding="utf-8"))
    assert {name for name in line if name.startswith("audio_")} == written


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([[1, "A bell."]], "prompts: the first text begins at 1 s; it must begin at 0"),
        ([[0, "A bell."], [2, "A."], [2, "B."]], "prompts: a text at 2 s follows one at 2 s; times must increase"),
        ([[0, "A bell."], [1, " "]], "prompts: the text at 1 s is empty"),
        ([[0, "A bell."], ["soon", "B."]], r"prompts.1.0: Input should be a valid number"),
        ([[0, "A bell."], [1]], r"prompts.1"),
        (["A bell."], r"prompts.0"),
        ("A bell.", "prompts: Input should be a valid list"),
        ({"0": "A bell."}, "prompts: Input should be a valid list"),
        ([[0, "A bell."], [3, "B."]], "prompts: a text begins at 3 s, the clip ends at 2 s after its start"),
    ],
)
def test_bad_texts_over_time_are_named(folder: Path, prompts: object, said: str) -> None:
    line = {"id": "t", "video": "a.mp4", "prompts": prompts, "start": 1, "end": 3}
    with pytest.raises(UserError, match=rf"manifest\.jsonl:1: clip 't': {said}"):
        read_manifest(manifest(folder, line))
    heard = {"id": "t", "video": "a.mp4", "caption": "", "audio_prompts": prompts, "start": 1, "end": 3}
    with pytest.raises(UserError, match=rf"manifest\.jsonl:1: clip 't': audio_{said}"):
        read_manifest(manifest(folder, heard))


def test_conflict_clips_are_held_out(folder: Path) -> None:
    clips = [
        Clip(id=str(i), video=folder / "a.mp4", caption="", subsets=tags)
        for i, tags in enumerate([["face"], ["conflict", "face"], ["sound"]])
    ]
    assert [clip.id for clip in subset(clips)] == ["0", "2"]
    assert [clip.id for clip in subset(clips, ["face"])] == ["0"]
    assert [clip.id for clip in subset(clips, ["conflict"], exclude=())] == ["1"]
    with pytest.raises(UserError, match=r"music.*conflict, face, sound"):
        subset(clips, ["music"])


def test_every_entry_that_is_wrong_is_listed(folder: Path) -> None:
    missing = {"id": "c", "video": "a.mp4", "tracks": {"music": "gone.wav"}, "caption": ""}
    entries = manifest_entries(manifest(folder, "{", A, A, missing, missing))
    assert isinstance(entries[1], Clip) and [entry.id for entry in entries] == ["line 1", "a", "a", "c", "c"]
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    words = (
        "jsonl:1: not JSON",
        "jsonl:3: clip 'a' is already on line 2",
        "jsonl:4: clip 'c': music file",
        "on line 4",
    )
    for problem, said in zip(problems, words, strict=True):
        assert said in problem.message
    (folder / "manifest.jsonl").unlink()
    (folder / "c.mp4").write_bytes(b"x")
    for name, text in (("a", "One."), ("b", "1\n2\n3")):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    first, second, third = manifest_entries(folder)
    assert isinstance(first, Clip) and isinstance(second, Problem) and isinstance(third, Problem)
    assert "b.txt: 3 lines" in second.message and "no caption" in third.message


def test_a_folder_is_claimed_for_one_use(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "clips"
    claim_folder(folder, "made.json", {"seed": 1})
    (folder / "manifest.jsonl").write_text("{}")
    claim_folder(folder, "made.json", {"seed": 1})
    assert [path.name for path in folder.iterdir()] == ["made.json"]  # its clips are not complete any more
    with pytest.raises(UserError, match=r'clips: holds clips of other settings, {"seed": 1}; give a new folder'):
        claim_folder(folder, "made.json", {"seed": 2})
    with pytest.raises(UserError, match=r"clips: holds other files"):
        claim_folder(folder, "else.json", {"seed": 1})
    with pytest.raises(UserError, match=r"made.json: is a file"):
        claim_folder(folder / "made.json", "made.json", {})


def test_a_manifest_in_a_store_is_brought_here_with_its_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = flaky_store(monkeypatch, tmp_path / "kept")
    manifest(folder, A, A | {"id": "b", "video": "b.mp4", "tracks": {"effects": "effects.wav"}})
    for name in ("manifest.jsonl", "a.mp4", "b.mp4", "effects.wav"):
        store.files.pipe_file(f"/clips/{name}", (folder / name).read_bytes())
    store.drops = 1
    first, second = read_manifest("memory://clips")
    assert first.video is not None and first.video.read_bytes() == b"x" and first.caption == "A ball bounces."
    assert second.tracks["effects"].is_relative_to(tmp_path / "kept")
    asked = store.asked
    assert read_manifest("memory://clips/manifest.jsonl") == [first, second] and store.asked == asked + 1
    manifest(folder, A | {"video": "../a.mp4"}, A | {"id": "c", "video": "c.mp4"}, "{")
    store.files.put_file(str(folder / "manifest.jsonl"), "/clips/manifest.jsonl")
    assert [entry.id for entry in manifest_entries("memory://clips") if isinstance(entry, Problem)] == [
        "a",
        "c",
        "line 3",
    ]
    with pytest.raises(UserError, match=r"memory://none/manifest.jsonl: no such manifest; the URL of a .jsonl file"):
        read_manifest("memory://none")
