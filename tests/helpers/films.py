"""Films of the toy world, of known truth: clips joined by cuts, fades to black and title cards, with voice-overs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.media_write import write_video
from shared.puppets.clip import render_clip
from shared.puppets.picture import SLOTS
from shared.puppets.script import Spec, sample_spec
from shared.utils.levels import is_silent

FPS, RATE, SIZE, SECONDS = 24, 16000, (64, 96), 2
LEAST_SPEECH, MOST_VOICE_OVER = 0.1, 0.5
"""Shares that make a voice-over, as the configuration has them."""
FADE = 12  # frames on each side of black


@dataclass
class Segment:
    """A clip of a film: its first frame and the one after its last, as they are bright, how it begins, and its truth;
    `voice_over`: most of what is said is of nobody who is seen."""

    first: int
    after: int
    begins: str  # start, cut or fade
    title: bool = False
    voice_over: bool = False
    truth: dict[str, Any] = field(default_factory=dict)
    stems: dict[str, np.ndarray] = field(default_factory=dict)
    faces: list[float] = field(default_factory=list)  # x of those that are seen, left to right
    talks: list[bool] = field(default_factory=list)  # whether each of them is heard

    @property
    def subsets(self) -> list[str]:
        """By the rules of `shared.curation.subsets`, of what is truly there."""
        alone = len(self.faces) == 1 and self.talks[0]
        heard = {name: not is_silent(stem) for name, stem in self.stems.items()}
        holds = {
            "basic_face": alone and not heard["effects"], "single_character": alone,
            "multiple_characters": len(self.faces) > 1 and any(self.talks),
            "sound_event": heard["effects"], "ambience": heard["music"],
        }  # fmt: skip
        return [name for name, is_true in holds.items() if is_true]


def make_film(path: Path, seed: int, count: int, level: str = "full", seconds: int = SECONDS) -> list[Segment]:
    """Write a film of `count` segments to an mp4, and tell its truth. Every fourth begins by a fade, every sixth is a
    title card, every fifth of the others has another one's voice."""
    pictures: list[np.ndarray] = []
    sounds: list[np.ndarray] = []
    segments: list[Segment] = []
    at = 0
    for index in range(count):
        frames, sound, segment = _segment(seed, index, level, seconds)
        begins = "start" if not index else "fade" if index % 4 == 3 else "cut"
        segment.begins, segment.first, segment.after = begins, at, at + len(frames)
        if begins == "fade":
            _fade(pictures[-1][-FADE:], sounds[-1], frames[:FADE], sound)
            segment.first += FADE
            segments[-1].after -= FADE
        at += len(frames)
        pictures.append(frames)
        sounds.append(sound)
        segments.append(segment)
    for segment in segments:
        _settle(segment)
    write_video(path, np.concatenate(pictures), FPS, np.concatenate(sounds)[None], RATE)
    return segments


def cuts(segments: Sequence[Segment]) -> list[int]:
    """First frames of the segments that begin by a cut."""
    return [segment.first for segment in segments if segment.begins == "cut"]


def fades(segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """Frames from which and until which the film fades."""
    return [(segment.first - 2 * FADE, segment.first) for segment in segments if segment.begins == "fade"]


def _segment(seed: int, index: int, level: str, seconds: int) -> tuple[np.ndarray, np.ndarray, Segment]:
    if index % 6 == 4:
        return _title(seed, index, seconds), np.zeros(seconds * RATE, np.float32), Segment(0, 0, "", title=True)
    spec = sample_spec(seed, index, level, SIZE, fps=FPS, seconds=seconds)
    clip = render_clip(spec)
    stems = dict(clip.stems)
    if index % 5 == 2:
        stems = {name: stem for name, stem in stems.items() if not name.startswith("speech")}
        others = render_clip(_speaking(seed, level, seconds)).stems
        stems |= {f"over_{name}": stem for name, stem in others.items() if name.startswith("speech")}
    sound = np.sum(list(stems.values()), axis=0, dtype=np.float32)
    return clip.frames, sound, Segment(0, 0, "", truth=clip.truth, stems=stems)


def _settle(segment: Segment) -> None:
    """Leave of the truth what is seen and heard between fades."""
    if segment.title:
        segment.stems = {"effects": np.zeros(1), "music": np.zeros(1)}
        return
    start = FADE if segment.begins == "fade" else 0
    span = slice(start * RATE // FPS, (start + segment.after - segment.first) * RATE // FPS)
    segment.stems = {name: stem[span] for name, stem in segment.stems.items()}
    seen = sorted(
        (SLOTS[person["side"]], f"speech{number}")
        for number, person in enumerate(segment.truth["characters"], start=1) if person["visible"]
    )  # fmt: skip
    segment.faces = [x for x, _ in seen]
    voices = {name: _active(stem) for name, stem in segment.stems.items() if "speech" in name}
    spoken = np.any(list(voices.values()), axis=0)
    theirs = np.any([voices[name] for _, name in seen if name in voices] or [np.zeros(len(spoken), bool)], axis=0)
    nobodys = float((spoken & ~theirs).sum() / max(1, spoken.sum()))
    segment.voice_over = bool(spoken.mean() >= LEAST_SPEECH and nobodys > MOST_VOICE_OVER)
    segment.talks = [name in segment.stems and not is_silent(segment.stems[name]) for _, name in seen]


def _active(stem: np.ndarray) -> np.ndarray:
    """Frames in which a stem is not silent."""
    size = RATE // FPS
    return np.array([not is_silent(stem[at : at + size]) for at in range(0, len(stem) - size + 1, size)])


def _speaking(seed: int, level: str, seconds: int) -> Spec:
    """The first script beyond those of a film in which somebody speaks."""
    numbers = range(1000, 1100)
    specs = (sample_spec(seed, number, level, SIZE, fps=FPS, seconds=seconds) for number in numbers)
    return next(spec for spec in specs if any(person.syllables for person in spec.characters))


def _title(seed: int, index: int, seconds: int) -> np.ndarray:
    """A dark picture that stands still, with bars of light where words would be."""
    rng = np.random.default_rng([seed, index])
    card = np.full((*SIZE, 3), rng.integers(24, 60, 3), np.uint8)
    for row in range(20, 44, 8):
        card[row : row + 4, 20 : 20 + int(rng.integers(20, 56))] = 220
    return np.repeat(card[None], seconds * FPS, 0)


def _fade(before: np.ndarray, sound_before: np.ndarray, after: np.ndarray, sound_after: np.ndarray) -> None:
    """Darken the ends of two segments, in place."""
    light = np.linspace(0, 1, FADE)[:, None, None, None]
    before[:] = (before * light[::-1]).round()
    after[:] = (after * light).round()
    ramp = np.linspace(0, 1, FADE * RATE // FPS, dtype=np.float32)
    sound_before[-len(ramp) :] *= ramp[::-1]
    sound_after[: len(ramp)] *= ramp
