"""Scripts of the puppets: who stands where, who speaks when, what sounds when. Drawn from a seed, nothing rendered."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]
Span = tuple[float, float]

LEVELS = ("simple", "full")
HELD_OUT_SEED = 900001
"""Seed of the clips that the evaluation measures on. `make_puppets.py` must not be given it for training data."""
COLOURS = ("red", "green", "blue", "yellow")
PERSONS = ("man", "woman")
KINDS = ("ball", "bell", "drum")
SIZES = ("big", "small")
MOODS = ("warm bright", "cold dark", "warm dark", "cold bright")
"""The first two on `simple`, all on `full`; neighbours are opposites. Warm is major, cold minor; bright is fast."""
FRAME_RATES = (12, 15, 16, 24, 25, 30)
LONG_DURATIONS = (3, 4, 5, 6, 8)
DURATIONS = {"simple": (2,), "full": (2, *LONG_DURATIONS)}
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
    """The script of one clip. `caption_overrides` replaces true attributes in the captions of the conflict set."""

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

    @property
    def id(self) -> str:
        return f"stage-{self.level}-{self.seed}-{self.index:06d}"

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


def sample_spec(
    seed: int, index: int, level: str = "simple", size: int | tuple[int, int] = 64, conflict: float = 0.0
) -> Spec:
    """Draw the script of clip `index`. `conflict`: fraction of clips whose text contradicts sound and picture; they
    measure and must not train. UserError for a level, an index, a size or a fraction that there is not."""
    size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if level not in LEVELS:
        raise UserError(f"puppet level '{level}' is unknown: give one of {', '.join(LEVELS)}")
    if index < 0:
        raise UserError(f"puppet clip index {index}: give 0 or more")
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise UserError(f"puppet size {size[0]}x{size[1]}: height and width must be even and at least 32")
    if not 0 <= conflict <= 1:
        raise UserError(f"puppet conflict fraction {conflict}: give a number from 0 to 1")
    rng = numpy_generator(seed, "clip", index, level)
    full = level == "full"
    fps = int(rng.choice(FRAME_RATES)) if full else 16
    duration = int(rng.choice(LONG_DURATIONS)) if full and rng.random() < 0.5 else 2
    silence = None
    if full and rng.random() < 0.25:
        length = rng.uniform(0.25, 0.4) * duration
        start = rng.uniform(0.35 * duration, duration - length)
        silence = start, start + length
    speaking, objects = _cast(rng, full)
    characters = _characters(rng, speaking, full, duration, silence)
    props = _props(rng, objects, [c.side for c in characters if c.visible], full, duration, silence)
    mood = MOODS[rng.integers(4 if full else 2)]
    tempo = rng.uniform(132, 152) if mood.endswith("bright") else rng.uniform(64, 80)
    spec = Spec(
        seed=seed, index=index, level=level, size=size, fps=fps, frames=duration * fps, rate=16000,
        mood=mood, mood_mentioned=not full or bool(rng.random() < 0.85), tempo=tempo, beat_phase=rng.random(),
        music=bool(rng.random() < 0.9), music_level=rng.uniform(-30, -26), root=130.81 * 2 ** (rng.integers(8) / 12),
        characters=characters, props=props, distractors=_distractors(rng, duration) if full else (),
        pan=(rng.uniform(-0.05, 0.0), rng.uniform(0.0, 0.05)) if full and rng.random() < 0.3 else (0.0, 0.0),
        silence=silence, caption_overrides=(),
    )  # fmt: skip
    return _contradict(spec, rng) if rng.random() < conflict else spec


def _cast(rng: Generator, full: bool) -> tuple[list[bool], int]:
    """Cast a clip: whether each of its people speaks, and the number of objects; something always sounds."""
    while True:
        if full:
            people, objects = int(rng.choice(3, p=[0.2, 0.45, 0.35])), int(rng.choice(3, p=[0.15, 0.6, 0.25]))
            talk = rng.random()
            first = bool(rng.random() < 0.5)
            both = talk < 0.35
            speaking = [both or first, both or not first] if talk < 0.9 else [False, False]
            if people == 1:
                speaking = [talk < 0.85]
        else:
            people, objects = int(rng.random() < 0.8), int(rng.random() < 0.85)
            speaking = [bool(rng.random() < 0.9 or not objects)]
        speaking = speaking[:people]
        if any(speaking) or objects:
            return speaking, objects


def _characters(
    rng: Generator, speaking: list[bool], full: bool, duration: float, silence: Span | None
) -> tuple[Character, ...]:
    sides = ["left", "right"] if len(speaking) == 2 else [("left", "right")[rng.integers(2)]]
    hole = silence or (duration, duration)
    length = duration - (hole[1] - hole[0])
    split = length * rng.uniform(0.4, 0.6)
    turns = [(0.0, split), (split, length)][:: 1 if rng.random() < 0.5 else -1]
    characters: list[Character] = []
    for i, speaks in enumerate(speaking):
        kind = PERSONS[rng.integers(2)]
        syllables = _syllables(rng, turns[i] if sum(speaking) == 2 else (0.0, length), hole) if speaks else ()
        mentioned = tuple(name for name in ("shirt", "side") if not full or rng.random() < 0.85)
        visible = not (full and syllables and rng.random() < 0.12 and all(c.visible for c in characters))
        shirt, pitch = COLOURS[rng.integers(4)], rng.uniform(*PITCHES[kind])
        characters.append(Character(kind, sides[i], shirt, pitch, visible, syllables, mentioned))
    return tuple(characters)


def _syllables(rng: Generator, span: Span, hole: Span) -> tuple[Syllable, ...]:
    """Random speech inside `span`; times from hole[0] on are moved behind the silent `hole`, none straddles it."""
    syllables: list[Syllable] = []
    t = span[0] + rng.uniform(0.03, 0.35)
    while True:
        length = rng.uniform(0.12, 0.26)
        if t < hole[0] < t + length:
            t = hole[0]
        if t + length > span[1] - 0.02:
            return tuple(syllables)
        start = t + (hole[1] - hole[0] if t >= hole[0] else 0.0)
        glide = rng.uniform(0.92, 1.12)
        loudness, vowel = rng.uniform(0.45, 1.0), int(rng.integers(5))
        syllables.append(Syllable(start, start + length, loudness, vowel, (glide, glide * rng.uniform(0.88, 1.04))))
        t += length + (rng.uniform(0.25, 0.5) if rng.random() < 0.14 else rng.uniform(0.02, 0.09))


def _props(
    rng: Generator, count: int, taken: list[str], full: bool, duration: float, silence: Span | None
) -> tuple[Prop, ...]:
    """Objects of different kinds in free places (simple: opposite the person); without a free place, offscreen."""
    if not count:
        return ()
    free = [slot for slot in ("left", "right", "centre") if slot not in taken]
    free = [free[i] for i in rng.permutation(len(free))] if full else [free[0] if taken else free[rng.integers(2)]]
    onsets = _onsets(rng, count, duration, silence)
    owners = np.concatenate([rng.permutation(count), rng.integers(count, size=len(onsets))])[: len(onsets)]
    props = []
    for i, kind in enumerate(rng.permutation(KINDS)[:count]):
        visible = i < len(free) and not (full and rng.random() < 0.15)
        mentioned = [name for name in ("size", "colour") if not full or rng.random() < 0.85]
        mine = tuple(onsets[owners == i].tolist())
        mentioned += ["count"] if rng.random() < 0.5 and len(mine) <= MOST_COUNTED else []
        size, colour = SIZES[rng.integers(2)], COLOURS[rng.integers(4)]
        slot = free[i] if i < len(free) else "centre"
        props.append(Prop(str(kind), size, colour, slot, visible, mine, tuple(mentioned)))
    return tuple(props)


def _onsets(rng: Generator, least: int, duration: float, silence: Span | None) -> Array:
    """1-3 onsets per 2 s, uniform over all sets of times that keep ONSET_GAP and the silent span (and 0.3 s before)."""
    hole = (silence[0] - 0.3, silence[1]) if silence else (duration, duration)
    length = duration - (hole[1] - hole[0]) - FIRST_ONSET - LAST_ONSET
    count = max(least, round(rng.uniform(0.5, 3.5) * duration / 2 * length / (duration - FIRST_ONSET - LAST_ONSET)))
    count = min(count, int(length / ONSET_GAP) + 1)
    slack = length - (count - 1) * ONSET_GAP
    times = np.sort(rng.uniform(0, slack, count)) + FIRST_ONSET + ONSET_GAP * np.arange(count)
    return times + np.where(times >= hole[0], hole[1] - hole[0], 0.0)


def _distractors(rng: Generator, duration: float) -> tuple[Distractor, ...]:
    if rng.random() >= 0.3:
        return ()
    direction = 1 if rng.random() < 0.5 else -1
    speed = direction * rng.uniform(0.6, 1.0) / duration
    kind, colour = ("cloud", "balloon")[rng.integers(2)], COLOURS[rng.integers(4)]
    x, y = 0.5 - direction * rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.2)
    return (Distractor(kind, colour, x, y, speed, mentioned=bool(rng.random() < 0.5)),)


def _contradict(spec: Spec, rng: Generator) -> Spec:
    """Let the text name another mood, object or speaker than picture and sound have, if just one of those sounds."""
    choices = []
    if spec.music:
        choices.append(("mood", MOODS[MOODS.index(spec.mood) ^ 1]))
    if len(spec.props) == 1:
        choices.append(("object", str(rng.choice([kind for kind in KINDS if kind != spec.props[0].kind]))))
    if len(spec.characters) == 1 and spec.characters[0].syllables:
        choices.append(("person", PERSONS[1 - PERSONS.index(spec.characters[0].kind)]))
    if not choices:
        return spec
    return replace(spec, mood_mentioned=True, caption_overrides=(choices[rng.integers(len(choices))],))
