"""What a run encodes of its own clips, and what it makes again when clips, captions, codecs or options change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from one_process import one_process

from ccl.training.data import TrainingData, encode_latents, training_texts
from ccl.training.source import Source
from mtv.curriculum import BackboneConfig
from shared.codecs import Codecs
from shared.data.bad_clips import settle
from shared.data.manifest import Clip
from shared.data.media import write_video
from shared.encoders import HashedWords
from shared.encoders.audio import LogMel
from shared.encoders.timed_prompts import TimedPrompts
from shared.training.components import Components, LazyTextEncoder
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

TRACKS = ("speech", "effects", "music")
ENCODERS = dict.fromkeys(TRACKS, LogMel(n_mels=4))


class Video(torch.nn.Module):
    """Means of 4 frames (the first alone) and 8x8 pixels; counts what it encodes."""

    spatial_stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))
        self.encoded = 0

    def encode(self, video):
        self.encoded += len(video)
        padded = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], 2)
        return torch.nn.functional.avg_pool3d(padded, (4, 8, 8), ceil_mode=True) * self.gain


class Audio(torch.nn.Module):
    sample_rate = 16_000

    def encode(self, audio):
        return torch.nn.functional.avg_pool1d(audio, 640, ceil_mode=True).transpose(1, 2)


@pytest.fixture
def world(monkeypatch):
    return one_process(monkeypatch)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips of two lengths, each with all tracks."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    made = []
    for i, frames in enumerate((8, 8, 12)):
        path = folder / f"{i}.mp4"
        sound = rng.normal(0, 0.2, (1, frames * 1000)).astype(np.float32)
        write_video(path, rng.integers(0, 255, (frames, 16, 16, 3), np.uint8), 16, sound, 16_000)
        tracks = {name: folder / f"{i}.{name}.wav" for name in TRACKS}
        for track in tracks.values():
            soundfile.write(track, rng.normal(0, 0.2, frames * 1000), 16_000)
        made.append(Clip(id=f"clip{i}", video=path, caption=f"caption {i}", audio_caption="sound", tracks=tracks))
    return made


def config(folder: Path, data: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
    told = {"manifest": "unused", "size": (16, 16), "latents": str(folder)} | (data or {})
    changes = {"output": "unused", "model": {}, "train": {"steps": 1}} | changes
    return TrainConfig(data=told, **changes)


def encoded(folder, clips, video, world, **data):
    shards, bad = encode_latents(config(folder, data), clips, Codecs(video, Audio()), world)
    settle(bad, len(clips), data.get("on_bad_clip", "refuse"))
    return shards


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("float16", torch.float16)])
def test_latents_have_the_codecs_shapes_and_the_clips_captions(tmp_path, clips, world, name, dtype):
    shards = encoded(tmp_path, clips, Video(), world, latents_dtype=name)
    assert len(shards) == 3 and shards.shapes() == {"clip0": (3, 13), "clip1": (3, 13), "clip2": (4, 19)}
    latents = shards.get("clip2")
    assert latents.video.shape == (3, 4, 2, 2) and latents.audio.shape == (19, 1)
    assert latents.video.dtype == torch.float32 and latents.video.std() > 0 and latents.audio.std() > 0
    assert (latents.frames, latents.samples, latents.caption) == (12, 12_000, "caption 2") and latents.has_audio
    # exact in the type that is kept, and in no narrower one
    assert torch.equal(latents.video, latents.video.to(dtype).float())
    assert torch.equal(latents.video, latents.video.half().float()) == (dtype == torch.float16)


def test_only_what_changed_is_encoded_again(tmp_path, clips, world):
    video = Video()
    clips = [clip.model_copy(update={"video": shutil.copy2(clip.video, tmp_path), "audio": None}) for clip in clips]
    clips = [Clip(**{**clip.model_dump(), "audio": clip.video}) for clip in clips]
    folder = tmp_path / "latents"
    counts = []
    for change in ("first", "nothing", "one more", "file", "captions", "codec", "options"):
        if change == "file":
            os.utime(clips[1].video, (1, 1))
        if change == "codec":
            video.gain.data.mul_(2)
        if change == "captions":
            clips = [clip.model_copy(update={"caption": "edited"}) for clip in clips]
        chosen = clips[: 2 if change in ("first", "nothing") else 3]
        before = video.encoded
        shards = encoded(folder, chosen, video, world, **({"duration": 0.25} if change == "options" else {}))
        counts.append(video.encoded - before)
    assert counts == [2, 0, 1, 1, 0, 3, 3]
    assert shards.get("clip0").caption == "edited"
    assert len(list(folder.glob("*.tar"))) == 1  # what the last options made; the rest is stale and gone


def test_bad_clips_are_named_together_and_cost_the_others_nothing(tmp_path, clips, world, caplog):
    broken, video = tmp_path / "broken.mp4", Video()
    broken.write_bytes(b"no video")
    bad = Clip(id="bad", video=broken, caption=""), Clip(id="gone", video=tmp_path / "gone.mp4", caption="")
    some = [bad[0], *clips, bad[1]]
    words = r"2 of 5 clips cannot be used: clip 'gone': .*No such file.*; clip 'bad': .*broken.*data.on_bad_clip=skip"
    for _ in range(2):
        with pytest.raises(UserError, match=words):
            encoded(tmp_path / "latents", some, video, world)
        assert video.encoded == 3  # and what is done is kept
    assert list(encoded(tmp_path / "latents", some, video, world, on_bad_clip="skip").records) == [c.id for c in clips]
    assert "clip 'bad'" in caplog.text and "it is left out" in caplog.text
    with pytest.raises(UserError, match=r"2 of 2 clips cannot be used.*no clip is left"):
        encoded(tmp_path / "latents", list(bad), video, world, on_bad_clip="skip")


def test_tracks_are_encoded_apart_from_pictures(tmp_path, clips, world):
    video, words = Video(), HashedWords()
    components = Components(Codecs(video, Audio()), LazyTextEncoder(None), ENCODERS)
    mtv = config(tmp_path / "latents", tasks={"mtv": 1.0}, control={})
    clips = [
        clip.model_copy(
            update={"tracks": {name: Path(shutil.copy2(path, tmp_path)) for name, path in clip.tracks.items()}}
        )
        for clip in clips
    ]

    def made() -> TrainingData:
        return TrainingData.encoded(mtv, clips, components, words, world)

    first = made()
    assert video.encoded == 3 and first.tracks is not None
    assert first.tracks.shards.member("clip2", "tracks")["music"].shape == (12, 1, 16)
    soundfile.write(clips[1].tracks["music"], np.zeros(8000), 16_000)
    second = made()
    assert video.encoded == 3 and second.tracks is not None
    for name in ("clip0", "clip1"):
        before, after = (data.tracks.shards.member(name, "tracks") for data in (first, second))
        assert torch.equal(before["speech"], after["speech"])
        assert torch.equal(before["music"], after["music"]) == (name == "clip0")
    part = second.only(Source(clips[1:]))
    assert len(part.latents) == len(part.tracks.shards) == 2 and part.clips == clips[1:]
    texts = [TimedPrompts.of(f"caption {i}") for i in range(3)]
    assert part.prompts(1) == [texts[1]] and second.prompts(5) == texts
    bare = [clip.model_copy(update={"tracks": {}}) for clip in clips[:1]]
    with pytest.raises(UserError, match="1 of 1 clips, 'clip0' first, have no tracks, which task mtv needs"):
        TrainingData.encoded(mtv, bare, components, words, world)


def test_a_bad_track_costs_its_clip_alone_and_stages_do_without(tmp_path, clips, world):
    components = Components(Codecs(Video(), Audio()), LazyTextEncoder(None), ENCODERS)
    settings = {"on_bad_clip": "skip"}, {"tasks": {"mtv": 1.0}, "control": {}}
    broken, short = tmp_path / "broken.wav", tmp_path / "short.wav"
    broken.write_bytes(b"RIFF no sound")
    soundfile.write(short, np.ones(1000), 16_000)
    some = [
        clips[0],
        clips[1].model_copy(update={"tracks": clips[1].tracks | {"music": broken}}),
        clips[2].model_copy(update={"tracks": clips[2].tracks | {"speech": short}}),
    ]

    def made(data: dict, changes: dict) -> TrainingData:
        return TrainingData.encoded(
            config(tmp_path / "latents", data, **changes), some, components, HashedWords(), world
        )

    words = r"2 of 3 clips cannot be used: clip 'clip1': .*broken\.wav: broken.*; clip 'clip2': .*must be equally long"
    with pytest.raises(UserError, match=words):
        made({}, settings[1])
    data = made(*settings)
    assert [problem.id for problem in data.left_out] == ["clip1", "clip2"] and data.clips == some[:1]
    assert list(data.latents.records) == list(data.tracks.shards.records) == ["clip0"]
    part = data.only(Source(some[:2]))
    assert list(part.latents.records) == ["clip0"] and part.clips == some[:1]
    with pytest.raises(UserError, match=r"no clip is left of 2; left_out\.jsonl"):
        data.only(Source(some[1:]))


def test_texts_hold_every_form_of_a_caption(clips):
    said = "One person conversation. Person1: a man. Person1 is speaking. Scene description: a garden in the rain."
    clip = clips[0].model_copy(update={"caption": said})
    texts = training_texts(
        config(Path("x"), tasks={"mtv": 1.0}, control={}, tracks={"drop_from_caption": {" in the rain": 0.5}}), [clip]
    )
    without = said.replace(" Person1 is speaking.", "")
    dry = [text.replace(" in the rain", "") for text in (said, without)]
    assert texts == {"", "sound", said, without, *dry}
    assert training_texts(config(Path("x")), [clip]) == {"", "sound", said}


@pytest.fixture(scope="module")
def of_two_rates(tmp_path_factory):
    """Three clips of half a second with all tracks, the last at 24 frames a second, the others at 16."""
    folder = tmp_path_factory.mktemp("rates")
    rng, made = np.random.default_rng(1), []
    for i, fps in enumerate((16, 16, 24)):
        sound = rng.normal(0, 0.2, (1, 8000)).astype(np.float32)
        write_video(folder / f"{i}.mp4", rng.integers(0, 255, (fps // 2, 16, 16, 3), np.uint8), fps, sound, 16_000)
        tracks = {name: folder / f"{i}.{name}.wav" for name in TRACKS}
        for track in tracks.values():
            soundfile.write(track, sound[0], 16_000)
        made.append(Clip(id=f"clip{i}", video=folder / f"{i}.mp4", caption=f"caption {i}", tracks=tracks))
    return made


def test_clips_keep_their_own_frame_rates_with_their_tracks(tmp_path, of_two_rates, world):
    codecs = Codecs(Video(), Audio())
    components = Components(codecs, LazyTextEncoder(None), ENCODERS)
    kept = config(tmp_path / "own", {"keep_fps": True}, tasks={"mtv": 1}, control={})
    data = TrainingData.encoded(kept, of_two_rates, components, HashedWords(), world)
    frames = {name: (record.frames, record.fps) for name, record in data.latents.records.items()}
    assert frames == {"clip0": (8, 16), "clip1": (8, 16), "clip2": (12, 24)}
    assert [len(data.tracks.shards.member(name, "tracks")["effects"]) for name in frames] == [8, 8, 12]
    buckets, unit = data.buckets(8, 1)
    assert unit == 1 and buckets == {"clip0": (12, 13, 3, 2, 2, 16), "clip1": (12, 13, 3, 2, 2, 16),
                                     "clip2": (16, 13, 4, 2, 2, 24)}  # fmt: skip
    same = data.only(Source(of_two_rates[:2]))
    assert same.buckets(8, 1) == (dict.fromkeys(("clip0", "clip1"), (3, 13)), 4)
    before = codecs.video.encoded
    again = encode_latents(config(tmp_path / "own", {"keep_fps": True, "fps": 30.0}), of_two_rates, codecs, world)[0]
    assert codecs.video.encoded == before and torch.equal(again.get("clip2").video, data.latents.get("clip2").video)
    resampled = encode_latents(config(tmp_path / "one"), of_two_rates, codecs, world)[0]
    assert [(record.frames, record.fps) for record in resampled.records.values()] == [(8, None)] * 3


def test_texts_over_time_are_read_in_place_of_captions_unless_the_model_cannot(clips, tmp_path, world):
    speaks = "One person conversation. Person1: a man. Person1 is speaking. Scene description: a garden."
    timed = {
        "prompts": [(0.0, speaks), (0.25, "A drum in the rain.")], "audio_prompts": [(0.0, "Words."), (0.5, "Rain.")],
    }  # fmt: skip
    clip = clips[0].model_copy(update=timed)
    pattern = {"drop_from_caption": {" in the rain": 0.5}}
    mtv = config(Path("x"), tasks={"mtv": 1.0}, control={}, tracks=pattern)
    without = speaks.replace(" Person1 is speaking.", "")
    heard = {"", "Words.", "Rain."}
    assert training_texts(config(Path("x")), [clip]) == {*heard, speaks, "A drum in the rain."}
    assert training_texts(mtv, [clip]) == {*heard, speaks, without, "A drum in the rain.", "A drum."}
    settings = {"output": "none", "model": {}, "data": {"manifest": "none"}, "train": {"steps": 1}}
    alone = BackboneConfig.model_validate(settings | {"backbone": "folder"})
    assert training_texts(alone, [clip]) == {"", "caption 0", "sound"}
    shards = encoded(tmp_path, [clip], Video(), world)
    assert shards.get("clip0").prompts == timed["prompts"] and shards.get("clip0").audio_prompts


def with_tracks(clip: Clip, folder: Path, **gains: float) -> Clip:
    """The clip with tracks of its length, noise of these gains."""
    frames, tracks = 12 if clip.id == "clip2" else 8, {}
    for name, gain in gains.items():
        tracks[name] = folder / f"{clip.id}.{name}.{gain}.wav"
        soundfile.write(tracks[name], gain * np.random.default_rng(1).normal(0, 1, frames * 1000), 16_000)
    return clip.model_copy(update={"tracks": tracks})


def test_latents_of_tracks_are_encoded_where_task_part_is_trained(tmp_path, clips, world):
    some = [
        with_tracks(clips[0], tmp_path, speech1=0.2, speech2=0.1, music=0.2),
        with_tracks(clips[1], tmp_path, speech=0.0, effects=0.2),
        with_tracks(clips[2], tmp_path, speech=0.2, effects=0.3),
    ]
    video, trained = Video(), {"model": {"parts": ["speech", "effects"]}, "tasks": {"part": 1.0, "t2av": 1.0}}
    codecs, folder = Codecs(video, Audio()), tmp_path / "latents"
    plain, _ = encode_latents(config(folder), some, codecs, world)
    shards, bad = encode_latents(config(folder, **trained), some, codecs, world)
    assert bad == [] and video.encoded == 6
    found = {name: shards.get(name).parts for name in shards.records}
    assert {name: set(parts) for name, parts in found.items()} == {
        "clip0": {"speech"}, "clip1": {"effects"}, "clip2": {"speech", "effects"},
    }  # fmt: skip
    assert all(part.shape == shards.get(name).audio.shape for name, parts in found.items() for part in parts.values())
    torch.testing.assert_close(found["clip2"]["effects"], 1.5 * found["clip2"]["speech"], rtol=0, atol=1e-3)
    assert torch.equal(shards.get("clip0").audio, plain.get("clip0").audio)
    encode_latents(config(folder, **trained), some, codecs, world)
    assert video.encoded == 6  # all is kept
    os.utime(some[1].tracks["effects"], (5, 5))
    encode_latents(config(folder, **trained), some, codecs, world)
    assert video.encoded == 7  # a track that changed


def test_clips_without_a_part_that_sounds_are_refused_at_the_start(tmp_path, clips, world):
    some = [
        clips[0].model_copy(update={"tracks": {}}),
        with_tracks(clips[1], tmp_path, speech=0.001, music=0.2),
        clips[2],
    ]
    changes = {"model": {"parts": ["speech"]}, "tasks": {"part": 1.0}}
    components = Components(Codecs(Video(), Audio()), LazyTextEncoder(None), ENCODERS)

    def made(**data: Any) -> TrainingData:
        return TrainingData.encoded(
            config(tmp_path / "latents", data, **changes), some, components, HashedWords(), world
        )

    words = r"2 of 3 clips cannot be used: clip 'clip0': none of its speech sounds, of which task part.*clip 'clip1'"
    with pytest.raises(UserError, match=words):
        made()
    data = made(on_bad_clip="skip")
    assert list(data.latents.records) == ["clip2"] and data.latents.get("clip2").parts.keys() == {"speech"}
