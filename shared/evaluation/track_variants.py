"""Cases of audio-driven video: the clips' own tracks, and the same with one of them swapped for another clip's.

What the video should show then is known exactly: the clip's own script with that part (syllables, onsets or mood) taken
from the other's. Only clips on which a swap can be scored are used, and only with partners of equal length.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from shared.puppets.clip import caption
from shared.puppets.script import COLOURS, Prop, Spec
from shared.puppets.sound import synthesise

Sound = NDArray[np.float32]
Rank = tuple[int, ...] | None
#: Gives a caption without its sentences about who speaks; as it is where it has none, or is in free words.
Reword = Callable[[str], str]
#: Gives the tracks that a demixer finds in a mix [N] at a rate.
Separate = Callable[[Sound, int], Mapping[str, Sound]]

VARIANTS = (
    "speech swapped",
    "effects swapped",
    "music swapped",
    "silent speech",
    "speaker unmentioned",
    "dsp",
    "text changed",
)
"""What `variants` can make; each is the task "mtv:NAME" of an evaluation."""
BASE = {"mtv:music swapped": "mtv:mood unmentioned"}
"""What a variant is compared with, clip by clip, where it is not "mtv"."""


@dataclass(frozen=True)
class TrackCase:
    """One clip to make from tracks: the number of the held-out clip, what the video should show (its rate is that of
    the tracks), the text given, and the tracks given, `speech1`.., `effects`, `music`, float32 [N] each."""

    index: int
    spec: Spec
    caption: str
    stems: Mapping[str, Sound]

    @property
    def speech(self) -> dict[str, Sound]:
        """One track per character, in the script's order; the demixer's single one, whoever speaks."""
        return {name: stem for name, stem in self.stems.items() if name.startswith("speech")}

    @property
    def mix(self) -> Sound:
        """The sum of the tracks."""
        return np.sum(list(self.stems.values()), axis=0, dtype=np.float32)


def true_tracks(specs: Sequence[Spec], rate: int) -> list[TrackCase]:
    """Cases of task mtv: every clip with its own caption and its own tracks at `rate` Hz."""
    at_rate = [replace(spec, rate=rate) for spec in specs]
    return [TrackCase(i, spec, caption(spec), synthesise(spec)) for i, spec in enumerate(at_rate)]


def variants(
    own: Sequence[TrackCase], names: Sequence[str], without_speaker: Reword, separate: Separate
) -> dict[str, list[TrackCase]]:
    """Cases of each variant by task name, a variant's base before it; without those for which no clip is fit."""
    unmentioned, swapped = music_swapped(own)
    every = {
        "mtv:speech swapped": speech_swapped(own), "mtv:effects swapped": effects_swapped(own),
        "mtv:mood unmentioned": unmentioned, "mtv:music swapped": swapped,
        "mtv:silent speech": silent_speech(own, without_speaker),
        "mtv:speaker unmentioned": speaker_unmentioned(own, without_speaker),
        "mtv:dsp": [replace(c, stems=separate(c.mix, c.spec.rate)) for c in own] if "dsp" in names else [],
        "mtv:text changed": text_changed(own),
    }  # fmt: skip
    chosen = {f"mtv:{name}" for name in names}
    chosen |= {base for task, base in BASE.items() if task in chosen}
    return {task: cases for task, cases in every.items() if task in chosen and cases}


def speech_swapped(own: Sequence[TrackCase]) -> list[TrackCase]:
    """Speech of a clip in which the same of as many people speak; clips with a visible speaker."""

    def speaker_is_visible(spec: Spec) -> bool:
        return any(_speaking(spec)) and all(c.visible for c in spec.characters if c.syllables)

    cases = []
    for case, other in _pairs(own, speaker_is_visible, lambda a, b: () if _speaking(a) == _speaking(b) else None):
        pairs = zip(case.spec.characters, other.spec.characters, strict=True)
        characters = tuple(replace(mine, syllables=theirs.syllables) for mine, theirs in pairs)
        spec = replace(case.spec, characters=characters)
        cases.append(replace(case, spec=spec, stems={**case.stems, **other.speech}))
    return cases


def effects_swapped(own: Sequence[TrackCase]) -> list[TrackCase]:
    """Effects of a clip with as many objects and all mentioned counts; clips whose objects are all visible."""
    cases = []
    for case, other in _pairs(own, lambda spec: spec.props and all(p.visible for p in spec.props), _props_rank):
        order = min(permutations(other.spec.props), key=lambda props: _rank_of(case.spec.props, props))
        props = tuple(replace(p, onsets=q.onsets) for p, q in zip(case.spec.props, order, strict=True))
        stems = {**case.stems, "effects": other.stems["effects"]}
        cases.append(replace(case, spec=replace(case.spec, props=props), stems=stems))
    return cases


def music_swapped(own: Sequence[TrackCase]) -> tuple[list[TrackCase], list[TrackCase]]:
    """Own music, and music of another mood, both without the caption's words about either; clips with music."""
    unmentioned, swapped = [], []
    for case, other in _pairs(own, lambda a: a.music, lambda a, b: () if b.music and a.mood != b.mood else None):
        spec = replace(case.spec, mood_mentioned=False, music_mentioned=False)
        base = replace(case, spec=spec, caption=caption(spec))
        names = ("mood", "tempo", "beat_phase", "root", "music_level")
        spec = replace(spec, **{name: getattr(other.spec, name) for name in names})
        unmentioned.append(base)
        swapped.append(replace(base, spec=spec, stems={**case.stems, "music": other.stems["music"]}))
    return unmentioned, swapped


def silent_speech(own: Sequence[TrackCase], without_speaker: Reword) -> list[TrackCase]:
    """Zeros for speech, and a caption that does not say who speaks; clips with speech and a visible person, whose
    captions have a sentence about it."""
    cases = []
    for case in own:
        untold, visible = without_speaker(case.caption), any(c.visible for c in case.spec.characters)
        if visible and any(_speaking(case.spec)) and untold != case.caption:
            spec = replace(case.spec, characters=tuple(replace(c, syllables=()) for c in case.spec.characters))
            stems = {**case.stems, **{name: np.zeros_like(stem) for name, stem in case.speech.items()}}
            cases.append(replace(case, spec=spec, caption=untold, stems=stems))
    return cases


def speaker_unmentioned(own: Sequence[TrackCase], without_speaker: Reword) -> list[TrackCase]:
    """Leave the speaker out of the caption; clips with two visible people of whom one speaks, as a sentence says."""
    chosen = [p for p in own if sum(c.visible for c in p.spec.characters) == 2 and sum(_speaking(p.spec)) == 1]
    untold = [(case, without_speaker(case.caption)) for case in chosen]
    return [replace(case, caption=text) for case, text in untold if text != case.caption]


def text_changed(own: Sequence[TrackCase]) -> list[TrackCase]:
    """Own tracks, and a text in which each mentioned shirt and object has another colour; clips that mention any."""

    def other(colour: str) -> str:
        return COLOURS[(COLOURS.index(colour) + 1) % len(COLOURS)]

    cases = []
    for case in own:
        people = tuple(replace(c, shirt=other(c.shirt)) if "shirt" in c.mentioned else c for c in case.spec.characters)
        props = tuple(replace(p, colour=other(p.colour)) if "colour" in p.mentioned else p for p in case.spec.props)
        spec = replace(case.spec, characters=people, props=props)
        if caption(spec) != case.caption:
            cases.append(replace(case, spec=spec, caption=caption(spec)))
    return cases


def _speaking(spec: Spec) -> tuple[bool, ...]:
    return tuple(bool(character.syllables) for character in spec.characters)


def _pairs(
    own: Sequence[TrackCase], fit: Callable[[Spec], object], rank: Callable[[Spec, Spec], Rank]
) -> Iterator[tuple[TrackCase, TrackCase]]:
    """Each case that is fit, and the clip of its length after it of least `rank`; None: they do not go together."""
    for case in (case for case in own if fit(case.spec)):
        others = (*own[case.index + 1 :], *own[: case.index])
        ranked = [(rank(case.spec, other.spec), other) for other in others if other.spec.frames == case.spec.frames]
        partners = [(order, other) for order, other in ranked if order is not None]
        if partners:
            yield case, min(partners, key=lambda partner: partner[0])[1]


def _props_rank(mine: Spec, other: Spec) -> Rank:
    if len(mine.props) != len(other.props):
        return None
    best = min(_rank_of(mine.props, props) for props in permutations(other.props))
    return best[1:] if not best[0] else None


def _rank_of(mine: Sequence[Prop], other: Sequence[Prop]) -> tuple[int, ...]:
    """How many mentioned counts, kinds, and sizes or colours, which all sound, do not agree."""
    pairs = list(zip(mine, other, strict=True))
    return (
        sum("count" in p.mentioned and len(p.onsets) != len(q.onsets) for p, q in pairs),
        sum(p.kind != q.kind for p, q in pairs),
        sum((p.size, p.colour) != (q.size, q.colour) for p, q in pairs),
    )
