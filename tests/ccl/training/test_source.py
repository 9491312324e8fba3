"""What there is to train on: clips or shards, looked at before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ccl.training.source import Source, clip_duration, read_clips, read_source
from shared.data.manifest import Clip, write_manifest
from shared.data.media import write_video
from shared.data.shard_benchmark import make_shards
from shared.utils.config import Data, TrainConfig
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Clips of half a second and of one, in subsets; the third is for measuring alone."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    made = []
    for i, (frames, subset) in enumerate(((8, "face"), (16, "crowd"), (8, "conflict"))):
        sound = rng.normal(0, 0.2, (1, frames * 1000)).astype(np.float32)
        write_video(folder / f"{i}.mp4", np.zeros((frames, 16, 16, 3), np.uint8), 16, sound, 16_000)
        made.append(Clip(id=f"clip{i}", video=folder / f"{i}.mp4", caption="", subsets=[subset]))
    write_manifest(folder / "manifest.jsonl", made)
    return made


def data(clips: list[Clip], **changes: object) -> Data:
    assert clips[0].video is not None
    return Data(manifest=str(clips[0].video.parent), size=(16, 16), **changes)


def test_clips_are_chosen_by_subset_and_length(clips: list[Clip]) -> None:
    assert read_clips(data(clips)).ids == ["clip0", "clip1"]
    assert read_clips(data(clips, subsets=["crowd"])).ids == ["clip1"]
    assert read_clips(data(clips, max_duration=0.6)).ids == ["clip0"]
    assert clip_duration(clips[1]) == pytest.approx(1.0, abs=0.1)
    assert clip_duration(clips[1].model_copy(update={"start": 0.25, "end": 0.75})) == 0.5
    with pytest.raises(UserError, match=r"no clip to train on; .*; data\.max_duration leaves out 2 of 3"):
        read_clips(data(clips, max_duration=0.1))


def test_clips_that_a_key_leaves_out_are_named_with_it(clips: list[Clip], caplog: pytest.LogCaptureFixture) -> None:
    source = read_clips(data(clips, subsets=["face", "conflict", "crowd"], max_duration=0.6))
    assert source.ids == ["clip0"]
    assert [problem.message for problem in source.left_out] == [
        "clip 'clip2': left out by data.exclude_subsets: it is in conflict",
        "clip 'clip1': left out by data.max_duration: it lasts 1.00 s, more than 0.6",
    ]
    assert caplog.messages == [
        "data.exclude_subsets leaves out 1 of 3 clips: 'clip2'",
        "data.max_duration leaves out 1 of 3 clips: 'clip1'",
    ]
    (only,) = read_clips(data(clips, subsets=["crowd"], exclude_subsets=[])).left_out[:1]
    assert only.message == "clip 'clip0': left out by data.subsets: it is in face"


def test_bad_clips_of_every_kind_are_named_together_or_left_out(
    clips: list[Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = np.random.default_rng(0).normal(0, 0.2, (1, 8000)).astype(np.float32)
    good = np.zeros((8, 16, 16, 3), np.uint8)
    write_video(tmp_path / "good.mp4", good, 16, sound, 16_000)
    write_video(tmp_path / "deaf.mp4", good, 16)
    write_video(tmp_path / "mute.mp4", good, 16, 0 * sound, 16_000)
    (tmp_path / "text.mp4").write_text("#EXTM3U\ngood.mp4\n")
    for name in ("good", "deaf", "mute", "text", "lost"):
        (tmp_path / f"{name}.txt").write_text("A caption.")
    (tmp_path / "bare.mp4").write_bytes((tmp_path / "good.mp4").read_bytes())
    told = Data(manifest=str(tmp_path), size=(16, 16))
    with pytest.raises(UserError) as error:
        read_clips(told)
    for words in (
        "4 of 5 clips cannot be used", "clip 'bare' has no caption", "clip 'deaf': ", "no audio stream",
        "clip 'text': ", "it is text, and a playlist is not followed", "clip 'mute': its sound is silent",
        "data.on_bad_clip=skip",
    ):  # fmt: skip
        assert words in str(error.value)
    source = read_clips(told.model_copy(update={"on_bad_clip": "skip"}))
    assert source.ids == ["good", "mute"]  # what only decoding can tell is told when it is encoded
    assert [problem.id for problem in source.left_out] == ["bare", "deaf", "text"]
    assert sum("it is left out" in text for text in caplog.messages) == 3


def test_clips_that_cannot_train_are_refused_by_name(clips: list[Clip], tmp_path: Path) -> None:
    write_video(tmp_path / "deaf.mp4", np.zeros((8, 16, 16, 3), np.uint8), 16)
    (tmp_path / "deaf.txt").write_text("Deaf.")
    with pytest.raises(UserError, match=r"1 of 1 clips cannot be used: clip 'deaf': .*no audio stream"):
        read_clips(Data(manifest=str(tmp_path), size=(16, 16)))
    write_manifest(tmp_path / "again/manifest.jsonl", clips[:1])
    told = data(clips)
    both = told.model_copy(update={"manifest": [told.manifest, str(tmp_path / "again")]})
    with pytest.raises(UserError, match="clip id 'clip0' occurs twice among the manifests"):
        read_clips(both)


def test_a_source_of_clips_and_its_parts(clips: list[Clip]) -> None:
    config = TrainConfig(output="none", model={}, data=data(clips), train={"steps": 1})
    source = read_source(config, ["t2av"])
    assert source.shards is None and source.ids == ["clip0", "clip1"]
    assert source.subset(["crowd"]).ids == ["clip1"]
    with pytest.raises(UserError, match="no clip in animals"):
        source.subset(["animals"])


def test_a_bad_validation_manifest_is_refused_at_the_start(clips: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "video": "gone.mp4", "caption": ""}\n{"id": "b"}\n')
    config = TrainConfig(
        output="none",
        model={},
        data=data(clips),
        train={"steps": 1},
        validation={"every": 1, "manifest": str(tmp_path)},
    )
    with pytest.raises(UserError, match=r"2 of 2 clips cannot be used: .*gone\.mp4.*:2: clip 'b': caption"):
        read_source(config, ["t2av"])


def test_a_source_of_shards_and_its_parts(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    make_shards(tmp_path / "shards", 4)
    index = json.loads((tmp_path / "shards/index.json").read_text())
    index["shards"][0]["records"][1]["subsets"] = ["crowd"]
    (tmp_path / "shards/index.json").write_text(json.dumps(index))

    def source(**changes: object) -> Source:
        told = {"manifest": None, "shards": str(tmp_path / "shards")} | changes
        config = TrainConfig(output="none", model={}, data=told, train={"steps": 1})
        return read_source(config, ["t2av"])

    assert source().clips == [] and source().ids == [f"clip{i}" for i in range(4)]
    assert source().subset(["crowd"]).ids == ["clip1"]
    assert source(max_duration=0.9).ids == ["clip0", "clip2"]
    with pytest.raises(UserError, match=r"data\.fps 24\.0: .*shards was encoded with 16\.0; set that, or encode again"):
        source(fps=24)
    with pytest.raises(UserError, match=r"keep_fps true: .*shards was encoded without --keep-fps; set the other"):
        source(keep_fps=True)
    index["settings"]["keep_fps"] = True
    for number, record in enumerate(record for shard in index["shards"] for record in shard["records"]):
        record["fps"] = 16 if number < 3 else 32  # so the last is half as long
    (tmp_path / "shards/index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"keep_fps false: .*shards was encoded with --keep-fps; set the other"):
        source()
    assert source(keep_fps=True, fps=24).ids == [f"clip{i}" for i in range(4)]
    assert source(keep_fps=True, max_duration=0.9).ids == ["clip0", "clip2", "clip3"]
    shutil.rmtree(tmp_path / "shards")
    with pytest.raises(UserError, match=r"index\.json: no such file"):
        source()
