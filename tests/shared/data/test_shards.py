"""Latent shards: every sample once per epoch, over ranks, workers and stops; damage costs only itself."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import safetensors.torch
import torch

from shared.data.bucketing import BatchPlan
from shared.data.shard_benchmark import make_shards, run
from shared.data.shard_index import Shard, scan_shard
from shared.data.shard_loader import EpochLoader, epoch_batches
from shared.data.shard_writer import write_shard
from shared.data.sharded_latents import ShardedLatents
from shared.utils.errors import UserError

NAMES = {f"clip{i}" for i in range(22)}
PATCHED = {"key": "", "frames": 1, "samples": 1, "has_video": True, "has_audio": True, "caption": ""}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 records, 11 of each shape, in shards of 6."""
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, 22, per_shard=6)
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shards"))


def plan(store: ShardedLatents, ranks: int = 1, batch: int = 2) -> BatchPlan:
    return BatchPlan(store.shapes(), 7, batch, ranks, 1)


def names(batches: object) -> list[list[str]]:
    return [[clip.id for clip in batch] for batch in batches]  # type: ignore[attr-defined]


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 255
    path.write_bytes(content)


def middle(store: ShardedLatents, name: str) -> int:
    """An offset inside the latents of a record."""
    offset, size, _ = store.records[name].members["latents"]
    return offset + size // 2


def test_two_workers_and_two_ranks_read_every_sample_once_per_epoch(made: Path) -> None:
    loaders = [EpochLoader(ShardedLatents(made), plan(ShardedLatents(made), 2), rank, workers=2) for rank in (0, 1)]
    epochs = []
    for _ in range(2):
        read = [names(loader) for loader in loaders]
        assert Counter(name for batches in read for batch in batches for name in batch) == Counter(NAMES)
        assert abs(len(read[0]) - len(read[1])) <= 1
        epochs.append(read)
    assert epochs[0] != epochs[1]
    again = EpochLoader(ShardedLatents(made), plan(ShardedLatents(made), 2), 1)
    assert [names(again), names(again)] == [epochs[0][1], epochs[1][1]]  # as many workers as one likes


def test_batches_hold_one_shape_within_the_budget(made: Path) -> None:
    store = ShardedLatents(made)
    shapes = store.token_shapes()
    assert set(shapes.values()) == {(4 * 300, 80, 4, 15, 20), (5 * 300, 100, 5, 15, 20)}
    budget = BatchPlan(shapes, 0, 8, 1, 1, token_budget=5000, tokens_per_frame=1)  # type: ignore[arg-type]
    for batch in epoch_batches(budget, 0, 0):
        assert len({shapes[name] for name in batch}) == 1
        assert sum(shapes[name][0] + shapes[name][1] for name in batch) <= 5000
    assert max(len(batch) for batch in epoch_batches(budget, 0, 0)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_to_the_sample(made: Path, workers: int) -> None:
    store = ShardedLatents(made)
    whole = EpochLoader(store, plan(store))
    expected = names(whole) + names(whole)
    first = EpochLoader(store, plan(store), workers=workers)
    begun = iter(first)
    got = [[clip.id for clip in next(begun)] for _ in range(5)]
    second = EpochLoader(ShardedLatents(made), plan(store), workers=workers)
    second.state = json.loads(json.dumps(first.state))
    assert first.state == {"epoch": 0, "batch": 5}
    assert got + names(second) + names(second) == expected and second.state == {"epoch": 2, "batch": 0}


def test_a_record_comes_back_as_it_was_written(made: Path) -> None:
    store = ShardedLatents(made)
    assert len(store) == 22 and not store.problems
    (loaded,) = (clip for batch in EpochLoader(store, plan(store), workers=1) for clip in batch if clip.id == "clip7")
    clip = store.get("clip7")
    for part in ("video", "audio"):
        assert torch.equal(getattr(clip, part), getattr(loaded, part)) and getattr(clip, part).dtype == torch.float32
    record = store.records["clip7"]
    offset, size, _ = record.members["latents"]
    raw = safetensors.torch.load((made / "00001.tar").read_bytes()[offset : offset + size])
    assert torch.equal(raw["video"].float(), clip.video) and torch.equal(
        store.member("clip7", "latents")["audio"], clip.audio
    )
    assert (clip.caption, clip.audio_caption, clip.frames) == ("Clip 7.", "Noise.", 17)
    assert [record.id for record in scan_shard(made / "00001.tar")] == [f"clip{i}" for i in range(6, 12)]


def test_a_truncated_shard_loses_only_its_tail(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, cut = shards / "00001.tar", middle(ShardedLatents(shards), "clip9")
    path.write_bytes(path.read_bytes()[:cut])
    store = ShardedLatents(shards)
    lost = {"clip9", "clip10", "clip11"}
    assert set(store.shapes()) == NAMES - lost and {problem.id for problem in store.problems} == lost
    assert "19 records; 3 left out, first" in store.summary() and "cut off" in store.summary()
    assert "3 of 6 records are read" in caplog.text
    loader = EpochLoader(store, plan(store), workers=2)
    assert Counter(name for batch in names(loader) for name in batch) == Counter(NAMES - lost)


def test_a_lost_shard_loses_only_itself(shards: Path) -> None:
    (shards / "00003.tar").unlink()
    store = ShardedLatents(shards)
    assert len(store) == 18 and [problem.reason for problem in store.problems] == ["the shard is gone"] * 4


def test_records_are_found_where_the_index_does_not_say(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of equal length but in another order: nothing is lost but what really is another's."""
    before = {name: ShardedLatents(shards).get(name).video for name in NAMES}
    index = json.loads((shards / "index.json").read_text())
    records = index["shards"][2]["records"]
    members = [record["members"] for record in records]
    for record, other in zip(records, reversed(members), strict=True):
        spans = zip(record["members"].values(), other.values(), strict=True)
        record["members"] = {e: [there[0], *own[1:]] for e, (own, there) in zip(other, spans, strict=True)}
    records[1]["id"] = "stranger"
    (shards / "index.json").write_text(json.dumps(index))
    store = ShardedLatents(shards)
    assert len(store) == 22
    for name in NAMES - {"clip13"}:
        found = store.read(name)
        assert found is not None and torch.equal(found.video, before[name])
    assert store.read("stranger") is None and "not in the shard" in store.summary()
    assert "00002.tar is not as its index says: 5 of 6 records are read" in caplog.text


@pytest.mark.parametrize("verify", ["record", "shard"])
def test_a_damaged_record_is_replaced_reported_and_counted(shards: Path, verify: str) -> None:
    damage(shards / "00000.tar", middle(ShardedLatents(shards), "clip2"))
    store = ShardedLatents(shards, verify=verify)  # type: ignore[arg-type]
    assert len(store) == 22
    instead = store.get("clip2")
    assert instead.id == "clip20"  # the next of its shape in the order of names
    assert [problem.id for problem in store.problems] == ["clip2"] and "checksum" in store.summary()
    assert store.get("clip2").id == "clip20" and len(store) == 21
    assert all(store.get(name).id == name for name in NAMES - {"clip2"})
    assert ShardedLatents(shards, verify="none").get("clip2").id == "clip2"


def test_what_worker_processes_find_is_counted(shards: Path) -> None:
    damage(shards / "00000.tar", middle(ShardedLatents(shards), "clip2"))
    store = ShardedLatents(shards)
    loader = EpochLoader(store, plan(store), workers=2)
    assert Counter(name for batch in names(loader) for name in batch) == Counter(NAMES - {"clip2"})
    assert [problem.id for problem in store.problems] == ["clip2"] and len(store) == 21


def test_records_without_what_is_needed(shards: Path) -> None:
    about = {**PATCHED, "audio_caption": "", "subsets": ["a"], "video": [1, 2, 1, 1], "audio": [3, 1]}
    both = {"latents": {"video": torch.zeros(1, 2, 1, 1), "audio": torch.zeros(3, 1)}, "texts": {}}
    records = [
        (both, {**about, "id": "mute", "has_audio": False}),
        ({**both, "latents": {"video": both["latents"]["video"]}}, {**about, "id": "bare"}),
        (both, {**about, "id": "whole"}),
    ]
    index = json.loads((shards / "index.json").read_text())
    index["shards"].append(write_shard(shards / "00004.tar", iter(records)).facts())
    (shards / "index.json").write_text(json.dumps(index))
    store = ShardedLatents(shards)
    assert len(store) == 24 and "clip 'mute': has no audio, needed here" in store.summary()
    assert store.get("bare").id == "whole" and store.problems[-1].reason == "has no audio latents"
    assert len(store) == 23 and store.subset(["a"]).records.keys() == {"whole"}
    assert ShardedLatents(shards, needs_audio=False).get("mute").has_audio is False
    with pytest.raises(UserError, match=r"nothing can be read: 0 records; 25 left out, first .*clip0.*no tracks"):
        ShardedLatents(shards, tracks=True)


def test_parts_of_a_store(made: Path) -> None:
    store = ShardedLatents(made)
    part = store.only(["clip3", "clip4"])
    assert len(part) == 2 and len(store) == 22 and part.get("clip3").id == "clip3"
    with pytest.raises(UserError, match="1 of 2 clips, 'cat' first, are not in"):
        store.only(["clip3", "cat"])


def test_folders_are_read_together_if_they_fit(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="clip id 'clip0' occurs twice"):
        ShardedLatents([made, made])
    other = Path(shutil.copytree(made, tmp_path / "other"))
    index = json.loads((other / "index.json").read_text())
    for shard in index["shards"]:
        for record in shard["records"]:
            record["id"] = "b" + record["id"]
    (other / "index.json").write_text(json.dumps(index))
    assert len(ShardedLatents([made, other])) == 44
    index["settings"]["fps"] = 24.0
    (other / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"its fps is 24\.0, that of .* 16\.0; they must agree"):
        ShardedLatents([made, other])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), ("{", "is damaged"), ('{"format": "x"}', "has the format 'x'"), ("[]", "is damaged")],
)
def test_an_index_that_is_none(shards: Path, content: str | None, reason: str) -> None:
    (shards / "index.json").unlink()
    if content is not None:
        (shards / "index.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        ShardedLatents(shards)


def test_the_same_records_make_the_same_file(made: Path, tmp_path: Path) -> None:
    make_shards(tmp_path, 6, per_shard=6)
    assert Shard.scanned(tmp_path / "00000.tar").sha256 == Shard.scanned(made / "00000.tar").sha256


def test_the_benchmark_reads_all(tmp_path: Path) -> None:
    found = run(records=40, workers=1, folder=tmp_path)
    assert found["record_bytes"] <= 65_536 and not list(tmp_path.iterdir())
    rates = [found[f"random_access_verify_{verify}"]["slowest_worker"] for verify in ("record", "none")]
    assert min(*rates, found["data_loader"]["all"], found["webdataset_stream"]["all"]) > 0
