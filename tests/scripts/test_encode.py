"""scripts/encode.py on clips of the stage: the same latents as training's own, whoever makes them and however often."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import webdataset
from one_process import one_process

from ccl.training.data import TrainingData
from mtv.captions import without_speaker
from scripts.encode import main
from scripts.make_puppets import main as make_puppets
from shared.codecs import Codecs, LinearAudioCodec, LinearVideoCodec
from shared.data.manifest import read_manifest
from shared.data.shard_index import text_key
from shared.data.shard_loader import ShardedText
from shared.data.shards import ShardedLatents
from shared.encoders import HashedWords
from shared.encoders.audio import load_track_encoders
from shared.training.components import Components, LazyTextEncoder
from shared.utils import files
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

ALL = ("--tracks", "--keyframe-latents", "--shard-clips", "2")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips, the second without a readable video."""
    folder = tmp_path_factory.mktemp("clips")
    make_puppets(["--clips", "5", "--output", str(folder), "--seed", "5", "--size", "32", "--workers", "1"])
    broken = read_manifest(folder)[1].video
    assert broken is not None
    broken.write_bytes(b"not a video")
    return folder


def encode(stage: Path, checkpoint: Path, output: Path, *more: str) -> int:
    """The exit code."""
    sources = [] if "--video-codec" in more else ["--checkpoint", str(checkpoint)]
    try:
        main(["--manifest", str(stage), *sources, "--output", str(output), "--duration", "0.5", *more])
    except SystemExit as stop:
        return int(str(stop.code))
    return 0


@pytest.fixture(scope="module")
def encoded(stage: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shards") / "out"
    assert encode(stage, checkpoint, output, *ALL) == 1  # a clip failed
    return output


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_tensor_is_what_training_makes(
    encoded: Path, stage: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    if dtype == "float32":
        encoded = tmp_path / "float32"
        assert encode(stage, checkpoint, encoded, *ALL, "--latents-dtype", dtype) == 1
    clips = [clip for i, clip in enumerate(read_manifest(stage)) if i != 1]
    codecs = Codecs(
        LinearVideoCodec.from_pretrained(checkpoint / "video_codec").eval(),
        LinearAudioCodec.from_pretrained(checkpoint / "audio_codec").eval(),
    )
    rate = codecs.audio.sample_rate
    data = {"manifest": "", "fps": 8.0, "size": (32, 32), "sample_rate": rate, "duration": 0.5, "latents_dtype": dtype}
    config = TrainConfig(
        output=str(tmp_path), model={}, data=data, train={"steps": 1}, keyframes=0.5, tasks={"mtv": 1}, control={}
    )
    encoders = load_track_encoders(config.tracks.encoders)
    components = Components(codecs, LazyTextEncoder(None), encoders)
    own = TrainingData.encoded(config, clips, components, HashedWords(), one_process(monkeypatch))
    shards = ShardedLatents(encoded, tracks=True)
    assert own.tracks is not None and shards.shapes() == own.latents.shapes() and not shards.problems
    for clip in clips:
        ours, theirs = shards.get(clip.id), own.latents.get(clip.id)
        for part in ("video", "audio", "keyframe_latents"):
            assert torch.equal(getattr(ours, part), getattr(theirs, part)) and getattr(ours, part).any()
        plain = [{k: v for k, v in vars(found).items() if not torch.is_tensor(v)} for found in (ours, theirs)]
        assert plain[0] == plain[1]
        tracks = [found.member(clip.id, "tracks") for found in (shards, own.tracks.shards)]
        assert all(torch.equal(tracks[0][part], tracks[1][part]) for part in encoders)
    half = shards.get(clips[0].id).video
    assert torch.equal(half, half.half().float()) == (dtype == "float16")
    shards.check(video_codec=codecs.video, audio_codec=codecs.audio, text_encoder=HashedWords(), **encoders)
    with pytest.raises(UserError, match="another video_codec"):
        shards.check(video_codec=codecs.audio)


def test_a_record_says_what_each_stream_reads_and_when(encoded: Path, stage: Path) -> None:
    clip = read_manifest(stage)[0]
    record = ShardedLatents(encoded).records[clip.id]
    assert record.texts == {
        "video": ((0.0, text_key(clip.caption)),),
        "audio": ((0.0, text_key(clip.audio_caption)),),
    }
    assert record.tokens[text_key(clip.caption)] > 3


def test_texts_are_the_encoders_own(encoded: Path, stage: Path) -> None:
    text = ShardedText(ShardedLatents(encoded))
    clips = [clip for i, clip in enumerate(read_manifest(stage)) if i != 1]
    prompts = ["", *(clip.caption for clip in clips), *(clip.audio_caption for clip in clips)]
    prompts += [without_speaker(clip.caption) for clip in clips]
    assert torch.equal(text.encode(prompts), HashedWords().encode(prompts))
    with pytest.raises(UserError, match="no record of the shards has the text 'a cat'"):
        text.encode(["a cat"])


def test_a_broken_clip_costs_only_itself(
    encoded: Path, stage: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = read_manifest(stage)
    before = stamps(encoded)
    assert encode(stage, checkpoint, encoded, *ALL) == 1  # finished shards are kept, and what failed is told again
    assert stamps(encoded) == before and len(before) == 3
    assert f"failed: clip '{clips[1].id}': {clips[1].video}: broken or not media" in capsys.readouterr().err
    report = [json.loads(line) for line in (encoded / "report.jsonl").read_text().splitlines()]
    assert [line["status"] for line in report] == ["ok", "failed", "ok", "ok", "ok"]
    index = json.loads((encoded / "index.json").read_text())
    assert [failure["id"] for failure in index["failed"]] == [clips[1].id]
    assert [len(shard["records"]) for shard in index["shards"]] == [1, 2, 1]


def test_what_is_broken_or_changed_is_made_again(stage: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert encode(stage, checkpoint, output, "--shard-clips", "2") == 1
    before, index = stamps(output), (output / "index.json").read_bytes()
    last = output / "00002.tar"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])  # killed while it was copied
    (output / "00000.json").unlink()  # killed before it was done
    (output / ".00000.tar.1.1.part").write_bytes(b"half")
    files._swept.clear()  # the next is another process
    assert encode(stage, checkpoint, output, "--shard-clips", "2") == 1
    assert last.read_bytes() == whole and (output / "index.json").read_bytes() == index
    assert {name for name, stamp in stamps(output).items() if stamp != before[name]} == {"00000.tar", "00002.tar"}
    assert not list(output.glob(".*.part"))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    last.write_bytes(flipped)  # of the same size: only the checksum tells
    before = stamps(output)
    assert encode(stage, checkpoint, output, "--shard-clips", "2") == 1
    assert last.read_bytes() == whole and (output / "index.json").read_bytes() == index
    assert {name for name, stamp in stamps(output).items() if stamp != before[name]} == {"00002.tar"}
    with pytest.raises(UserError, match=r'shards of other settings, {"keyframe_latents": false}; give'):
        encode(stage, checkpoint, output, "--shard-clips", "2", "--keyframe-latents")
    other = tmp_path / "other"
    LinearAudioCodec(latent_channels=4, iterations=2).save_pretrained(other)
    with pytest.raises(UserError, match="made with another audio_codec"):
        encode(stage, checkpoint, output, "--shard-clips", "2", "--audio-codec", str(other))


def test_several_processes_make_the_same(
    stage: Path, checkpoint: Path, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert encode(stage, checkpoint, tmp_path / "workers", *ALL, "--workers", "2") == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, code in (("1", 0), ("0", 1)):  # the last one has all failures
        monkeypatch.setenv("RANK", rank)
        capsys.readouterr()
        assert encode(stage, checkpoint, tmp_path / "ranks", *ALL) == code
        assert ("the last one writes index.json" in capsys.readouterr().out) == (rank == "1")
    for folder in ("workers", "ranks"):
        for path in encoded.glob("*"):
            assert (tmp_path / folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_webdataset_reads_the_shards(encoded: Path) -> None:
    paths = sorted(map(str, encoded.glob("*.tar")))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [json.loads(sample["json"])["id"] for sample in samples] == list(ShardedLatents(encoded).records)
    endings = {"json", *(f"{name}.safetensors" for name in ("latents", "texts", "tracks"))}
    assert all(endings <= sample.keys() for sample in samples)


def test_clips_keep_their_own_frame_rates_where_that_is_asked_for(
    encoded: Path, stage: Path, checkpoint: Path, tmp_path: Path
) -> None:
    assert encode(stage, checkpoint, tmp_path / "out", "--keep-fps", "--tracks") == 1
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["settings"]["keep_fps"] is True and index["settings"]["fps"] == 8
    store = ShardedLatents(tmp_path / "out", tracks=True)
    for name, record in store.records.items():
        assert (record.fps, record.frames, store.get(name).fps) == (16, 8, 16)
        assert store.member(name, "tracks")["music"].shape[0] == 8
    resampled = ShardedLatents(encoded).records.values()  # at 8 a second; nothing is said of a rate
    assert {(record.fps, record.frames) for record in resampled} == {(None, 4)}
    assert "fps" not in (encoded / "00000.json").read_text()
    assert "keep_fps" not in (encoded / "encode.json").read_text()


def test_each_clip_takes_the_nearest_size(stage: Path, checkpoint: Path, tmp_path: Path) -> None:
    sizes = ["--size", "16", "48", "--size", "32", "32", "--size", "48", "16"]
    assert encode(stage, checkpoint, tmp_path / "out", *sizes) == 1
    assert {record.video[2:] for record in ShardedLatents(tmp_path / "out").records.values()} == {(4, 4)}
    with pytest.raises(UserError, match="--size 30 32: both sides must be multiples of the codec's 8 pixels"):
        encode(stage, checkpoint, tmp_path / "odd", "--size", "30", "32")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--workers", "0"], "--workers 0: Input should be greater than or equal to 1"),
        (["--fps", "-1"], "--fps -1: Input should be greater than 0"),
        (["--track-encoders", "log-mel,log-mel"], "one, or three"),
        (["--video-codec", "nowhere"], r"nowhere: no video codec \(no config\.json or video_codec/config.json"),
        (["--audio-codec", "text_encoder"], "holds HashedWords; one of LinearAudioCodec"),
    ],
)
def test_bad_arguments_write_nothing(
    stage: Path, checkpoint: Path, tmp_path: Path, more: list[str], reason: str
) -> None:
    more = [str(checkpoint / text) if text == "text_encoder" else text for text in more]
    with pytest.raises(UserError, match=reason):
        main(["--manifest", str(stage), "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out"), *more])
    assert not (tmp_path / "out").exists()


def test_without_a_checkpoint_all_is_needed(stage: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--fps is needed, or --checkpoint"):
        main(["--manifest", str(stage), "--output", str(tmp_path / "out")])
    with pytest.raises(UserError, match="--video-codec is needed, or --checkpoint"):
        main(["--manifest", str(stage), "--output", str(tmp_path / "out"), "--fps", "8", "--size", "32", "32"])
    with pytest.raises(UserError, match="holds other files"):
        encode(stage, checkpoint, stage)
