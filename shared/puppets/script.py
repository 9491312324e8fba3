"""Scripts of the puppets: who stands where, who speaks when, what sounds when. Drawn from a seed, nothing rendered."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from shared.puppets.draws import drifting_things, onsets_of
from shared.puppets.shows import SHORTEST_TURN, check_times, sample_show
from shared.puppets.spec import (
    COLOURS,
    FIRST_ONSET,
    FRAME_RATES,
    HELD_OUT_SEED,
    KINDS,
    LAST_ONSET,
    LEVELS,
    LONG_DURATIONS,
    MOODS,
    MOST_COUNTED,
    ONSET_GAP,
    PERSONS,
    PITCHES,
    SIZES,
    Character,
    Distractor,
    Prop,
    Span,
    Spec,
    Syllable,
)
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator

__all__ = [
    "COLOURS", "FIRST_ONSET", "HELD_OUT_SEED", "KINDS", "LAST_ONSET", "LEVELS", "MOODS", "ONSET_GAP", "PERSONS",
    "SIZES", "Character", "Distractor", "Prop", "Spec", "Syllable", "sample_spec",
]  # fmt: skip

SHORTEST_SILENCED = 2  # seconds of a clip that has room for a silent span beside what sounds


def sample_spec(
    seed: int, index: int, level: str = "simple", size: int | tuple[int, int] = 64, conflict: float = 0.0,
    *, seconds: int | None = None, fps: int | None = None,
) -> Spec:  # fmt: skip
    """Draw the script of clip `index`. `conflict`: fraction of clips whose text contradicts sound and picture; they
    measure and must not train. `seconds` and `fps` (12 to 30), None: as the level has them. Of `shows`, a clip of one
    shot. UserError for a level, an index, a size, a fraction, a length or a frame rate that there is not."""
    size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if level not in LEVELS:
        raise UserError(f"puppet level '{level}' is unknown: give one of {', '.join(LEVELS)}")
    if index < 0:
        raise UserError(f"puppet clip index {index}: give 0 or more")
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise UserError(f"puppet size {size[0]}x{size[1]}: height and width must be even and at least 32")
    if not 0 <= conflict <= 1:
        raise UserError(f"puppet conflict fraction {conflict}: give a number from 0 to 1")
    if level == "shows":
        if conflict:
            raise UserError("puppet level 'shows' has no clips whose text contradicts: give conflict 0")
        return sample_show(seed, index, size, shots=1, fps=fps, seconds=seconds).shots[0]
    check_times(seconds, fps)
    rng = numpy_generator(seed, "clip", index, level)
    full = level == "full"
    drawn = int(rng.choice(FRAME_RATES)) if full else 16
    fps = fps or drawn
    drawn = int(rng.choice(LONG_DURATIONS)) if full and rng.random() < 0.5 else 2
    duration = seconds or drawn
    silence = None
    if full and rng.random() < 0.25 and duration >= SHORTEST_SILENCED:
        length = rng.uniform(0.25, 0.4) * duration
        start = rng.uniform(0.35 * duration, duration - length)
        silence = start, start + length
    speaking, objects = _cast(rng, full)
    if sum(speaking) == 2 and duration < 2 * SHORTEST_TURN:
        speaking[int(rng.integers(2))] = False
    characters = _characters(rng, speaking, full, duration, silence)
    props = _props(rng, objects, [c.side for c in characters if c.visible], full, duration, silence)
    mood = MOODS[rng.integers(4 if full else 2)]
    tempo = rng.uniform(132, 152) if mood.endswith("bright") else rng.uniform(64, 80)
    spec = Spec(
        seed=seed, index=index, level=level, size=size, fps=fps, frames=duration * fps, rate=16000,
        mood=mood, mood_mentioned=not full or bool(rng.random() < 0.85), tempo=tempo, beat_phase=rng.random(),
        music=bool(rng.random() < 0.9), music_level=rng.uniform(-30, -26), root=130.81 * 2 ** (rng.integers(8) / 12),
        characters=characters, props=props, distractors=drifting_things(rng, duration) if full else (),
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
    onsets = onsets_of(rng, count, duration, silence)
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
