"""The folder that encode.py fills: what it may hold, which shards are done, and what is told of every clip."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.data.manifest import Clip
from shared.data.shard_folder import ShardFolder
from shared.data.shard_writer import NewRecord
from shared.data.sharded_latents import ShardedLatents
from shared.utils.errors import UserError

CLIPS = [Clip(id=f"clip{i}", video=Path("a.mp4"), caption="A bell.") for i in range(5)]
SETTINGS = {"fps": 8.0, "shard_clips": 2}
MADE_BY = {"fingerprints": {"video_codec": "1"}, "text": {"dim": 2, "max_length": 4}, "sample_rate": 16_000}


class Maker:
    """Makes records of the clips that are not `broken`, and counts them."""

    def __init__(self, broken: dict[str, bool] | None = None) -> None:
        self.broken = broken or {}
        self.made: list[str] = []

    def __call__(self, clips: Sequence[Clip], failed: list[dict[str, Any]]) -> Iterator[NewRecord]:
        for clip in clips:
            self.made.append(clip.id)
            if clip.id in self.broken:
                failed.append({"id": clip.id, "reason": "no sound", "again": self.broken[clip.id]})
                continue
            facts = {"id": clip.id, "key": clip.id, "frames": 9, "samples": 9, "has_video": True, "has_audio": True}
            facts |= {"video": [2, 3, 1, 1], "audio": [4, 1], "caption": clip.caption, "audio_caption": ""}
            facts |= {"texts": {"video": [[0.0, "key"]]}, "tokens": {"key": 2}}
            latents = {"video": torch.ones(2, 3, 1, 1), "audio": torch.ones(4, 1)}
            yield {"latents": latents, "texts": {"key": torch.ones(2, 2)}}, facts


def fill(folder: ShardFolder, maker: Maker, process: int = 0, processes: int = 1, **made_by: Any) -> int:
    """The clips that were kept and not made."""
    ticks: list[int] = []
    folder.encode(
        process, processes, MADE_BY | made_by, torch.ones(1, 2), lambda clip: clip.caption, maker, ticks.append
    )
    return sum(ticks)


def test_processes_make_their_shards_and_the_last_one_the_index(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "out", CLIPS, SETTINGS)
    folder.prepare()
    first, second = Maker({"clip2": False}), Maker({"clip2": False})
    fill(folder, first, 0, 2)
    assert first.made == ["clip0", "clip1", "clip4"] and folder.finish() is None
    fill(folder, second, 1, 2)
    assert second.made == ["clip2", "clip3"]
    assert [failure["id"] for failure in folder.finish() or []] == ["clip2"]
    shards = ShardedLatents(tmp_path / "out")
    assert list(shards.records) == ["clip0", "clip1", "clip3", "clip4"] and shards.get("clip3").caption == "A bell."
    assert shards.settings == SETTINGS | {"sample_rate": 16_000} and shards.text == MADE_BY["text"]
    report = [json.loads(line) for line in (tmp_path / "out/report.jsonl").read_text().splitlines()]
    assert report[2] == {"id": "clip2", "status": "failed", "reason": "no sound"}
    assert report[3] == {
        "id": "clip3", "status": "ok", "shard": "00001.tar", "frames": 9, "samples": 9,
        "video": [2, 3, 1, 1], "audio": [4, 1], "text_tokens": {"video": [2]},
    }  # fmt: skip


def test_only_what_is_missing_changed_or_may_succeed_now_is_made(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, CLIPS, SETTINGS)
    fill(folder, Maker({"clip0": False, "clip2": True}))
    again = Maker()
    assert fill(folder, again) == 3 and again.made == ["clip2", "clip3"]  # clip0 fails for a reason that stays
    edited = [clip.model_copy(update={"caption": "A horn."}) if clip.id == "clip4" else clip for clip in CLIPS]
    changed = Maker()
    fill(ShardFolder(tmp_path, edited, SETTINGS), changed)
    assert changed.made == ["clip4"]
    with open(tmp_path / "00001.tar", "ab") as file:
        file.write(b"more")
    cut = Maker()
    fill(ShardFolder(tmp_path, edited, SETTINGS), cut)
    assert cut.made == ["clip2", "clip3"]
    with pytest.raises(UserError, match="holds shards made with another video_codec; give a new folder"):
        fill(folder, Maker(), fingerprints={"video_codec": "2"})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "out", CLIPS, SETTINGS)
    folder.prepare()
    folder.prepare()  # its own is not
    with pytest.raises(UserError, match=r'holds shards of other settings, {"fps": 8.0}; give a new folder'):
        ShardFolder(tmp_path / "out", CLIPS, SETTINGS | {"fps": 9.0}).prepare()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("")
    with pytest.raises(UserError, match="holds other files; give a new or empty folder"):
        ShardFolder(tmp_path / "notes", CLIPS, SETTINGS).prepare()
    with pytest.raises(UserError, match=r"a\.txt: is a file; give a folder"):
        ShardFolder(tmp_path / "notes/a.txt", CLIPS, SETTINGS).prepare()
    (tmp_path / "out/encode.json").write_text("{")
    with pytest.raises(UserError, match="cannot be used"):
        folder.prepare()


def test_shards_of_a_longer_manifest_are_cleared(tmp_path: Path) -> None:
    fill(ShardFolder(tmp_path, CLIPS, SETTINGS), Maker())
    ShardFolder(tmp_path, CLIPS, SETTINGS).finish()
    shorter = ShardFolder(tmp_path, CLIPS[:2], SETTINGS)
    shorter.clear()
    assert not (tmp_path / "index.json").exists() and [path.name for path in tmp_path.glob("*.tar")] == ["00000.tar"]
    assert shorter.finish() == [] and len(ShardedLatents(tmp_path)) == 2
