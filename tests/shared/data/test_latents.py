"""Latents of a record; and shards in an object store: the same clips in the same order over a bad connection."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from flaky_store import Store, flaky_store
from object_server import serving
from shards import damage, middle, names, plan

from shared.data import shards as shards_module
from shared.data.latents import as_float, latents_of
from shared.data.shard_index import BrokenRecord, scan_shard
from shared.data.shard_loader import EpochLoader, ShardedText
from shared.data.shards import ShardedLatents
from shared.utils.errors import UserError
from shared.utils.object_store import ObjectPath

needs_http = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="fsspec reads http with aiohttp (the extra http)"
)


@pytest.fixture
def far(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The folder `made` as memory://data."""
    store = flaky_store(monkeypatch, tmp_path / "kept")
    for file in made.iterdir():
        store.files.pipe_file(f"/data/{file.name}", file.read_bytes())
    return store


def test_latents_that_are_not_what_the_index_says(made: Path) -> None:
    store = ShardedLatents(made)
    record, tensors = store.records["clip1"], store.member("clip1", "latents")
    assert as_float(b"\x02\0\0\0\0\0\0\0{}") == {}
    with pytest.raises(BrokenRecord, match="has no audio latents"):
        latents_of(record, {"video": tensors["video"]}, store.captions.get("clip1"))  # type: ignore[arg-type]


def test_clips_of_a_store_are_those_of_the_disk_in_the_same_order(
    made: Path, far: Store, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = ShardedLatents(made), ShardedLatents("memory://data")
    far.drops = 2
    left, right = EpochLoader(here, plan(here)), EpochLoader(there, plan(there))
    for clips, others in zip(left, right, strict=True):
        assert [clip.id for clip in clips] == [clip.id for clip in others]
        assert all(
            torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio) for a, b in zip(clips, others, strict=True)
        )
    assert caplog.text.count("connection lost (ConnectionResetError: peer went away); trying again") == 2
    asked = far.asked
    again = EpochLoader(ShardedLatents("memory://data"), plan(there))
    again.state = {"epoch": 0, "batch": 3}  # of a run that was stopped there
    assert names(again) == names(EpochLoader(here, plan(here)))[3:]
    assert far.asked == asked + 1  # the index; all else is on the disk
    text = ShardedText(there)
    assert torch.equal(text.encode([""]), ShardedText(here).encode([""]))


def test_a_run_stops_where_the_store_is_gone_and_leaves_no_clip_out(far: Store) -> None:
    store = ShardedLatents("memory://data")
    far.drops = 99
    with pytest.raises(UserError, match=r"memory://data/00000.tar: cannot be reached .* run the same command again"):
        store.get("clip1")
    with pytest.raises(UserError, match="cannot be reached"):
        scan_shard(ObjectPath("memory://data/00000.tar"))
    far.drops = 0
    assert store.get("clip1").id == "clip1" and not store.problems


def test_damage_in_a_store_costs_itself_alone(
    made: Path, shards: Path, far: Store, caplog: pytest.LogCaptureFixture
) -> None:
    damage(shards / "00000.tar", middle(ShardedLatents(made), "clip2"))
    far.files.put_file(str(shards / "00000.tar"), "/data/00000.tar")
    far.files.rm_file("/data/00002.tar")
    store = ShardedLatents("memory://data")
    assert store.get("clip2").id != "clip2" and store.get("clip3").id == "clip3" and store.get("clip12").id != "clip12"
    assert {problem.id for problem in store.problems} == {"clip2", *(f"clip{i}" for i in range(12, 18))}
    assert "memory://data/00002.tar is not as its index says: 0 of 6 records are read; of the others" in caplog.text


def test_what_is_read_ahead_is_there_when_it_is_asked_for(far: Store) -> None:
    store = ShardedLatents("memory://data")
    asked = far.asked
    for _ in range(2):
        store.read_ahead(["clip1", "clip2", "clip3"])
    assert [store.get(name).id for name in ("clip3", "clip1", "clip2")] == ["clip3", "clip1", "clip2"]
    assert far.asked == asked + 3
    store.read_ahead(["clip4"])
    store.verify = "shard"
    assert store.get("clip4").id == "clip4" and not store.problems


def test_a_missing_index_is_told(far: Store) -> None:
    with pytest.raises(UserError, match=r"memory://none/index.json: no such file; a folder that scripts/encode.py has"):
        ShardedLatents("memory://none")


@needs_http
def test_over_http_by_ranges(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flaky_store(monkeypatch, tmp_path / "kept")
    caplog.set_level(logging.WARNING, logger=shards_module.__name__)
    near = ShardedLatents(shards)
    with serving(shards) as server:
        far = ShardedLatents(server.url)
        server.drops = 1
        far.read_ahead(list(near.records)[:4])
        for name in near.records:
            assert torch.equal(far.get(name).video, near.get(name).video)
        sizes = [size for file, size in server.sent if file.endswith(".tar")]
        assert len(sizes) == len(near.records) and "connection lost (Client" in caplog.text
        assert max(sizes) < (shards / "00000.tar").stat().st_size / 3  # a record, of six
        server.ranges = False
        with pytest.raises(UserError, match="a server that answers range requests is needed"):
            (far.folders[0] / "00000.tar").read(0, 10, lambda data: True)  # type: ignore[union-attr]
