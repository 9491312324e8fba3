"""Records read by name from where they lie, as a run reads its own; and folders of shards, where damage costs only
itself."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import pytest
import safetensors.torch
import torch
from shards import NAMES, damage, middle, names, plan

from shared.data.shard_index import Shard, read_index, scan_shard
from shared.data.shard_loader import EpochLoader
from shared.data.shard_writer import write_shard
from shared.data.shards import LatentShards, ShardedLatents
from shared.utils.errors import UserError

PATCHED = {"key": "", "frames": 1, "samples": 1, "has_video": True, "has_audio": True, "caption": ""}


def opened(folder: Path) -> LatentShards:
    shards = [Shard.of(facts, folder) for facts in read_index(folder)["shards"]]
    places = {record.id: (shard, record) for shard in shards for record in shard.records}
    return LatentShards(places, {"clip7": ("A bell.", "It rings.")})


def test_a_record_comes_back_with_the_caption_that_is_given(made: Path) -> None:
    store, other = opened(made), ShardedLatents(made)
    clip, same = store.get("clip7"), other.get("clip7")
    assert (clip.caption, clip.audio_caption) == ("A bell.", "It rings.") and same.caption == "Clip 7."
    assert torch.equal(clip.video, same.video) and torch.equal(store.member("clip7", "latents")["audio"], same.audio)
    assert store.shapes() == other.shapes() and len(store) == 22 and store.where() == str(made)
    assert store.token_shapes(patch=5)["clip7"] == (5 * 3 * 4, 100, 5, 15, 20)
    again = pickle.loads(pickle.dumps(store))  # as a worker process has it
    assert torch.equal(again.get("clip7").video, clip.video)


def test_parts_of_a_store(made: Path) -> None:
    part = opened(made).only(["clip4", "clip3"])
    assert list(part.records) == ["clip4", "clip3"] and part.get("clip3").id == "clip3"
    with pytest.raises(UserError, match="1 of 2 clips, 'cat' first, are not in"):
        part.only(["clip3", "cat"])


def test_damage_is_found_and_never_another_clip_given(shards: Path) -> None:
    store = opened(shards)
    damage(shards / "00000.tar", middle(ShardedLatents(shards), "clip2"))
    assert [name for name in ("clip1", "clip2", "clip3") if store.is_damaged(name)] == ["clip2"]
    for read in (lambda: store.get("clip2"), lambda: store.member("clip2", "latents")):
        with pytest.raises(UserError, match="clip 'clip2' has no readable latents"):
            read()
    with pytest.raises(UserError, match="clip 'clip1' has no readable tracks"):
        store.member("clip1", "tracks")


def test_held_files_can_be_read_when_they_are_gone(shards: Path) -> None:
    store = opened(shards)
    store.hold()
    for path in shards.glob("*.tar"):
        path.unlink()
    assert not any(map(store.is_damaged, store.records))
    with pytest.raises(UserError, match="cannot be read"):
        opened(shards).get("clip1")


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
    gone = shards / "00003.tar"
    assert len(store) == 18
    assert [p.message for p in store.problems] == [f"{gone}: clip {p.id!r}: the shard is gone" for p in store.problems]
    assert len(store.problems) == 4


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
    assert store.get("bare").id == "whole" and str(store.problems[-1]).endswith("'bare': has no audio latents")
    assert len(store) == 23 and store.subset(["a"]).records.keys() == {"whole"}
    assert ShardedLatents(shards, needs_audio=False).get("mute").has_audio is False
    with pytest.raises(UserError, match=r"nothing can be read: 0 records; 25 left out, first .*clip0.*no tracks"):
        ShardedLatents(shards, tracks=True)


def test_parts_of_folders(made: Path) -> None:
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
