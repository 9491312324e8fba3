"""Indices of shards: read if they are whole, and refused in one line if not; records found without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.data.shard_index import BrokenRecord, Shard, common_settings, read_index, read_members, scan_shard, text_key
from shared.data.shards import ShardedLatents
from shared.utils.errors import UserError


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), ("{", "is damaged"), ('{"format": "x"}', "has the format 'x'"), ("[]", "JSON object")],
)
def test_an_index_that_is_none(shards: Path, content: str | None, reason: str) -> None:
    (shards / "index.json").unlink()
    if content is not None:
        (shards / "index.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        ShardedLatents(shards)


def test_the_first_format_is_refused_in_one_line(shards: Path) -> None:
    index = json.loads((shards / "index.json").read_text()) | {"format": "latent-shards-1"}
    (shards / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="has the format 'latent-shards-1'; 'latent-shards-2', of"):
        read_index(shards)


def test_a_scan_finds_what_the_index_says(made: Path) -> None:
    facts = read_index(made)["shards"][1]
    shard = Shard.of(facts, made)
    assert scan_shard(shard.path) == shard.records and Shard.scanned(shard.path) == shard
    assert json.loads(json.dumps(shard.facts())) == facts and shard.is_whole
    assert shard.records[0].texts["video"] == ((0.0, "6"),) and shard.records[0].tokens == {"6": 10}
    assert scan_shard(made / "index.json") == []


def test_members_are_compared_with_their_checksums(shards: Path) -> None:
    path = shards / "00000.tar"
    record = scan_shard(path)[0]
    with open(path, "r+b") as file:
        whole = read_members(file.fileno(), record, ("json", "latents"))
        assert json.loads(whole["json"])["id"] == record.id and len(whole["latents"]) == record.members["latents"][1]
        file.seek(record.members["json"][0])
        file.write(b"?")
        file.flush()
        with pytest.raises(BrokenRecord, match="its json are not what the index says"):
            read_members(file.fileno(), record, ("json",))
        assert read_members(file.fileno(), record, ("json",), verify=False)["json"][:1] == b"?"
        with pytest.raises(BrokenRecord, match="has no tracks"):
            read_members(file.fileno(), record, ("tracks",))


def test_what_may_differ_between_folders(made: Path) -> None:
    index = read_index(made)
    own = index | {"settings": index["settings"] | {"latents_dtype": "float32", "sizes": [[32, 32]]}}
    assert common_settings([made, made], [index, own])[0] == index["settings"]
    other = index | {"text": {"dim": 4, "max_length": 64}}
    with pytest.raises(UserError, match=r"its dim is 4, that of .* 128; they must agree"):
        common_settings([made, made], [index, other])


def test_texts_have_names_whatever_they_hold() -> None:
    assert len({text_key(text) for text in ("", "a", "a ", "half a pair \ud83d")}) == 4
    assert len(text_key("a")) == 32
