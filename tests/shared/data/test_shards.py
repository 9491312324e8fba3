"""Records read by name from where they lie, as a run reads its own; and folders of shards, where damage costs only
itself."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file
from shards import NAMES, damage, middle, names, plan

from shared.data.clip_texts import ClipTexts
from shared.data.shard_index import Shard, read_index, scan_shard
from shared.data.shard_loader import EpochLoader, ShardedText
from shared.data.shard_writer import write_shard
from shared.data.shards import LatentShards, ShardedLatents
from shared.utils.errors import UserError

PATCHED = {"key": "", "frames": 1, "samples": 1, "has_video": True, "has_audio": True, "caption": ""}


def opened(folder: Path) -> LatentShards:
    shards = [Shard.of(facts, folder) for facts in read_index(folder)["shards"]]
    places = {record.id: (shard, record) for shard in shards for record in shard.records}
    return LatentShards(places, {"clip7": ClipTexts("A bell.", "It rings.")})


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
    assert ShardedLatents([made, other]).words is None  # a folder from before they were told
    index["words"] = ["clip", 3]
    (other / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"is damaged \(words is \['clip', 3\]\)"):
        ShardedLatents([made, other])
    index["words"] = ["horn"]
    index["settings"]["fps"] = 24.0
    (other / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"its fps is 24\.0, that of .* 16\.0; they must agree"):
        ShardedLatents([made, other])


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """An index whose second shard is described as `change` has it."""
    index = json.loads((folder / "index.json").read_text())
    change(index["shards"][1])
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda shard: shard.update(records=5),
        lambda shard: shard.pop("records"),
        lambda shard: shard.update(bytes="many"),
        lambda shard: shard.update(name=["00001.tar"]),
        lambda shard: shard["records"][2].update(frames="17"),
        lambda shard: shard["records"][2].update(id=5),
        lambda shard: shard["records"][2].update(has_video="yes"),
        lambda shard: shard["records"][2].update(video=[1, 2, 3]),
        lambda shard: shard["records"][2].update(audio=[-1, 5]),
        lambda shard: shard["records"][2].update(texts={"video": [["x", 5]]}),
        lambda shard: shard["records"][2]["members"].update(latents=[0, 10**15, 1]),
        lambda shard: shard["records"][2]["members"].update(latents=[-5, 5, 1]),
        lambda shard: shard["records"][2]["members"].update(latents=[0.5, 5, 1]),
        lambda shard: shard["records"][2]["members"].update(latents="x"),
    ],
)
def test_a_shard_that_its_index_does_not_describe_is_left_out_and_told(
    shards: Path, caplog: pytest.LogCaptureFixture, change: Callable[[dict[str, Any]], Any]
) -> None:
    store = ShardedLatents(rewritten(shards, change))
    assert set(store.records) == NAMES - {f"clip{i}" for i in range(6, 12)} and len(store.problems) == 1
    assert caplog.text.count("is not described right") == 1 and "are left out" in caplog.text
    assert all(store.get(name).id == name for name in store.records)


def test_the_index_of_many_clips_is_read(shards: Path) -> None:
    """More than a million values, which no other JSON may hold."""
    file = shards / "index.json"
    index = json.loads(file.read_text())
    file.write_text(json.dumps(index | {"failed": [{"id": "a", "reason": "b"}] * 200_001}))
    assert set(ShardedLatents(shards).records) == NAMES


def one_record(tmp_path: Path, **more: Any) -> ShardedLatents:
    facts = PATCHED | {"id": "a", "video": [1, 1, 1, 1], "audio": [1, 1], "audio_caption": ""} | more
    latents = {"video": torch.zeros(1, 1, 1, 1), "audio": torch.zeros(1, 1)}
    shard = write_shard(tmp_path / "00000.tar", [({"latents": latents, "texts": {}}, facts)])
    index = {"format": "latent-shards-2", "settings": {}, "fingerprints": {}, "text": {"dim": 1, "max_length": 1}}
    (tmp_path / "index.json").write_text(json.dumps(index | {"failed": [], "shards": [shard.facts()]}))
    return ShardedLatents(tmp_path)


def test_texts_over_time_come_back(tmp_path: Path) -> None:
    clip = one_record(tmp_path, prompts=[[0, "A bell."], [1, "A drum."]]).get("a")
    assert clip.prompts == [(0.0, "A bell."), (1.0, "A drum.")] and not clip.audio_prompts


@pytest.mark.parametrize(
    "wrong",
    [
        {"audio_caption": "half of a character \ud83d"}, {"audio_caption": 5}, {"audio_caption": None},
        {"prompts": [[1, "late"]]}, {"audio_prompts": 5}, {"prompts": [[0, None]]},
    ],
)  # fmt: skip
def test_a_record_whose_caption_is_no_text_is_left_out(tmp_path: Path, wrong: dict[str, Any]) -> None:
    store = one_record(tmp_path, **wrong)
    assert store.read("a") is None and "is left out" not in store.problems[0].message


def test_nothing_is_left_to_read(shards: Path) -> None:
    index = json.loads((shards / "index.json").read_text())
    (shards / "index.json").write_text(json.dumps(index | {"shards": [5, {}, "x"]}))
    with pytest.raises(
        UserError, match=r"nothing can be read: 0 records; 3 left out, first .*shard 0 is not described"
    ):
        ShardedLatents(shards)


def hostile(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "member",
    [
        hostile("x.json", tarfile.SYMTYPE),
        hostile("x.json", tarfile.LNKTYPE),
        hostile("x.json", tarfile.CHRTYPE),
        hostile("x.json", tarfile.FIFOTYPE),
        hostile("x.json", tarfile.DIRTYPE),
        hostile("../x.json", tarfile.REGTYPE),
        hostile("/etc/x.json", tarfile.REGTYPE),
    ],
)
def test_a_tar_with_what_encoding_never_writes_is_left_out(
    shards: Path, caplog: pytest.LogCaptureFixture, member: tarfile.TarInfo
) -> None:
    with tarfile.open(shards / "00001.tar", "a") as tar:
        tar.addfile(member)
    with open(shards / "00001.tar", "ab") as file:
        file.write(b"\0" * 10240)  # of another size than the index says
    assert scan_shard(shards / "00001.tar") == []
    store = ShardedLatents(shards)
    assert set(store.records) == NAMES - {f"clip{i}" for i in range(6, 12)}
    assert caplog.text.count("00001.tar") == 2, "one line, which quotes the first clip"
    assert "0 of 6 records are read" in caplog.text


def test_a_sparse_file_in_a_tar_takes_no_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("x.json")
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**13)}
        member.size = 512
        tar.addfile(member, io.BytesIO(b"0\n" + b"\0" * 510))
    assert scan_shard(tmp_path / "a.tar") == []


@pytest.mark.parametrize(
    ("latents", "said"),
    [
        ({"video": torch.zeros(1, 2, 1, 1), "audio": torch.zeros(3, 1), "evil": torch.zeros(1)}, "unknown name, evil"),
        ({"video": torch.zeros(1, 2, 1, 1), "audio": torch.zeros(4, 1)}, r"audio latents of shape \[4, 1\]"),
        (
            {"video": torch.zeros(1, 2, 1, 1), "audio": torch.zeros(3, 1), "keyframe_latents": torch.zeros(1)},
            r"keyframe latents of shape \[1\]",
        ),
        (
            {"video": torch.zeros(1, 2, 1, 1), "audio": torch.zeros(3, 1), "speech": torch.zeros(2, 1)},
            r"speech latents of shape \[2, 1\], not \[3, 1\]",
        ),
        (
            {"video": torch.zeros(1, 2, 1, 1), "audio": torch.zeros(3, 1), "effects": torch.zeros(3, 1)},
            "unknown name, effects",
        ),
    ],
)
def test_a_record_of_other_latents_is_left_out(shards: Path, latents: dict[str, torch.Tensor], said: str) -> None:
    about = {**PATCHED, "audio_caption": "", "subsets": [], "video": [1, 2, 1, 1], "audio": [3, 1], "id": "odd"}
    about |= {"parts": ["speech"]} if "speech" in latents else {}
    index = json.loads((shards / "index.json").read_text())
    index["shards"].append(
        write_shard(shards / "00004.tar", iter([({"latents": latents, "texts": {}}, about)])).facts()
    )
    (shards / "index.json").write_text(json.dumps(index))
    store = ShardedLatents(shards)
    assert store.read("odd") is None and re.search(said, str(store.problems[-1]))


def test_texts_need_the_embedding_of_the_empty_one(shards: Path) -> None:
    file = shards / "empty_text.safetensors"
    store = ShardedLatents(shards)
    ShardedText(store)
    for change in (file.unlink, lambda: file.write_bytes(b"x"), lambda: save_file({"text": torch.zeros(3)}, file)):
        change()
        with pytest.raises(UserError, match=r"empty_text\.safetensors: .*run scripts/encode\.py again"):
            ShardedText(store)


def test_records_that_kept_their_frame_rates_are_of_their_own_buckets(shards: Path) -> None:
    index = json.loads((shards / "index.json").read_text())
    rates = {}
    for shard in index["shards"]:
        for record in shard["records"]:
            rates[record["id"]] = record["fps"] = 24 if int(record["id"][4:]) % 4 < 2 else 16
    (shards / "index.json").write_text(json.dumps(index))
    store = ShardedLatents(shards)
    assert {name: record.fps for name, record in store.records.items()} == rates
    assert len(set(store.token_shapes().values())) == 4 and store.token_shapes()["clip7"][-1] == 16
    damage(shards / "00000.tar", middle(store, "clip2"))
    clip = store.get("clip2")  # the next of its shape has another rate, and is passed by
    assert clip.fps == rates["clip2"] == rates[clip.id] and clip.id != "clip2"
    for bad in (0, -1, 16.5, True, "16"):
        index["shards"][0]["records"][0]["fps"] = bad
        (shards / "index.json").write_text(json.dumps(index))
        assert "00000.tar is not described right" in ShardedLatents(shards).summary()
