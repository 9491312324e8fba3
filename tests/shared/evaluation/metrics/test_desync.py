"""DeSync: the mean over both ends, refusals, and a file of random weights end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import tone, write_clip
from media import Media

from scripts.convert import main as convert
from scripts.score import main as score
from shared.evaluation.metrics.desync import DeSync
from shared.perception import sync_offsets
from shared.perception.sync_offsets import SyncOffsets
from shared.perception.synchformer import Sizes, Synchformer

SMALL = Sizes(16, 2, 1, 1, 2, 32, 4, 26, 26, 3)  # 0.32 s in all


class Fixed(SyncOffsets):
    """Offsets at both ends, as told."""

    def __init__(self, *offsets: float) -> None:
        super().__init__(Synchformer(SMALL))
        self.told = list(offsets)

    def __call__(self, frames: np.ndarray, sound: np.ndarray) -> list[float]:
        return self.told


def clip(seconds: float = 1.0, fps: float = 25.0, loud: float = 1.0) -> Media:
    return Media(np.zeros((round(seconds * fps), 40, 40, 3), np.uint8), fps, loud * tone(seconds), 16000)


def test_the_mean_over_both_ends() -> None:
    result = DeSync(Fixed(-0.4, 0.2)).clip(clip())
    assert result.value == pytest.approx(0.3) and result.facts == {"lag_ms": [400, -200]}


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (clip(fps=16.0), "16 frames per second; 23.75 are needed"),
        (clip(0.28), "shorter than 0.32 s"),
        (clip(loud=0), "silent"),
        (Media(np.zeros((25, 40, 40, 3), np.uint8), 25.0, tone(0.3), 16000), "0.32 s of pictures and sound are needed"),
    ],
)
def test_refusals(media: Media, reason: str) -> None:
    assert DeSync(SyncOffsets(Synchformer(SMALL))).clip(media).refused == reason


def test_a_file_of_random_weights_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Synchformer(SMALL)
    torch.save(network.state_dict(), tmp_path / "synchformer_state_dict.pth")
    weights = tmp_path / "synchformer.safetensors"
    convert(["to-safetensors", "--source", str(tmp_path / "synchformer_state_dict.pth"), "--output", str(weights)])
    monkeypatch.setattr(sync_offsets, "Synchformer", lambda: Synchformer(SMALL))  # the published one has 950 MB
    for name in ("a", "b"):
        write_clip(tmp_path / f"clips/{name}.mp4", 1, seconds=0.8, fps=25.0 if name == "a" else 8.0)
    words = ["--metrics", "desync", "--weights", f"synchformer={weights}", "--device", "cpu"]
    score([str(tmp_path / "clips"), *words, "--output", str(tmp_path / "out")])
    metric = json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]["desync"]
    assert metric["sets"]["clips"]["n"] == 1 and 0 <= metric["sets"]["clips"]["clips"]["a"] <= 2
    assert metric["sets"]["clips"]["refused"] == {"8 frames per second; 23.75 are needed": 1}
