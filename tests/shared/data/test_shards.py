"""Records read by name from where they lie, as a run reads its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from shards import damage, middle

from shared.data.shard_index import Shard, read_index
from shared.data.sharded_latents import ShardedLatents
from shared.data.shards import LatentShards
from shared.utils.errors import UserError


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
    assert store.damaged(["clip1", "clip2", "clip3"]) == ["clip2"]
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
    assert store.damaged(list(store.records)) == []
    with pytest.raises(UserError, match="cannot be read"):
        opened(shards).get("clip1")
