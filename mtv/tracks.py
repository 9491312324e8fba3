"""The user's tracks of one video, speech per speaker, effects and music: read, aligned and turned into features.

A track that is not given is silence, and silence is exact zeros in the features. A track *dropped* for guidance
is another thing (the control network's learned null) and no business of this file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shared.data.manifest import Clip
from shared.data.media import read_audio
from shared.encoders.audio import AudioFeatures, FrameFeatures
from shared.utils.errors import UserError

TRACKS = ("speech", "effects", "music")
_SPEECH = re.compile(r"speech[1-9]?")


@dataclass(frozen=True)
class Tracks:
    """Mono tracks [1, N] in [-1, 1] at `rate` Hz, all equally long; `speech` has one per speaker, at least one.

    `effects` or `music` None: not given, silent. Raises ValueError if there is no speech track (a film without
    speakers has a silent one), or if shapes differ.
    """

    speech: list[Tensor]
    effects: Tensor | None = None
    music: Tensor | None = None
    rate: int = 16000

    def __post_init__(self) -> None:
        if not self.speech:
            raise ValueError("no speech track; at least one is needed, zeros if nobody speaks")
        shapes = {tuple(track.shape) for track in (*self.speech, self.effects, self.music) if track is not None}
        if len(shapes) > 1 or any(len(shape) != 2 or shape[0] != 1 or shape[1] < 1 for shape in shapes):
            raise ValueError(f"tracks have shapes {sorted(shapes)}; all must be [1, N] with one N")

    @property
    def samples(self) -> int:
        return self.speech[0].shape[1]

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def read_tracks(
    speech: Sequence[str | Path],
    effects: str | Path | None = None,
    music: str | Path | None = None,
    *,
    fps: float,
    rate: int = 16000,
    start: float = 0.0,
    end: float | None = None,
) -> Tracks:
    """Tracks from files of any rate, channels and sample format, between `start` and `end` seconds.

    They begin together and are aligned to the longest: one that is up to a video frame (1 / fps) shorter is
    filled with silence, with a warning. Without a speech file there is one silent speaker.
    Raises UserError naming the file if one is missing, broken, empty or holds NaN; naming both if one is more
    than a frame shorter than another; or if no file is given at all.
    """
    named = {"effects": effects, "music": music}
    paths = [*map(Path, speech), *(Path(path) for path in named.values() if path is not None)]
    if not paths:
        raise UserError("no track is given; at least one file of speech, effects or music is needed")
    sounds = [torch.from_numpy(read_audio(path, rate, True, start, end)) for path in paths]
    tracks = iter(_aligned(paths, sounds, rate, fps))
    voices = [next(tracks) for _ in speech]
    others = {name: None if path is None else next(tracks) for name, path in named.items()}
    if not voices:
        voices = [torch.zeros(1, max(sound.shape[1] for sound in sounds))]
    return Tracks(voices, **others, rate=rate)


def frames_of(tracks: Tracks, fps: float) -> int:
    """Video frames that the tracks last, round(seconds * fps), at least one."""
    return max(1, round(tracks.samples * fps / tracks.rate))


def features(tracks: Tracks, encoders: Mapping[str, AudioFeatures], frames: int, fps: float) -> dict[str, Tensor]:
    """Features per video frame; `encoders` has one for each of speech, effects and music (it may be the same).

    {"speech": [K, frames, window, layers, dim], "effects" and "music": [frames, window, layers, dim]}, float32;
    a silent track is zeros. ValueError if an encoder wants another sample rate than the tracks have.
    """
    for name in TRACKS:
        if encoders[name].sample_rate != tracks.rate:
            raise ValueError(f"the {name} encoder reads {encoders[name].sample_rate} Hz, the tracks have {tracks.rate}")
    silence = torch.zeros_like(tracks.speech[0])
    effects = silence if tracks.effects is None else tracks.effects
    music = silence if tracks.music is None else tracks.music
    return {
        "speech": encoders["speech"].encode(torch.stack(tracks.speech), frames, fps),
        "effects": encoders["effects"].encode(effects[None], frames, fps)[0],
        "music": encoders["music"].encode(music[None], frames, fps)[0],
    }


def clip_tracks(clip: Clip) -> tuple[list[Path], list[Path | None]]:
    """Files of a clip's speakers, in order, and those of its effects and music, None where it has none."""
    voices = [clip.tracks[track] for track in sorted(clip.tracks) if _SPEECH.fullmatch(track)]
    return voices, [clip.tracks.get(track) for track in TRACKS[1:]]


def clip_features(clip: Clip, frames: int, fps: float, encoders: Mapping[str, FrameFeatures]) -> dict[str, Tensor]:
    """Features of a clip's tracks over its first video frames, each without its neighbours, as shards keep them.

    {"speech": [K, frames, layers, dim], "effects" and "music": [frames, layers, dim]}; without a speech track there is
    one silent speaker. Raises UserError naming the clip for a track that cannot be read.
    """
    voices, others = clip_tracks(clip)
    rate, end = encoders["speech"].sample_rate, clip.start + frames / fps
    try:
        read = read_tracks(voices, *others, fps=fps, rate=rate, start=clip.start, end=end)
        windows = features(read, encoders, frames, fps)
    except (UserError, ValueError) as error:
        raise UserError(f"clip {clip.id!r}: {error}") from error
    return {track: windows[track].select(-3, encoders[track].window // 2) for track in TRACKS}


def _aligned(paths: list[Path], sounds: list[Tensor], rate: int, fps: float) -> list[Tensor]:
    """All as long as the longest; see `read_tracks`."""
    longest = max(range(len(sounds)), key=lambda i: sounds[i].shape[1])
    count = sounds[longest].shape[1]
    aligned = []
    for path, sound in zip(paths, sounds, strict=True):
        missing = count - sound.shape[1]
        lengths = f"{path} lasts {sound.shape[1] / rate:.3f} s, {paths[longest]} {count / rate:.3f} s"
        if missing > rate / fps + 1e-6:
            raise UserError(f"{lengths}; tracks of one video must be equally long, to a frame of {1 / fps:.3f} s")
        if missing:
            warnings.warn(f"{lengths}: the shorter is filled with silence", stacklevel=3)
            sound = torch.cat([sound, sound.new_zeros(1, missing)], 1)
        aligned.append(sound)
    return aligned
