"""Batches of the features of tracks, as the shards keep them: frame by frame, with dropped tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from mtv.control import TrackFeatures
from mtv.tracks import TRACKS
from shared.data.shards import LatentShards
from shared.encoders.audio import FrameFeatures, windows
from shared.utils.rng import generator

SURVEYED = 128
"""Clips that `nonsilent_features` looks at."""


class TrackBatches:
    """Features of clips out of shards, which keep one set per video frame: a window is put together for a batch."""

    def __init__(self, shards: LatentShards, encoders: Mapping[str, FrameFeatures]) -> None:
        """`encoders`: those that made the features, by track."""
        self.shards, self.encoders = shards, encoders

    def batch(self, ids: Sequence[str], drop: Mapping[str, Tensor] | None = None) -> TrackFeatures:
        """The features of clips of equal length, with the speakers that each has."""
        clips = [self._windows(clip) for clip in ids]
        count = max(len(clip["speech"]) for clip in clips)
        there = torch.tensor([[k < len(clip["speech"]) for k in range(count)] for clip in clips])
        speech = [torch.cat([s, s.new_zeros(count - len(s), *s.shape[1:])]) for s in (c["speech"] for c in clips)]
        return TrackFeatures(
            torch.stack(speech),
            torch.stack([clip["effects"] for clip in clips]),
            torch.stack([clip["music"] for clip in clips]),
            None if there.all() else there,
            dict(drop or {}),
        )

    def nonsilent_features(self, track: str) -> list[Tensor]:
        """Features [T, window, layers, dim] of a track in the first clips, where it sounds; speakers one by one."""
        readable = (name for name in sorted(self.shards.records) if self.shards.is_readable(name))
        found = [self._windows(clip)[track] for clip in islice(readable, SURVEYED)]
        apart = [one for features in found for one in (features if track == "speech" else [features])]
        return [one for one in apart if one.any()]

    def _windows(self, clip: str) -> dict[str, Tensor]:
        """By track, [(K,) T, window, layers, dim] of a clip, speech with its speakers K."""
        kept = self.shards.member(clip, "tracks")
        speech = windows(kept["speech"], self.encoders["speech"].window)
        others = {track: windows(kept[track][None], self.encoders[track].window)[0] for track in TRACKS[1:]}
        return {"speech": speech, **others}


def draw_dropped(rate: float, together: float, seed: int, step: int, ids: Sequence[str]) -> dict[str, Tensor]:
    """By track, [B] bool: each track of a sample unknown at `rate`, and all three at once at `together`."""
    rows = []
    for clip in ids:
        *each, all_of_them = torch.rand(len(TRACKS) + 1, generator=generator(seed, "tracks", step, clip)).tolist()
        rows.append([value < rate or all_of_them < together for value in each])
    return dict(zip(TRACKS, torch.tensor(rows).unbind(1), strict=True))
