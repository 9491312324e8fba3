"""Features of every clip's tracks, made once and kept in shards beside the run; batches of them with dropped tracks."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mtv.control import TRACKS, TrackFeatures
from mtv.tracks import features, read_tracks
from shared.data.latent_shards import ShardedLatents
from shared.data.manifest import Clip
from shared.encoders.audio import FrameFeatures, windows
from shared.training.shards import Entry, ShardStore, check_ids, clip_key, fingerprint
from shared.utils.distributed import World
from shared.utils.errors import UserError
from shared.utils.rng import generator

SPEECH = re.compile(r"speech[1-9]?")
SURVEYED = 128
"""Clips that `sounding` looks at."""


class TrackBatches(ABC):
    """Features of clips, wherever their rows are: one per video frame, without its neighbours."""

    encoders: Mapping[str, FrameFeatures]

    @abstractmethod
    def names(self) -> list[str]:
        """Clips to look at, in order."""

    @abstractmethod
    def tensor(self, name: str, part: str) -> Tensor:
        """[(K,) T, layers, dim] of track `part`, speech with its speakers K."""

    def batch(self, ids: Sequence[str], drop: Mapping[str, Tensor] | None = None) -> TrackFeatures:
        """The features of clips of equal length, with the speakers that each has."""
        parts = {name: [self._window(clip, name) for clip in ids] for name in TRACKS}
        count = max(len(speech) for speech in parts["speech"])
        there = torch.tensor([[k < len(speech) for k in range(count)] for speech in parts["speech"]])
        speech = [torch.cat([s, s.new_zeros(count - len(s), *s.shape[1:])]) for s in parts["speech"]]
        return TrackFeatures(
            torch.stack(speech),
            torch.stack(parts["effects"]),
            torch.stack(parts["music"]),
            None if there.all() else there,
            dict(drop or {}),
        )

    def sounding(self, track: str) -> list[Tensor]:
        """Features [T, window, layers, dim] of a track in the first clips, where it sounds; speakers one by one."""
        rows = [self._window(clip, track) for clip in self.names()[:SURVEYED]]
        apart = [one for part in rows for one in (part if track == "speech" else [part])]
        return [one for one in apart if one.any()]

    def _window(self, clip: str, track: str) -> Tensor:
        """[(K,) T, window, layers, dim] of one track of a clip."""
        rows = self.tensor(clip, track)
        rows = rows if track == "speech" else rows[None]
        found = windows(rows, self.encoders[track].window)
        return found if track == "speech" else found[0]


class ShardedTracks(TrackBatches):
    """The features in latent shards that scripts/encode.py made with --tracks."""

    def __init__(self, store: ShardedLatents, encoders: Mapping[str, FrameFeatures]) -> None:
        """`encoders`: those that made the features, by track (`ShardedLatents.check`)."""
        self.store, self.encoders = store, encoders

    def names(self) -> list[str]:
        """The first records that can be read."""
        whole = (name for name in sorted(self.store.records) if self.store.read(name) is not None)
        return list(islice(whole, SURVEYED))

    def tensor(self, name: str, part: str) -> Tensor:
        """UserError if the record is broken."""
        return self.store.tensor(name, part)


class TrackStore(ShardStore, TrackBatches):
    """One row of features per video frame, without its neighbours: a window is put together when a batch is.

    Per clip: "speech" [K, T, layers, dim], "effects" and "music" [T, layers, dim]. Silent tracks are exact zeros. A
    clip without a speech track has one silent speaker.
    """

    def __init__(
        self,
        folder: str | Path,
        clips: Sequence[Clip],
        frames: Mapping[str, int],
        fps: float,
        encoders: Mapping[str, FrameFeatures],
    ) -> None:
        """`frames`: the video frames of each clip; `encoders`: by track.

        Raises `UserError` if two clips have the same id, or one has no track.
        """
        check_ids(clips)
        if bare := [clip.id for clip in clips if not clip.tracks]:
            raise UserError(
                f"{len(bare)} of {len(clips)} clips, {bare[0]!r} first, have no tracks, which task mtv needs; separate "
                "their sound with scripts/demix.py, or leave mtv out of the tasks"
            )
        self.frames, self.fps, self.encoders = frames, fps, encoders
        self.clips = {clip.id: clip for clip in clips}
        common = [str(fps), *(encoder_key(encoders[name]) for name in TRACKS)]
        keys = {}
        for clip in clips:
            files = [clip.tracks[name] for name in sorted(clip.tracks)]
            keys[clip.id] = clip_key(clip, files, [*common, *sorted(clip.tracks), str(frames[clip.id])])
        super().__init__(Path(folder), keys)

    def encode(self, world: World) -> None:
        """Make the features that are missing, each rank its part. Raises `UserError` naming a clip with a bad track."""
        self.fill(world, self._made, "encoding tracks")

    def names(self) -> list[str]:
        """The clips, in order."""
        return sorted(self.about)

    def _made(self, names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
        for name in names:
            clip, frames = self.clips[name], self.frames[name]
            voices, others = clip_tracks(clip)
            rate = self.encoders["speech"].sample_rate
            try:
                read = read_tracks(
                    voices, *others, fps=self.fps, rate=rate, start=clip.start, end=clip.start + frames / self.fps
                )
                rows = features(read, self.encoders, frames, self.fps)
            except (UserError, ValueError) as error:
                raise UserError(f"clip {name!r}: {error}") from error
            centre = {track: self.encoders[track].window // 2 for track in TRACKS}
            yield name, ({t: rows[t].select(-3, centre[t]).contiguous() for t in TRACKS}, {})


def encoder_key(encoder: FrameFeatures) -> str:
    """What decides the features that it makes: weights and configuration."""
    return f"{fingerprint(encoder)}{settings(encoder)}"


def settings(encoder: FrameFeatures) -> str:
    """The encoder's configuration, the same text in every process: what diffusers adds lists in the order of a set."""
    own = {name: value for name, value in encoder.config.items() if not name.startswith("_")}
    return json.dumps(own, sort_keys=True, default=str)


def clip_tracks(clip: Clip) -> tuple[list[Path], list[Path | None]]:
    """The files of a clip's speakers, in order, and those of its effects and music, None where it has none."""
    voices = [clip.tracks[track] for track in sorted(clip.tracks) if SPEECH.fullmatch(track)]
    return voices, [clip.tracks.get(track) for track in TRACKS[1:]]


def draw_dropped(rate: float, together: float, seed: int, step: int, ids: Sequence[str]) -> dict[str, Tensor]:
    """By track, [B] bool: each track of a sample unknown at `rate`, and all three at once at `together`."""
    rows = []
    for clip in ids:
        *each, all_of_them = torch.rand(len(TRACKS) + 1, generator=generator(seed, "tracks", step, clip)).tolist()
        rows.append([value < rate or all_of_them < together for value in each])
    return dict(zip(TRACKS, torch.tensor(rows).unbind(1), strict=True))
