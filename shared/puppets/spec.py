"""What a script of the puppets is made of: people, objects, syllables, and the constants that scripts keep to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Span = tuple[float, float]

LEVELS = ("simple", "full", "shows")
HELD_OUT_SEED = 900001
"""Seed of the clips that the evaluation measures on. `make_puppets.py` must not be given it for training data."""
COLOURS = ("red", "green", "blue", "yellow")
PERSONS = ("man", "woman")
KINDS = ("ball", "bell", "drum")
SIZES = ("big", "small")
MOODS = ("warm bright", "cold dark", "warm dark", "cold bright")
"""The first two on `simple`, all on the others; neighbours are opposites. Warm is major, cold minor; bright is fast."""
HELD_OUT_PAIRS = {"ball": "blue", "bell": "green", "drum": "yellow", "man": "yellow", "woman": "red"}
"""The colour that no object and no shirt of this kind has in training clips of `shows`."""
FRAME_RATES = (12, 15, 16, 24, 25, 30)
LONG_DURATIONS = (3, 4, 5, 6, 8)
DURATIONS = {"simple": (2,), "full": (2, *LONG_DURATIONS), "shows": (1, 2, *LONG_DURATIONS)}
"""Seconds that the clips of a level may last."""
MOST_COUNTED = 6  # a count above it is never mentioned
FIRST_ONSET, LAST_ONSET, ONSET_GAP = 0.2, 0.15, 0.35
"""Seconds: earliest onset, least distance from the end, least distance between two onsets."""
PITCHES = {"man": (108.0, 130.0), "woman": (200.0, 230.0)}


@dataclass(frozen=True)
class Syllable:
    start: float
    end: float
    loudness: float
    vowel: int
    glide: Span


@dataclass(frozen=True)
class Character:
    """A person; `visible` False means offscreen. `mentioned` names what the caption says about them."""

    kind: str
    side: str
    shirt: str
    pitch: float
    visible: bool
    syllables: tuple[Syllable, ...]
    mentioned: tuple[str, ...]


@dataclass(frozen=True)
class Prop:
    """An object that sounds at its onsets (seconds); `visible` False means offscreen."""

    kind: str
    size: str
    colour: str
    slot: str
    visible: bool
    onsets: tuple[float, ...]
    mentioned: tuple[str, ...]


@dataclass(frozen=True)
class Distractor:
    """A silent thing that drifts through the picture: centre x + speed·t, y in scene units."""

    kind: str
    colour: str
    x: float
    y: float
    speed: float
    mentioned: bool


@dataclass(frozen=True)
class Spec:
    """The script of one clip, or of one shot of a show. `caption_overrides` replaces true attributes in the captions of
    the conflict set. `articulated`: mouths and voices differ by vowel. `held_out`: made of what training never has.
    `style`: how it looks and sounds (`shared.puppets.styles`); `style_mentioned`: the captions name it."""

    seed: int
    index: int
    level: str
    size: tuple[int, int]
    fps: int
    frames: int
    rate: int
    mood: str
    mood_mentioned: bool
    tempo: float
    beat_phase: float
    music: bool
    music_level: float
    root: float
    characters: tuple[Character, ...]
    props: tuple[Prop, ...]
    distractors: tuple[Distractor, ...]
    pan: Span
    silence: Span | None
    caption_overrides: tuple[tuple[str, str], ...]
    articulated: bool = False
    held_out: bool = False
    music_mentioned: bool = False
    shot: int = 0
    style: str = "stage"
    style_mentioned: bool = False

    @property
    def id(self) -> str:
        return f"{self.style}-{self.level}-{self.seed}-{self.index:06d}" + (f".{self.shot}" if self.shot else "")

    @property
    def duration(self) -> float:
        """Seconds; exactly frames / fps."""
        return self.frames / self.fps

    @property
    def samples(self) -> int:
        return round(self.frames * self.rate / self.fps)

    @property
    def mode(self) -> str:
        return "major" if self.mood.startswith("warm") else "minor"

    def frame_times(self) -> Array:
        """Seconds of the frames, k / fps, [T]."""
        return np.arange(self.frames) / self.fps

    def pan_offsets(self) -> Array:
        """Camera's x at the frame times, scene units, [T]: a slow swing from `pan[0]` to `pan[1]`."""
        along = np.arange(self.frames) / max(1, self.frames - 1)
        return self.pan[0] + (self.pan[1] - self.pan[0]) * (0.5 - 0.5 * np.cos(np.pi * along))
