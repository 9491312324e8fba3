"""Shards that runs keep of their own clips: what is missing, changed or damaged is made, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from one_process import one_process

from shared.data import shard_writer
from shared.data.clip_texts import ClipTexts
from shared.data.shard_index import FORMAT
from shared.data.shard_writer import LOCK_NAME, NewRecord, fill_shards, read_shard, write_shard
from shared.data.shards import LatentShards
from shared.utils import files
from shared.utils.distributed import World
from shared.utils.errors import UserError
from shared.utils.rng import generator

KEYS = {f"clip{i}": f"key{i}" for i in range(5)}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(shard_writer, "SHARD_CLIPS", 2)
    return one_process(monkeypatch)


def tensors(name: str) -> dict[str, torch.Tensor]:
    return {"video": torch.randn(2, 3, 1, 1, generator=generator(0, name)), "audio": torch.ones(4, 1)}


class Maker:
    """Makes records whose latents follow from id and key alone, and counts them."""

    def __init__(self, keys: dict[str, str]) -> None:
        self.keys = keys
        self.made: list[str] = []

    def __call__(self, names: Sequence[str]) -> Iterator[NewRecord]:
        for name in names:
            self.made.append(name)
            facts = {
                "id": name,
                "key": self.keys[name],
                "frames": 9,
                "samples": 9,
                "has_video": True,
                "has_audio": True,
            }
            yield {"latents": tensors(name + self.keys[name])}, facts | {"video": [2, 3, 1, 1], "audio": [4, 1]}


def fill(folder: Path, keys: dict[str, str], world: World) -> tuple[LatentShards, list[str]]:
    maker = Maker(keys)
    return fill_shards(folder, keys, maker, world, "making"), maker.made


def test_records_come_back_in_the_order_of_the_clips_with_their_captions(tmp_path: Path, world: World) -> None:
    keys = dict(reversed(KEYS.items()))
    captions = {"clip3": ClipTexts("A bell.", "It rings.")}
    shards = fill_shards(tmp_path, keys, Maker(keys), world, "making", captions)
    assert list(shards.records) == list(keys) and shards.shapes()["clip0"] == (3, 4)
    clip = shards.get("clip3")
    assert torch.equal(clip.video, tensors("clip3key3")["video"]) and clip.keyframe_latents is None
    assert (clip.caption, clip.audio_caption, clip.frames) == ("A bell.", "It rings.", 9)
    assert shards.get("clip0").caption == "" and not shards.problems
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["00000.tar", "00001.tar", "00002.tar"]


def test_only_what_is_missing_is_made(tmp_path: Path, world: World) -> None:
    first = dict(list(KEYS.items())[:3])
    assert fill(tmp_path, first, world)[1] == ["clip0", "clip1", "clip2"]
    assert fill(tmp_path, first, world)[1] == []
    shards, made = fill(tmp_path, KEYS | {"clip1": "other"}, world)
    assert made == ["clip1", "clip3", "clip4"]
    assert torch.equal(shards.get("clip1").video, tensors("clip1other")["video"])
    assert fill(tmp_path, KEYS | {"clip1": "other"}, world)[1] == []  # the old clip1 is in a shard that is still used


def test_shards_of_no_use_are_deleted_and_leftovers_of_killed_runs(tmp_path: Path, world: World) -> None:
    fill(tmp_path, KEYS, world)
    (tmp_path / "00007.tar").write_bytes(b"killed before it was done")
    (tmp_path / ".00008.tar.99.9.part").mkdir()
    (tmp_path / ".00008.tar.99.9.part" / "00008.tar").write_bytes(b"half")
    files._swept.clear()  # the next is another process
    (tmp_path / "notes.txt").write_text("the user's")
    _, made = fill(tmp_path, {name: f"new {key}" for name, key in KEYS.items()}, world)
    assert made == list(KEYS)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tar") == [
        f"0000{i}.tar" for i in (8, 9)
    ] + ["00010.tar"]
    assert not list(tmp_path.glob(".*.part")) and (tmp_path / "notes.txt").is_file()


@pytest.mark.parametrize("damage", ["one byte", "cut", "gone", "json", "[" * 5000])
def test_a_damaged_record_is_made_again_and_no_other(tmp_path: Path, world: World, damage: str) -> None:
    shards, _ = fill(tmp_path, KEYS, world)
    path = shards.places["clip1"][0].path
    offset, size, _ = shards.records["clip1"].members["latents"]
    content = bytearray(path.read_bytes())
    if damage == "one byte":
        content[offset + size - 2] ^= 255
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[: offset + 5])
    else:
        path.with_suffix(".tar" if damage == "gone" else ".json").unlink()
    if "[" in damage:
        path.with_suffix(".json").write_text(damage)
    again, made = fill(tmp_path, KEYS, world)
    assert made == (["clip1"] if damage in ("one byte", "cut") else ["clip0", "clip1"])
    for name, key in KEYS.items():
        assert torch.equal(again.get(name).video, tensors(name + key)["video"])
    assert fill(tmp_path, KEYS, world)[1] == []


def test_what_is_damaged_while_a_run_reads_it_is_told_and_not_replaced(tmp_path: Path, world: World) -> None:
    shards, _ = fill(tmp_path, KEYS, world)
    offset, _, _ = shards.records["clip2"].members["latents"]
    with open(shards.places["clip2"][0].path, "r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xff\xff\xff\xff")
    with pytest.raises(UserError, match=r"clip 'clip2' has no readable latents .*; run the same command again"):
        shards.get("clip2")
    assert shards.get("clip3").id == "clip3" and len(shards) == 5


def test_a_run_reads_on_when_another_takes_the_shards_away(tmp_path: Path, world: World) -> None:
    shards, _ = fill(tmp_path, KEYS, world)
    fill(tmp_path, {name: "other" for name in KEYS}, world)
    assert all(torch.equal(shards.get(name).video, tensors(name + key)["video"]) for name, key in KEYS.items())


def test_a_failure_leaves_whole_shards_alone(tmp_path: Path, world: World) -> None:
    class Failing(Maker):
        def __call__(self, names: Sequence[str]) -> Iterator[NewRecord]:
            for record in super().__call__(names):
                if record[1]["id"] == "clip3":
                    raise UserError("clip 'clip3': its sound is silent")
                yield record

    with pytest.raises(UserError, match="clip 'clip3': its sound is silent"):
        fill_shards(tmp_path, KEYS, Failing(KEYS), world, "making")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.json", "00000.tar"]
    assert fill(tmp_path, KEYS, world)[1] == ["clip2", "clip3", "clip4"]


def test_the_second_of_two_runs_waits_and_says_for_whom(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    begun, let_go = threading.Event(), threading.Event()

    class Slow(Maker):
        def __call__(self, names: Sequence[str]) -> Iterator[NewRecord]:
            for record in super().__call__(names):
                begun.set()
                assert let_go.wait(20)
                yield record

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            let_go.set()  # the second has said that it waits

    first, second = Slow(KEYS), Slow(KEYS)
    listener = Listener()
    logging.getLogger(shard_writer.__name__).addHandler(listener)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(fill_shards, tmp_path, KEYS, first, world, "making")
        assert begun.wait(20)
        other = pool.submit(fill_shards, tmp_path, KEYS, second, world, "making")
        shards = one.result(), other.result()
    logging.getLogger(shard_writer.__name__).removeHandler(listener)
    assert (first.made, second.made) == (list(KEYS), [])
    assert (
        f"{tmp_path}: process {os.getpid()} on {socket.gethostname()} encodes clips into it; this run waits"
        in caplog.text
    )
    assert torch.equal(shards[0].get("clip0").video, shards[1].get("clip0").video)
    assert not (tmp_path / LOCK_NAME).exists()  # nobody has it


def test_ranks_make_their_parts(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks as threads, with barriers and a gather of threads."""
    meet, values = threading.Barrier(2), {}

    def gather(value: object) -> list[object]:
        values[threading.get_ident()] = value
        meet.wait(20)
        found = list(values.values())
        meet.wait(20)
        return found

    monkeypatch.setattr(shard_writer, "barrier", lambda: meet.wait(20))
    monkeypatch.setattr(shard_writer, "gather", gather)
    makers = [Maker(KEYS), Maker(KEYS)]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(fill_shards, tmp_path, KEYS, makers[rank], World(rank, 2, world.device), "making")
            for rank in (0, 1)
        ]
        shards = [run.result() for run in runs]
    assert [maker.made for maker in makers] == [["clip0", "clip2", "clip4"], ["clip1", "clip3"]]
    assert list(shards[0].records) == list(shards[1].records) == list(KEYS)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["00000.tar", "00001.tar", "00002.tar"]


def test_folders_that_cannot_be_are_refused(tmp_path: Path, world: World) -> None:
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds shards of scripts/encode\.py; name them as data.shards"):
        fill(tmp_path, KEYS, world)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be made \(.*\); give another folder"):
        fill(tmp_path / "file", KEYS, world)


def test_a_shard_of_another_format_counts_as_none(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", Maker(KEYS)(["clip0"]), said="more")
    found = read_shard(tmp_path / "00000.tar")
    assert found is not None and found[1]["said"] == "more" and found[0].records[0].id == "clip0"
    said = json.loads((tmp_path / "00000.json").read_text())
    assert said["format"] == FORMAT
    for content in (json.dumps(said | {"format": "latent-shards-1"}), "{", "[]", json.dumps({"format": FORMAT})):
        (tmp_path / "00000.json").write_text(content)
        assert read_shard(tmp_path / "00000.tar") is None
