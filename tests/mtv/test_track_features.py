"""Features of tracks, encoded once: the same as encoded at once, per clip and speaker, and only when needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from mtv.control import TRACKS
from mtv.track_features import TrackStore, draw_dropped
from mtv.tracks import features, read_tracks
from shared.data.manifest import Clip
from shared.encoders.audio import LogMel
from shared.utils.distributed import World
from shared.utils.errors import UserError
from shared.utils.rng import generator

FPS, FRAMES, RATE = 8.0, 8, 16000
ENCODER = LogMel(n_mels=4, parts_per_frame=2)
ENCODERS = dict.fromkeys(TRACKS, ENCODER)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.training.shards.barrier", lambda: None)


WORLD = World(0, 1, torch.device("cpu"))


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


def store(folder: Path, clips: list[Clip], frames: int = 6) -> TrackStore:
    made = TrackStore(folder / "store", clips, dict.fromkeys([clip.id for clip in clips], frames), FPS, ENCODERS)
    made.encode(WORLD)
    return made


def test_a_batch_holds_what_encoding_the_files_gives(tmp_path, clips):
    batch = store(tmp_path, clips).batch(["clip1", "clip0", "clip2"])
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


def test_rows_of_a_batch_can_be_taken(tmp_path, clips):
    drop = {"music": torch.tensor([True, False])}
    batch = store(tmp_path, clips).batch(["clip0", "clip1"], drop).take(torch.tensor([1]))
    assert len(batch) == 1 and batch.speakers.tolist() == [[True, True]] and batch.drop["music"].tolist() == [False]


def test_only_what_changed_is_encoded_again(tmp_path, clips, monkeypatch):
    store(tmp_path, clips)
    seen: list[str] = []
    made = TrackStore._made

    def counted(self, names):
        seen.extend(names)
        return made(self, names)

    monkeypatch.setattr(TrackStore, "_made", counted)
    store(tmp_path, clips)
    assert seen == []
    write(tmp_path, "c", 0.1)
    store(tmp_path, clips)
    assert seen == ["clip1"]
    store(tmp_path, clips, frames=5)
    assert sorted(seen[1:]) == ["clip0", "clip1", "clip2"]


def test_keys_do_not_depend_on_how_an_encoder_was_called_for(tmp_path, clips):
    """diffusers notes which arguments were defaults, in an order that differs between processes."""
    frames = dict.fromkeys([clip.id for clip in clips], 6)
    stores = [TrackStore(tmp_path, clips, frames, FPS, dict.fromkeys(TRACKS, e)) for e in (LogMel(), LogMel(n_mels=64))]
    assert stores[0].keys == stores[1].keys
    other = TrackStore(tmp_path, clips, frames, FPS, dict.fromkeys(TRACKS, LogMel(floor_db=-60.0)))
    assert not set(other.keys.values()) & set(stores[0].keys.values())


def test_clips_without_tracks_and_broken_tracks_are_refused_by_name(tmp_path, clips):
    bare = clips[0].model_copy(update={"id": "bare", "tracks": {}})
    with pytest.raises(UserError, match="1 of 4 clips, 'bare' first, have no tracks"):
        store(tmp_path, [*clips, bare])
    (tmp_path / "d.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"clip 'clip1': .*d\.wav"):
        store(tmp_path, clips)


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


def test_the_features_of_a_track_are_found_where_it_sounds(tmp_path, clips):
    made = store(tmp_path, clips)
    voices = made.sounding("speech")
    assert len(voices) == 3  # one speaker, two, and none
    assert torch.equal(voices[1], made.batch(["clip1"]).speech[0, 0])
    assert len(made.sounding("music")) == 2
    assert made.only(["clip1"]).sounding("music") == []  # that clip has none
