"""Which parts of a clip Synchformer reads, and what is done to them before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.perception.sync_offsets import FPS, RATE, SyncOffsets
from shared.perception.synchformer import Sizes, Synchformer

SMALL = Sizes(16, 2, 1, 1, 2, 32, 4, 26, 26, 3)  # segments of 4 frames, each 2 after the one before; 8 frames in all


class Told(nn.Module):
    """Tells which segments it compares: by their first pixel, and by how loud their sound is."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.compared = SMALL, []
        self.vfeat_extractor = lambda videos: videos[:, :1, 0, 0, 0]
        self.afeat_extractor = lambda levels: levels[:, :, :15].mean((1, 2))[:, None]

    def compare(self, video: Tensor, sound: Tensor) -> Tensor:
        self.compared.append((((video[0, :, 0] + 1) * 127.5).round().tolist(), sound[0, :, 0]))
        return torch.eye(21)[[4 + len(self.compared)]]


def clip(count: int) -> tuple[np.ndarray, np.ndarray]:
    frames = np.zeros((count, 40, 60, 3), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    noise = np.random.default_rng(0).normal(0, 0.1, count * RATE // FPS)
    return frames, (noise * np.geomspace(0.01, 1, len(noise))).astype(np.float32)


def test_both_ends_are_compared_and_batches_change_nothing() -> None:
    for batch in (2, 16):
        network = SyncOffsets(Told(), batch=batch)
        assert network(*clip(21)) == pytest.approx([-1.0, -0.8])
        starts = [one for one, _ in network.model.compared]
        assert starts == [[0, 2, 4], [12, 14, 16]]  # of 9 segments; the last frame fills none
        loud = torch.cat([sound for _, sound in network.model.compared])
        assert (loud.diff() > 0).all()
    overlapping = SyncOffsets(Told())
    overlapping(*clip(10))
    assert [one for one, _ in overlapping.model.compared] == [[0, 2, 4], [2, 4, 6]]


def test_what_is_too_short_is_refused() -> None:
    network = SyncOffsets(Told())
    assert network.least_frames == 8
    frames, sound = clip(8)
    assert len(network(frames, sound)) == 2
    for short in ((frames[:7], sound), (frames, sound[:-1])):
        with pytest.raises(ValueError, match=r"0\.32 s of pictures and sound are needed"):
            network(*short)


def test_pictures_are_cut_centrally_and_normalised() -> None:
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :, 16:48] = 255
    pictures = SyncOffsets(Synchformer(SMALL))._pictures(frames)
    assert pictures.shape == (2, 3, 32, 32) and (pictures == 1).all()
    large = np.random.default_rng(0).integers(0, 256, (1, 96, 64, 3), dtype=np.uint8)
    assert SyncOffsets(Synchformer(SMALL))._pictures(large).abs().max() < 0.9  # anti-aliased
