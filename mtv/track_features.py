"""Features of tracks in training: encoded once, kept frame by frame in shards, and put together in batches."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mtv.control import TrackFeatures
from mtv.tracks import TRACKS, clip_features
from shared.data.bad_clips import Problem, noted
from shared.data.clip_key import clip_key
from shared.data.encode_clip import as_kept
from shared.data.manifest import Clip
from shared.data.shard_writer import NewRecord, fill_shards, gather_problems
from shared.data.shards import LatentShards
from shared.encoders.audio import FrameFeatures, windows
from shared.utils.distributed import World
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint
from shared.utils.rng import generator

SURVEYED = 128  # clips that `nonsilent_features` looks at


class TrackBatches:
    """Features of clips out of shards, which keep one set per video frame: a window is put together for a batch."""

    def __init__(self, shards: LatentShards, encoders: Mapping[str, FrameFeatures]) -> None:
        """Take the encoders that made the features, by track."""
        self.shards, self.encoders = shards, encoders

    def batch(self, ids: Sequence[str], drop: Mapping[str, Tensor] | None = None) -> TrackFeatures:
        """Put together the features of clips of equal length, with the speakers that each has."""
        return TrackFeatures.of([self._windows(clip) for clip in ids], drop)

    def nonsilent_features(self, track: str) -> list[Tensor]:
        """Features [T, window, layers, dim] of a track in the first clips, where it sounds; speakers one by one."""
        readable = (name for name in sorted(self.shards.records) if self.shards.is_readable(name))
        features_of_clips = [self._windows(clip)[track] for clip in islice(readable, SURVEYED)]
        apart = [one for features in features_of_clips for one in (features if track == "speech" else [features])]
        return [one for one in apart if one.any()]

    def _windows(self, clip: str) -> dict[str, Tensor]:
        """By track, [(K,) T, window, layers, dim] of a clip, speech with its speakers K."""
        features = self.shards.member(clip, "tracks")
        speech = {"speech": windows(features["speech"], self.encoders["speech"].window)}
        return speech | {name: windows(features[name][None], self.encoders[name].window)[0] for name in TRACKS[1:]}


def check_tracks(clips: Sequence[Clip]) -> None:
    """Raise UserError if a clip has no track at all, which task mtv needs."""
    if bare := [clip.id for clip in clips if not clip.tracks]:
        raise UserError(
            f"{len(bare)} of {len(clips)} clips, {bare[0]!r} first, have no tracks, which task mtv needs; separate "
            "their sound with scripts/demix.py, or leave mtv out of the tasks"
        )


def encode_tracks(
    folder: Path,
    clips: Sequence[Clip],
    latents: LatentShards,
    fps: float,
    encoders: Mapping[str, FrameFeatures],
    dtype: str,
    world: World,
) -> tuple[LatentShards, list[Problem]]:
    """Encode tracks that `folder` lacks, as long as clips in `latents` and at their `fps`, where they kept their own at
    that; those with a bad track are told, left out."""
    by_id, bad = {clip.id: clip for clip in clips}, list[Problem]()
    rates = {clip.id: latents.records[clip.id].fps or fps for clip in clips}
    common = [dtype, *(fingerprint(encoders[track]) for track in TRACKS)]
    keys = {}
    for clip in clips:
        names, frames = sorted(clip.tracks), latents.records[clip.id].frames
        with noted(bad, clip.id):
            keys[clip.id] = clip_key(
                clip, [clip.tracks[name] for name in names], [str(rates[clip.id]), *common, *names, str(frames)]
            )

    def make(names: Sequence[str]) -> Iterator[NewRecord]:
        for name in names:
            record, features = latents.records[name], None
            with noted(bad, name):
                features = clip_features(by_id[name], record.frames, rates[name], encoders)
            if features is not None:
                yield {"tracks": as_kept(features, getattr(torch, dtype))}, record.facts() | {"key": keys[name]}

    shards = fill_shards(folder, keys, make, world, "encoding tracks")
    return shards, gather_problems(bad)


def draw_dropped(rate: float, together: float, seed: int, step: int, ids: Sequence[str]) -> dict[str, Tensor]:
    """By track, [B] bool: each track of a sample unknown at `rate`, and all three at once at `together`."""
    rows = []
    for clip in ids:
        *each, all_of_them = torch.rand(len(TRACKS) + 1, generator=generator(seed, "tracks", step, clip)).tolist()
        rows.append([value < rate or all_of_them < together for value in each])
    return dict(zip(TRACKS, torch.tensor(rows).unbind(1), strict=True))
