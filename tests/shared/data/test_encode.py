"""Encoding: the size that suits a clip, what is embedded of it, clips that fail, which shards are done, and the report.

See also tests/scripts/test_encode.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flaky_store import flaky_store

from shared.checkpoint.registry import find_component
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.data.clip_texts import video_text
from shared.data.encode import ClipEncoder, EncodeJob, ShardFolder, encode
from shared.data.manifest import Clip
from shared.data.media import write_video
from shared.data.shard_index import text_key
from shared.data.shard_loader import ShardedText
from shared.data.shard_writer import NewRecord
from shared.data.shards import ShardedLatents
from shared.encoders import HashedWords
from shared.nn.clock import LatentClock
from shared.nn.timed_text import TimedText, text_over_time
from shared.utils.errors import UserError
from shared.utils.object_store import ObjectPath

SETTINGS: dict[str, Any] = {
    "fps": 8.0, "duration": None, "sizes": [[16, 48], [32, 32], [48, 16]], "needs": "both", "keyframe_latents": False,
    "tracks": None, "text_dtype": "fp32", "latents_dtype": "float16", "low_memory": False, "shard_clips": 2,
}  # fmt: skip


def features(clip: Clip, frames: int, fps: float, encoders: Any) -> dict[str, torch.Tensor]:
    assert set(encoders) == {"speech", "effects", "music"} and fps == 8.0
    return {"music": torch.full((frames, 2), 0.1)}


def parts(clip: Clip, frames: int, fps: float, rate: int) -> dict[str, torch.Tensor]:
    """The second clip has none."""
    sound = torch.full((1, round(frames / fps * rate)), 0.25)
    return {} if clip.id == "clip1" else {"effects": sound}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("components")
    LinearVideoCodec(latent_channels=4).save_pretrained(folder / "video_codec")
    LinearAudioCodec(latent_channels=4, iterations=1).save_pretrained(folder / "audio_codec")
    HashedWords(dim=16).save_pretrained(folder / "text_encoder")
    return {name: find_component(name, folder) for name in ("video_codec", "audio_codec", "text_encoder")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Upright, wide, square; the last is silent."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    made = []
    for i, (height, width, level) in enumerate(((64, 32, 0.2), (32, 80, 0.2), (48, 48, 0.2), (48, 48, 0.0))):
        sound = rng.normal(0, level, (1, 16_000)).astype(np.float32)
        write_video(folder / f"{i}.mp4", rng.integers(0, 255, (8, height, width, 3), np.uint8), 8, sound, 16_000)
        made.append(Clip(id=f"clip{i}", video=folder / f"{i}.mp4", caption="A bell.", audio_caption="Ding."))
    return made


def job(output: Path, clips: list[Clip], sources: dict[str, Any], **settings: Any) -> EncodeJob:
    how = features, lambda text: text.upper(), parts
    return EncodeJob(output, clips, sources, SETTINGS | settings, *how, device="cpu")


def test_each_clip_takes_the_size_of_the_nearest_shape_and_a_bad_one_costs_itself(
    clips: list[Clip], sources: dict[str, Any], tmp_path: Path
) -> None:
    failed = encode(job(tmp_path / "out", clips, sources))
    assert failed is not None and [failure["id"] for failure in failed] == ["clip3"]
    assert failed[0]["reason"].startswith("its sound is silent") and not failed[0]["again"]
    records = ShardedLatents(tmp_path / "out").records
    assert {name: record.video[2:] for name, record in records.items()} == {
        "clip0": (6, 2), "clip1": (2, 6), "clip2": (4, 4),
    }  # fmt: skip


def test_texts_and_tracks_of_a_record(clips: list[Clip], sources: dict[str, Any], tmp_path: Path) -> None:
    log_mel = dict.fromkeys(("speech", "effects", "music"), "log-mel")
    assert encode(job(tmp_path / "out", clips[2:3], sources, tracks=log_mel, latents_dtype="float32")) == []
    shards = ShardedLatents(tmp_path / "out", tracks=True)
    texts = shards.member("clip2", "texts")
    assert set(texts) == {text_key(text) for text in ("A bell.", "Ding.", "A BELL.")}
    words = HashedWords(dim=16).encode(["Ding."])[0]
    assert torch.equal(texts[text_key("Ding.")], words[: shards.records["clip2"].tokens[text_key("Ding.")]])
    assert torch.equal(shards.member("clip2", "tracks")["music"], torch.full((8, 2), 0.1))  # not rounded
    assert set(shards.fingerprints) == {"video_codec", "audio_codec", "text_encoder", "speech", "effects", "music"}


def test_texts_over_time_of_a_record(clips: list[Clip], sources: dict[str, Any], tmp_path: Path) -> None:
    timed = [(0.0, "A bell."), (0.5, "A drum.")]
    clip = clips[2].model_copy(update={"prompts": timed, "audio_prompts": [(0.0, "Ding."), (0.25, "A bell.")]})
    log_mel = dict.fromkeys(("speech", "effects", "music"), "log-mel")
    assert encode(job(tmp_path / "out", [clip], sources, tracks=log_mel)) == []
    shards = ShardedLatents(tmp_path / "out", tracks=True)
    record, latents = shards.records["clip2"], shards.get("clip2")
    embedded = ("A bell.", "A drum.", "Ding.", "A BELL.", "A DRUM.")
    assert set(shards.member("clip2", "texts")) == set(record.tokens) == {text_key(text) for text in embedded}
    assert record.texts["video"] == ((0.0, text_key("A bell.")), (0.5, text_key("A drum.")))
    assert record.texts["audio"] == ((0.0, text_key("Ding.")), (0.25, text_key("A bell.")))
    assert list(latents.prompts) == timed and latents.caption == "A bell."
    assert shards.words == ["a", "bell", "ding", "drum"]
    text = text_over_time([video_text(latents)], LatentClock.at_rate(4, 4.0), ShardedText(shards).encode)
    assert isinstance(text, TimedText) and torch.equal(text.texts, HashedWords(dim=16).encode(["A bell.", "A drum."]))
    encoder = ClipEncoder(job(tmp_path, [clip], sources), torch.device("cpu"))
    later = clip.model_copy(update={"prompts": [(0.0, "A bell."), (0.75, "A drum.")]})
    assert len({encoder.key(one) for one in (clip, later, clips[2])}) == 3


def test_sizes_must_suit_the_codec_and_keys_say_what_decides(
    clips: list[Clip], sources: dict[str, Any], tmp_path: Path
) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match="--size 30 32: both sides must be multiples of the codec's 8 pixels"):
        ClipEncoder(job(tmp_path, clips, sources, sizes=[[30, 32]]), cpu)
    encoder, other = (ClipEncoder(job(tmp_path, clips, sources, duration=d), cpu) for d in (None, 0.5))
    edited = clips[0].model_copy(update={"caption": "A horn."})
    assert len({encoder.key(clips[0]), encoder.key(edited), encoder.key(clips[1]), other.key(clips[0])}) == 4


CLIPS = [Clip(id=f"clip{i}", video=Path("a.mp4"), caption="A bell.") for i in range(5)]
FOLDER_SETTINGS = {"fps": 8.0, "shard_clips": 2}
MADE_BY = {"fingerprints": {"video_codec": "1"}, "text": {"dim": 2, "max_length": 4}, "sample_rate": 16_000}


class Maker:
    """Makes records of the clips that are not `broken`, and counts them."""

    def __init__(self, broken: dict[str, bool] | None = None, codec: str = "1") -> None:
        self.broken, self.codec = broken or {}, codec
        self.made: list[str] = []

    def made_by(self) -> dict[str, Any]:
        return MADE_BY | {"fingerprints": {"video_codec": self.codec}}

    def embed(self, text: str) -> torch.Tensor:
        assert text == ""
        return torch.ones(1, 2)

    def key(self, clip: Clip) -> str:
        return clip.caption

    def records(self, clips: Sequence[Clip], failed: list[dict[str, Any]], tick: Any) -> Iterator[NewRecord]:
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


def fill(folder: ShardFolder, maker: Maker, process: int = 0, processes: int = 1) -> int:
    """The clips that were kept and not made."""
    ticks: list[int] = []
    folder.encode(process, processes, maker, ticks.append)  # type: ignore[arg-type]
    return sum(ticks)


def test_processes_make_their_shards_and_the_last_one_the_index(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "out", CLIPS, FOLDER_SETTINGS)
    folder.prepare()
    first, second = Maker({"clip2": False}), Maker({"clip2": False})
    fill(folder, first, 0, 2)
    assert first.made == ["clip0", "clip1", "clip4"] and folder.finish() is None
    fill(folder, second, 1, 2)
    assert second.made == ["clip2", "clip3"]
    assert [failure["id"] for failure in folder.finish() or []] == ["clip2"]
    shards = ShardedLatents(tmp_path / "out")
    assert list(shards.records) == ["clip0", "clip1", "clip3", "clip4"] and shards.get("clip3").caption == "A bell."
    assert shards.settings == FOLDER_SETTINGS | {"sample_rate": 16_000} and shards.text == MADE_BY["text"]
    report = [json.loads(line) for line in (tmp_path / "out/report.jsonl").read_text().splitlines()]
    assert report[2] == {"id": "clip2", "status": "failed", "reason": "no sound"}
    assert report[3] == {
        "id": "clip3", "status": "ok", "shard": "00001.tar", "frames": 9, "samples": 9,
        "video": [2, 3, 1, 1], "audio": [4, 1], "text_tokens": {"video": [2]},
    }  # fmt: skip


def test_only_what_is_missing_changed_or_may_succeed_now_is_made(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, CLIPS, FOLDER_SETTINGS)
    fill(folder, Maker({"clip0": False, "clip2": True}))
    again = Maker()
    assert fill(folder, again) == 3 and again.made == ["clip2", "clip3"]  # clip0 fails for a reason that stays
    edited = [clip.model_copy(update={"caption": "A horn."}) if clip.id == "clip4" else clip for clip in CLIPS]
    changed = Maker()
    fill(ShardFolder(tmp_path, edited, FOLDER_SETTINGS), changed)
    assert changed.made == ["clip4"]
    with open(tmp_path / "00001.tar", "ab") as file:
        file.write(b"more")
    cut = Maker()
    fill(ShardFolder(tmp_path, edited, FOLDER_SETTINGS), cut)
    assert cut.made == ["clip2", "clip3"]
    with pytest.raises(UserError, match="holds shards made with another video_codec; give a new folder"):
        fill(folder, Maker(codec="2"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "out", CLIPS, FOLDER_SETTINGS)
    folder.prepare()
    folder.prepare()  # its own is not
    with pytest.raises(UserError, match=r'holds shards of other settings, {"fps": 8.0}; give a new folder'):
        ShardFolder(tmp_path / "out", CLIPS, FOLDER_SETTINGS | {"fps": 9.0}).prepare()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("")
    with pytest.raises(UserError, match="holds other files; give a new or empty folder"):
        ShardFolder(tmp_path / "notes", CLIPS, FOLDER_SETTINGS).prepare()
    with pytest.raises(UserError, match=r"a\.txt: is a file; give a folder"):
        ShardFolder(tmp_path / "notes/a.txt", CLIPS, FOLDER_SETTINGS).prepare()
    (tmp_path / "out/encode.json").write_text("{")
    with pytest.raises(UserError, match="cannot be used"):
        folder.prepare()


def test_shards_of_a_longer_manifest_are_cleared(tmp_path: Path) -> None:
    fill(ShardFolder(tmp_path, CLIPS, FOLDER_SETTINGS), Maker())
    ShardFolder(tmp_path, CLIPS, FOLDER_SETTINGS).finish()
    shorter = ShardFolder(tmp_path, CLIPS[:2], FOLDER_SETTINGS)
    shorter.clear()
    assert not (tmp_path / "index.json").exists() and [path.name for path in tmp_path.glob("*.tar")] == ["00000.tar"]
    assert shorter.finish() == [] and len(ShardedLatents(tmp_path)) == 2


def test_latents_of_parts_are_made_where_they_are_wanted(
    clips: list[Clip], sources: dict[str, Any], tmp_path: Path
) -> None:
    encode(job(tmp_path / "plain", clips[:3], sources))
    encode(job(tmp_path / "out", clips[:3], sources, part_latents=True))
    plain, store = ShardedLatents(tmp_path / "plain"), ShardedLatents(tmp_path / "out")
    assert {name: record.parts for name, record in store.records.items()} == {
        "clip0": ("effects",), "clip1": (), "clip2": ("effects",),
    }  # fmt: skip
    clip = store.get("clip2")
    assert clip.parts.keys() == {"effects"} and clip.parts["effects"].shape == clip.audio.shape
    assert torch.equal(clip.audio, plain.get("clip2").audio) and plain.get("clip2").parts == {}
    assert store.get("clip1").parts == {}
    wanted = ShardedLatents(tmp_path / "out", parts=["speech", "effects"])
    assert list(wanted.records) == ["clip0", "clip2"]
    assert "clip 'clip1': has no part that sounds, needed here" in str(wanted.problems[0])
    with pytest.raises(UserError, match="nothing can be read"):
        ShardedLatents(tmp_path / "out", parts=["speech"])


def test_finished_shards_are_put_into_a_store_once(
    clips: list[Clip], sources: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, put = flaky_store(monkeypatch, tmp_path / "kept"), list[str]()
    upload = ObjectPath.upload
    monkeypatch.setattr(ObjectPath, "upload", lambda there, path: (put.append(there.name), upload(there, path))[1])
    for _ in range(2):  # nothing is made anew, and no shard put anew
        assert encode(replace(job(tmp_path / "out", clips[:3], sources), upload=ObjectPath("memory://made"))) == []
    once, each = ["00000.tar", "00000.json", "00001.tar", "00001.json"], ["empty_text.safetensors", "encode.json"]
    assert put == [*once, *each, "report.jsonl", "index.json", *each, "report.jsonl", "index.json"]
    here, there = ShardedLatents(tmp_path / "out"), ShardedLatents("memory://made")
    assert all(torch.equal(here.get(name).video, there.get(name).video) for name in here.records)
    store.files.rm_file("/made/00001.tar")
    encode(replace(job(tmp_path / "out", clips[:3], sources), upload=ObjectPath("memory://made")))
    assert put.count("00001.tar") == 2 and put.count("00000.tar") == 1
