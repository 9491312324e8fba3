"""Features of tracks, encoded once: the same as encoded at once, per clip and speaker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import soundfile
import torch
from one_process import one_process

from mtv.track_features import TrackBatches, check_tracks, draw_dropped
from mtv.tracks import TRACKS, clip_features, features, read_tracks
from shared.data.encode_clip import as_kept
from shared.data.manifest import Clip
from shared.data.shard_writer import NewRecord, fill_shards
from shared.encoders.audio import LogMel
from shared.utils.errors import UserError
from shared.utils.rng import generator

FPS, FRAMES, RATE = 8.0, 8, 16000
ENCODER = LogMel(n_mels=4, parts_per_frame=2)
ENCODERS = dict.fromkeys(TRACKS, ENCODER)


def write(folder: Path, name: str, level: float = 0.3) -> Path:
    sound = level * torch.randn(RATE, generator=generator(1, name))
    soundfile.write(folder / f"{name}.wav", sound.numpy(), RATE, subtype="FLOAT")
    return folder / f"{name}.wav"


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """One speaker, two speakers and none."""
    files = {name: write(tmp_path, name) for name in ("a", "b", "c", "d", "music")}
    tracks = [
        {"speech": files["a"], "effects": files["b"], "music": files["music"]},
        {"speech1": files["b"], "speech2": files["c"], "effects": files["d"]},
        {"music": files["music"]},
    ]
    return [
        Clip(id=f"clip{i}", video=files["a"], caption="", tracks=named, start=0.25 if i == 1 else 0.0)
        for i, named in enumerate(tracks)
    ]


@pytest.fixture
def made(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackBatches:
    """The features of six video frames of each clip, out of shards."""
    by_id = {clip.id: clip for clip in clips}
    facts = {"key": "", "frames": 6, "samples": 6, "has_video": True, "has_audio": True}
    facts |= {"video": [1, 1, 1, 1], "audio": [1, 1]}

    def make(names: Sequence[str]) -> Iterator[NewRecord]:
        for name in names:
            features = clip_features(by_id[name], 6, FPS, ENCODERS)
            yield {"tracks": as_kept(features, torch.float16)}, facts | {"id": name}

    keys = dict.fromkeys(by_id, "")
    return TrackBatches(fill_shards(tmp_path / "shards", keys, make, one_process(monkeypatch), "making"), ENCODERS)


def test_a_batch_holds_what_encoding_the_files_gives(made, clips):
    batch = made.batch(["clip1", "clip0", "clip2"])
    assert batch.speech.shape == (3, 2, 6, 5, 1, 8) and batch.effects.shape == batch.music.shape == (3, 6, 5, 1, 8)
    assert batch.speakers.tolist() == [[True, True], [True, False], [True, False]]
    two = clips[1].tracks
    read = read_tracks([two["speech1"], two["speech2"]], two["effects"], fps=FPS, rate=RATE, start=0.25, end=1.0)
    direct = features(read, ENCODERS, 6, FPS)
    torch.testing.assert_close(batch.speech[0], direct["speech"], atol=2e-3, rtol=0)
    torch.testing.assert_close(batch.effects[0], direct["effects"], atol=2e-3, rtol=0)
    assert batch.speech[0].abs().max() > 0.1
    for silent in (batch.music[0], batch.speech[1, 1], batch.speech[2], batch.effects[2]):
        assert torch.equal(silent, torch.zeros_like(silent))


def test_samples_of_a_batch_can_be_taken(made):
    drop = {"music": torch.tensor([True, False])}
    batch = made.batch(["clip0", "clip1"], drop).take(torch.tensor([1]))
    assert len(batch.effects) == 1
    assert batch.speakers.tolist() == [[True, True]] and batch.drop["music"].tolist() == [False]


def test_tracks_are_dropped_at_the_rates_given_each_and_together():
    ids = [f"clip{i}" for i in range(2000)]
    drop = draw_dropped(0.2, 0.1, 0, 5, ids)
    rows = torch.stack([drop[name] for name in TRACKS], 1).float()
    each = 0.2 + 0.8 * 0.1  # its own turn, or all of them
    assert rows.mean(0).sub(each).abs().max() < 0.03
    assert abs(float(rows.all(1).float().mean()) - (0.1 + 0.9 * 0.2**3)) < 0.02
    again = draw_dropped(0.2, 0.1, 0, 5, ids[::-1])
    assert torch.equal(again["music"].flip(0), drop["music"])
    none = draw_dropped(0.0, 0.0, 0, 5, ids)
    assert not any(value.any() for value in none.values())


def test_the_features_of_a_track_are_found_where_it_sounds(made):
    voices = made.nonsilent_features("speech")
    assert len(voices) == 3  # one speaker, two, and none
    assert torch.equal(voices[1], made.batch(["clip1"]).speech[0, 0])
    assert len(made.nonsilent_features("music")) == 2
    alone = TrackBatches(made.shards.only(["clip1"]), ENCODERS)
    assert alone.nonsilent_features("music") == []  # that clip has none


def test_clips_without_tracks_are_refused_by_name(clips):
    check_tracks(clips)
    bare = clips[0].model_copy(update={"id": "bare", "tracks": {}})
    with pytest.raises(UserError, match="1 of 4 clips, 'bare' first, have no tracks"):
        check_tracks([*clips, bare])
