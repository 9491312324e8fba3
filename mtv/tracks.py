"""The user's tracks of one video, speech per speaker, effects and music: read, aligned and turned into features.

A track that is not given is silence, exact zeros in the features. One *dropped* for guidance is another thing (the
control network's learned null).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.data.in_memory import SoundInput, as_sound
from shared.data.manifest import Clip
from shared.data.media import read_mono
from shared.encoders.audio import AudioFeatures, FrameFeatures
from shared.utils.errors import UserError
from shared.utils.levels import is_silent, why_cancelled

TRACKS = ("speech", "effects", "music")
_SPEECH = re.compile(r"speech[1-9]?")


@dataclass(frozen=True)
class Tracks:
    """Mono tracks [1, N] in [-1, 1] at `rate` Hz, speech by speaker, None: silent. ValueError if shapes differ."""

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
    def seconds(self) -> float:
        return self.speech[0].shape[1] / self.rate

    def mix(self) -> Tensor:
        """[1, N]: all together, turned down as a whole where they are beyond full scale."""
        others = [track for track in (self.effects, self.music) if track is not None]
        total = torch.cat([*self.speech, *others]).sum(0, keepdim=True)
        return total / max(1.0, float(total.abs().max()))

    def with_speakers(self, least: int) -> Tracks:
        """Complete the speakers, up to so many, by silent ones."""
        missing = [torch.zeros_like(self.speech[0])] * (least - len(self.speech))
        return replace(self, speech=[*self.speech, *missing])


def read_tracks(
    speech: Sequence[SoundInput | None],
    effects: SoundInput | None = None,
    music: SoundInput | None = None,
    *,
    fps: float | None = None,
    rate: int = 16000,
    start: float = 0.0,
    end: float | None = None,
) -> Tracks:
    """Read tracks, of any rate, channels and sample format, between `start` and `end` seconds.

    They begin together; those that are shorter than the longest are filled with silence, with a warning, or refused if
    they lack more than a video frame of `fps`. Channels that cancel each other are warned of, too. A speaker who is
    None is silent; without any there is a silent one. UserError for no track at all, and for one that is missing,
    broken, empty or holds NaN.
    """
    asked = [("speech" if k == 0 else f"speech{k + 1}", one) for k, one in enumerate(speech)]
    asked += [("effects", effects), ("music", music)]
    named = [(str(one) if isinstance(one, str | Path) else name, one) for name, one in asked if one is not None]
    if not named:
        raise UserError("no track is given; at least one of speech, effects or music is needed")
    sounds = [_read(one, name, rate, start, end) for name, one in named]
    tracks, count = [], max(sound.shape[1] for sound in sounds)
    longest = next(name for (name, _), sound in zip(named, sounds, strict=True) if sound.shape[1] == count)
    for (name, _), sound in zip(named, sounds, strict=True):
        missing = count - sound.shape[1]
        lengths = f"{name} lasts {sound.shape[1] / rate:.3f} s, {longest} {count / rate:.3f} s"
        if fps is not None and missing > rate / fps + 1e-6:
            raise UserError(f"{lengths}; tracks of one video must be equally long, to a frame of {1 / fps:.3f} s")
        if missing:
            warnings.warn(f"{lengths}: the shorter is filled with silence", stacklevel=2)
        tracks.append(nn.functional.pad(sound, (0, missing)))
    silence, read = torch.zeros_like(tracks[0]), iter(tracks)
    voices = [silence if one is None else next(read) for one in speech]
    others = {name: None if one is None else next(read) for name, one in (("effects", effects), ("music", music))}
    return Tracks(voices or [silence], **others, rate=rate)


def _read(given: SoundInput, name: str, rate: int, start: float, end: float | None) -> Tensor:
    """[1, N] at `rate` Hz."""
    if isinstance(given, str | Path):
        samples, loudest = read_mono(given, rate, start, end)
        if reason := why_cancelled(samples, loudest):
            warnings.warn(f"{given}: {reason}", stacklevel=3)
        return torch.from_numpy(samples)
    sound = as_sound(given, rate, name=name)[:, 0]
    if len(sound) != 1:
        raise UserError(f"{name}: {len(sound)} sounds; one is needed, or give each prompt its own Tracks")
    sound = sound[:, round(start * rate) : None if end is None else round(end * rate)]
    if not sound.shape[1]:
        raise UserError(f"{name}: no samples between {start:g} and {end} s; a longer sound is needed")
    return sound.clamp(-1, 1)


def frames_of(tracks: Tracks, fps: float) -> int:
    """Count the video frames that the tracks last, round(seconds * fps), at least one."""
    return max(1, round(tracks.speech[0].shape[1] * fps / tracks.rate))


def features(tracks: Tracks, encoders: Mapping[str, AudioFeatures], frames: int, fps: float) -> dict[str, Tensor]:
    """Encode the tracks per video frame; `encoders` has one for each of speech, effects and music.

    {"speech": [K, frames, window, layers, dim], "effects" and "music": [frames, window, layers, dim]}, float32; silence
    is zeros. UserError if an encoder wants another sample rate than the tracks have.
    """
    for name in TRACKS:
        if (rate := encoders[name].sample_rate) != tracks.rate:
            raise UserError(f"the tracks have {tracks.rate} Hz, the {name} encoder needs {rate} Hz: resample them")
    features = {"speech": encoders["speech"].encode(torch.stack(tracks.speech), frames, fps)}
    for name, track in (("effects", tracks.effects), ("music", tracks.music)):
        sound = torch.zeros_like(tracks.speech[0]) if track is None else track
        features[name] = encoders[name].encode(sound[None], frames, fps)[0]
    return features


def clip_tracks(clip: Clip) -> tuple[list[Path], list[Path | None]]:
    """List the files of a clip's speakers, in order, and those of its effects and music, None where it has none."""
    voices = [clip.tracks[track] for track in sorted(clip.tracks) if _SPEECH.fullmatch(track)]
    return voices, [clip.tracks.get(track) for track in TRACKS[1:]]


def clip_parts(clip: Clip, frames: int, fps: float, rate: int) -> dict[str, Tensor]:
    """Read what of a clip can be a given part: "speech", all speakers together, and "effects", where they sound.

    Each is [1, N] at `rate` Hz, as long as so many video frames, N = round(frames / fps · rate). UserError names the
    clip.
    """
    voices, (effects, _) = clip_tracks(clip)
    if not voices and effects is None:
        return {}
    try:
        tracks = read_tracks(voices, effects, fps=fps, rate=rate, start=clip.start, end=clip.start + frames / fps)
    except UserError as error:
        raise UserError(f"clip {clip.id!r}: {error}") from error
    count = round(frames / fps * rate)
    given = {"speech": torch.stack(tracks.speech).sum(0).clamp(-1, 1), "effects": tracks.effects}
    heard = {name: sound for name, sound in given.items() if sound is not None and not is_silent(sound.numpy())}
    return {
        name: nn.functional.pad(sound, (0, max(0, count - sound.shape[1])))[:, :count] for name, sound in heard.items()
    }


def clip_features(clip: Clip, frames: int, fps: float, encoders: Mapping[str, FrameFeatures]) -> dict[str, Tensor]:
    """Encode a clip's tracks over its first video frames, each without its neighbours, as shards keep them.

    {"speech": [K, frames, layers, dim], "effects" and "music": [frames, layers, dim]}. UserError names the clip.
    """
    voices, others = clip_tracks(clip)
    rate, end = encoders["speech"].sample_rate, clip.start + frames / fps
    try:
        tracks = read_tracks(voices, *others, fps=fps, rate=rate, start=clip.start, end=end)
        windows = features(tracks, encoders, frames, fps)
    except (UserError, ValueError) as error:
        raise UserError(f"clip {clip.id!r}: {error}") from error
    return {track: windows[track].select(-3, encoders[track].window // 2) for track in TRACKS}
