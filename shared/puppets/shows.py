"""Scripts of the level `shows`: one to three shots, up to two people and three objects in every combination.

A show is a row of shots, each a script of its own; the light, the music and the people may stay over a cut.
"""

import itertools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from shared.puppets.draws import drifting_things, onsets_of
from shared.puppets.spec import (
    COLOURS,
    DURATIONS,
    FIRST_ONSET,
    FRAME_RATES,
    HELD_OUT_PAIRS,
    KINDS,
    LAST_ONSET,
    MOODS,
    MOST_COUNTED,
    ONSET_GAP,
    PERSONS,
    PITCHES,
    SIZES,
    Character,
    Prop,
    Span,
    Spec,
    Syllable,
)
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator

DURATION_ODDS = (0.1, 0.4, 0.1, 0.2, 0.05, 0.05, 0.1)
SHORTEST_SHOT = 1.0  # seconds
SHORTEST_TURN = 0.9  # seconds that one of two speakers talks at a time
MOST_SHOTS = 3
SECONDS, RATES = (1, 30), (12, 30)
"""Ranges of the lengths and the frame rates that clips may be given."""
ROOTS = (130.81, 174.61)
"""Hz of the music's root, C or F: few, so that the third of its chords tells major from minor."""


@dataclass(frozen=True)
class Show:
    """The shots of a clip, in order; they share id, frame rate and size."""

    shots: tuple[Spec, ...]

    @property
    def starts(self) -> tuple[float, ...]:
        """Seconds at which the shots begin."""
        return tuple(frames / self.shots[0].fps for frames in self.first_frames)

    @property
    def first_frames(self) -> tuple[int, ...]:
        """Numbers of the shots' first frames."""
        return tuple(sum(shot.frames for shot in self.shots[:i]) for i in range(len(self.shots)))


def usual(show: Show) -> Show:
    """Show the same as a held-out one with pairs and words that training clips have: what to compare it with."""
    return Show(tuple(_usual(shot) for shot in show.shots))


def _usual(shot: Spec) -> Spec:
    def other(kind: str, colour: str) -> str:
        return COLOURS[(COLOURS.index(colour) + 1) % len(COLOURS)] if HELD_OUT_PAIRS[kind] == colour else colour

    people = tuple(replace(c, shirt=other(c.kind, c.shirt)) for c in shot.characters)
    props = tuple(replace(p, colour=other(p.kind, p.colour)) for p in shot.props)
    return replace(shot, characters=people, props=props, held_out=False)


class Look(NamedTuple):
    """What stays of a person over a cut."""

    kind: str
    shirt: str
    pitch: float


def sample_show(
    seed: int, index: int, size: tuple[int, int], shots: int | None = None, fps: int | None = None,
    held_out: bool = False, seconds: int | None = None,
) -> Show:  # fmt: skip
    """Draw the show `index`. `shots`: so many at most; None: one to three. `fps`: 12 to 30; None: a common one.
    `held_out`: pairs and paraphrases that no training clip has. `seconds`, None: 1 to 8. UserError as `check_times`."""
    check_times(seconds, fps)
    rng = numpy_generator(seed, "clip", index, "shows", *(["held out"] if held_out else []))
    drawn = int(rng.choice(FRAME_RATES))
    fps = fps or drawn
    drawn = int(rng.choice(DURATIONS["shows"], p=DURATION_ODDS))
    frames = (seconds or drawn) * fps
    count = min(shots or MOST_SHOTS, int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12])), int(frames / fps / SHORTEST_SHOT))
    lengths = _lengths(rng, frames, count, int(np.ceil(SHORTEST_SHOT * fps)))
    made: list[Spec] = []
    for number, length in enumerate(lengths):
        stream = numpy_generator(seed, "clip", index, "shows", "shot", number, *(["held out"] if held_out else []))
        last = made[-1] if made else None
        made.append(_shot(stream, last, Spec(
            seed=seed, index=index, level="shows", size=size, fps=fps, frames=length, rate=16000, mood="",
            mood_mentioned=False, tempo=0.0, beat_phase=0.0, music=False, music_level=0.0, root=0.0, characters=(),
            props=(), distractors=(), pan=(0.0, 0.0), silence=None, caption_overrides=(), articulated=True,
            held_out=held_out, shot=number,
        )))  # fmt: skip
    return Show(tuple(made))


def check_times(seconds: int | None, fps: int | None) -> None:
    """Raise UserError for a length or a frame rate that no clip can be given."""
    for what, value, (low, high) in (("length", seconds, SECONDS), ("frame rate", fps, RATES)):
        if value is not None and not low <= value <= high:
            raise UserError(f"puppet {what} {value}: give a whole number from {low} to {high}")


def _lengths(rng: Generator, frames: int, count: int, least: int) -> list[int]:
    """Frames of each shot, at least `least`, uniform over all cuts that keep it."""
    cuts = np.sort(rng.integers(0, frames - count * least + 1, count - 1)) + least * np.arange(1, count)
    return np.diff([0, *cuts.tolist(), frames]).tolist()


def _shot(rng: Generator, last: Spec | None, empty: Spec) -> Spec:
    """Draw a shot into the script `empty`; `last`: the shot before it."""
    spec = _ambience(rng, last, empty)
    while True:
        people, duration = int(rng.choice(3, p=[0.15, 0.4, 0.45])), spec.duration
        stays = last is not None and len(last.characters) == people and rng.random() < 0.5
        looks = [Look(c.kind, c.shirt, c.pitch) for c in last.characters] if last and stays else _looks(rng, people)
        characters = _characters(rng, looks, duration)
        taken = [c.side for c in characters if c.visible]
        props = _props(rng, taken, duration)
        made = replace(
            spec, characters=characters, props=props, distractors=drifting_things(rng, duration),
            pan=(rng.uniform(-0.05, 0.0), rng.uniform(0.0, 0.05)) if rng.random() < 0.2 else (0.0, 0.0),
        )  # fmt: skip
        made = _with_pairs(rng, made) if spec.held_out else made
        if (props or any(c.syllables for c in characters)) and (not spec.held_out or held_out_pairs(made)):
            return made


def _ambience(rng: Generator, last: Spec | None, spec: Spec) -> Spec:
    mood = MOODS[rng.integers(4)]
    tempo = rng.uniform(132, 152) if mood.endswith("bright") else rng.uniform(64, 80)
    drawn = replace(
        spec, mood=mood, mood_mentioned=bool(rng.random() < 0.8), tempo=tempo, beat_phase=rng.random(),
        music=bool(rng.random() < 0.9), music_level=rng.uniform(-30, -26),
        root=ROOTS[rng.integers(2)], music_mentioned=bool(rng.random() < 0.3),
    )  # fmt: skip
    drawn = replace(drawn, music_mentioned=drawn.music and drawn.music_mentioned)
    if last is None or rng.random() < 0.5:
        return drawn
    phase = (last.beat_phase - last.duration * last.tempo / 60) % 1
    return replace(
        drawn, mood=last.mood, tempo=last.tempo, beat_phase=phase, root=last.root, music=last.music,
        music_level=last.music_level, music_mentioned=last.music and drawn.music_mentioned,
    )  # fmt: skip


def _looks(rng: Generator, count: int) -> list[Look]:
    kinds = [PERSONS[rng.integers(2)] for _ in range(count)]
    return [Look(kind, _colour(rng, kind), rng.uniform(*PITCHES[kind])) for kind in kinds]


def _colour(rng: Generator, kind: str) -> str:
    """Draw a colour that training clips have with this kind."""
    return [colour for colour in COLOURS if colour != HELD_OUT_PAIRS[kind]][rng.integers(len(COLOURS) - 1)]


def _characters(rng: Generator, looks: list[Look], duration: float) -> tuple[Character, ...]:
    """People in any order of sides; each speaks or not, two of them in turns."""
    sides = [("left", "right")[i] for i in rng.permutation(2)]
    talk = rng.random()
    speaking = [talk < 0.85] if len(looks) == 1 else [talk < 0.65, talk < 0.4 or 0.65 <= talk < 0.9]
    if sum(speaking) == 2 and duration < 2 * SHORTEST_TURN:
        speaking[int(rng.integers(2))] = False
    turns = _turns(rng, duration) if sum(speaking) == 2 else [[(0.0, duration)]] * 2
    characters: list[Character] = []
    for look, side, speaks, mine in zip(looks, sides, speaking, turns, strict=False):
        syllables = tuple(s for span in mine for s in _syllables(rng, span)) if speaks else ()
        mentioned = tuple(name for name, odds in (("shirt", 0.9), ("side", 0.75)) if rng.random() < odds)
        visible = not (syllables and rng.random() < 0.1 and all(c.visible for c in characters))
        characters.append(Character(look.kind, side, look.shirt, look.pitch, visible, syllables, mentioned))
    return tuple(characters)


def _turns(rng: Generator, duration: float) -> list[list[Span]]:
    """Spans of both speakers: they alternate two to four times."""
    count = int(rng.integers(2, max(2, min(4, int(duration / SHORTEST_TURN))) + 1))
    slack = duration - count * SHORTEST_TURN
    cuts = np.sort(rng.uniform(0, slack, count - 1)) + SHORTEST_TURN * np.arange(1, count)
    ends = [0.0, *cuts.tolist(), duration]
    spans = list(itertools.pairwise(ends))
    first = int(rng.integers(2))
    return [spans[first::2], spans[1 - first :: 2]]


def _syllables(rng: Generator, span: Span) -> list[Syllable]:
    """Speech inside `span`: at least one syllable; each long enough for two frames at the slowest rate."""
    syllables: list[Syllable] = []
    t = span[0] + rng.uniform(0.03, 0.25)
    while True:
        length = rng.uniform(0.18, 0.32)
        if t + length > span[1] - 0.02:
            return syllables
        glide = rng.uniform(0.96, 1.04)
        vowel, loudness = int(rng.integers(5)), rng.uniform(0.55, 1.0)
        syllables.append(Syllable(t, t + length, loudness, vowel, (glide, glide * rng.uniform(0.96, 1.04))))
        t += length + (rng.uniform(0.25, 0.5) if rng.random() < 0.14 else rng.uniform(0.03, 0.1))


def _props(rng: Generator, taken: list[str], duration: float) -> tuple[Prop, ...]:
    """Up to three objects of different kinds in free places; without a free place, offscreen."""
    most = int((duration - FIRST_ONSET - LAST_ONSET) / ONSET_GAP) + 1
    count = min(int(rng.choice(4, p=[0.1, 0.35, 0.35, 0.2])), most)
    if not count:
        return ()
    free = [slot for slot in ("left", "centre", "right") if slot not in taken]
    free = [free[i] for i in rng.permutation(len(free))]
    onsets = onsets_of(rng, count, duration, None)
    owners = np.concatenate([rng.permutation(count), rng.integers(count, size=len(onsets))])[: len(onsets)]
    props = []
    for i, kind in enumerate(str(kind) for kind in rng.permutation(KINDS)[:count]):
        visible = i < len(free) and not rng.random() < 0.1
        told = (("size", 0.85), ("colour", 0.9), ("side", 0.5 * visible), ("count", 0.75))
        mine = tuple(onsets[owners == i].tolist())
        mentioned = tuple(name for name, odds in told if rng.random() < odds)
        mentioned = tuple(name for name in mentioned if name != "count" or len(mine) <= MOST_COUNTED)
        slot = free[i] if i < len(free) else "centre"
        props.append(Prop(kind, SIZES[rng.integers(2)], _colour(rng, kind), slot, visible, mine, mentioned))
    return tuple(props)


def held_out_pairs(spec: Spec) -> list[tuple[str, str]]:
    """Pairs of colour and kind that training clips never have, and that this script has and mentions."""
    pairs = [(p.colour, p.kind) for p in spec.props if "colour" in p.mentioned]
    pairs += [(c.shirt, c.kind) for c in spec.characters if c.visible and "shirt" in c.mentioned]
    return [(colour, kind) for colour, kind in pairs if HELD_OUT_PAIRS[kind] == colour]


def _with_pairs(rng: Generator, spec: Spec) -> Spec:
    """Give every second person and object the colour that its kind never has in training."""
    props = [replace(p, colour=HELD_OUT_PAIRS[p.kind]) if rng.random() < 0.5 else p for p in spec.props]
    people = [replace(c, shirt=HELD_OUT_PAIRS[c.kind]) if rng.random() < 0.5 else c for c in spec.characters]
    return replace(spec, props=tuple(props), characters=tuple(people))
