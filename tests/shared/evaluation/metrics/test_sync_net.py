"""Sync-C and Sync-D: which faces count, which clips are refused, and a file of random weights end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import tone, write_clip
from media import Media
from perception import need_model
from torch import nn

from scripts.convert import main as convert
from scripts.score import main as score
from shared.evaluation.metrics import sync_net
from shared.evaluation.metrics.sync_net import DEFAULTS, SyncC, SyncD
from shared.perception.faces import FaceTrack
from shared.perception.syncnet import SIDE, SyncNet, SyncNetDistances


class Counting(SyncNetDistances):
    """Distances of a made-up face, whose sound is two frames late, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.asked: list[tuple[int, int]] = []

    def __call__(self, crops: np.ndarray, sound: np.ndarray) -> np.ndarray:
        self.asked.append((len(crops), len(sound)))
        assert crops.shape[1:] == (SIDE, SIDE, 3)
        return np.abs(np.arange(31) - 17.0) + len(self.asked)


def face(first: int, last: int, side: float, frames: int = 50) -> FaceTrack:
    """A face of so many pixels from one frame to another."""
    landmarks = np.full((frames, 468, 3), np.nan)
    landmarks[first : last + 1] = 20.0
    landmarks[first : last + 1, 0, :2] += side
    return FaceTrack(np.full((frames, 4), np.nan), landmarks)


def clip(fps: float = 25.0, loud: float = 1.0) -> Media:
    return Media(np.zeros((round(2 * fps), 64, 80, 3), np.uint8), fps, loud * tone(2.0), 16000)


def found(monkeypatch: pytest.MonkeyPatch, *faces: FaceTrack) -> None:
    monkeypatch.setattr(sync_net, "face_tracks", lambda media, fps: list(faces))


def test_the_mean_over_faces_read_once_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, face(0, 49, 120), face(10, 34, 100), face(0, 18, 200), face(0, 49, 99))
    network, media = Counting(), clip()
    sure, near = SyncC(network).clip(media), SyncD(network).clip(media)
    assert network.asked == [(50, 32000), (25, 16000)]  # the others are too short, and too small
    assert near.value == pytest.approx(1.5) and sure.value == pytest.approx(np.median(np.abs(np.arange(31) - 17)))
    assert sure.facts["lag_ms"] == [80, 80] and len(sure.facts["distances 1"]) == 31
    SyncC(network, DEFAULTS | {"min_face": 99.0}).clip(media)
    assert len(network.asked) == 5  # other limits, read anew


@pytest.mark.parametrize(
    ("faces", "media", "reason"),
    [
        ([], clip(16.0), "16 frames per second; 23.75 are needed"),
        ([], clip(loud=0), "silent"),
        ([], clip(), "no face"),
        ([face(0, 18, 200)], clip(), "no face for 20 frames"),
        ([face(0, 40, 99)], clip(), "no face of 100 pixels"),
    ],
)
def test_refusals(faces: list[FaceTrack], media: Media, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, *faces)
    assert SyncC(Counting()).clip(media).refused == reason


def test_a_published_file_of_random_weights_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_model("face landmarks", "ai_edge_litert.interpreter")
    torch.manual_seed(0)
    torch.save(SyncNet().state_dict(), tmp_path / "syncnet_v2.model")
    weights = tmp_path / "syncnet.safetensors"
    convert(["to-safetensors", "--source", str(tmp_path / "syncnet_v2.model"), "--output", str(weights)])
    write_clip(tmp_path / "clips/a.mp4", 1, seconds=0.8, fps=25.0)
    write_clip(tmp_path / "clips/b.mp4", 2, seconds=0.4, fps=8.0)
    found(monkeypatch, face(0, 19, 120, 20))
    words = ["--metrics", "sync_c,sync_d", "--weights", f"syncnet={weights}", "--device", "cpu"]
    limits = ["--set", "sync_c.min_track=15", "--set", "sync_d.min_track=15"]
    score([str(tmp_path / "clips"), *words, *limits, "--output", str(tmp_path / "out")])
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]
    for name in ("sync_c", "sync_d"):
        told = metrics[name]["sets"]["clips"]
        assert told["n"] == 1 and told["refused"] == {"8 frames per second; 23.75 are needed": 1}
        assert told["clips"]["a"] > 0 and metrics[name]["preprocessing"]["min_track"] == 15
