"""Cases of audio-driven video: the clips' own tracks, and the same with one of them swapped.

A swapped track is another clip's. What the video should show then is known exactly: it is the clip's own script with
that part taken from the other's (the syllables, the onsets or the mood), so every case has a true picture, a ceiling
and a floor. Only clips on which a swap can be scored are used, and only with partners of equal length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from shared.puppets.captions import caption
from shared.puppets.script import Prop, Spec
from shared.puppets.sound import synthesise

Sound = NDArray[np.float32]
Rank = tuple[int, ...] | None

VARIANTS = ("speech swapped", "effects swapped", "music swapped", "silent speech", "speaker unmentioned", "dsp")
"""What `variants` can make; each is the task "mtv:NAME" of an evaluation."""
BASE = {"mtv:music swapped": "mtv:mood unmentioned"}
"""What a variant is compared with, clip by clip, where it is not "mtv"."""


@dataclass(frozen=True)
class TrackCase:
    """One clip to make from tracks.

    Attributes:
        index: number of the held-out clip.
        spec: what the video should show; its rate is that of the tracks.
        caption: the text given.
        stems: the tracks given, `speech1`.., `effects`, `music`, float32 [N] each.
    """

    index: int
    spec: Spec
    caption: str
    stems: Mapping[str, Sound]

    @property
    def speech(self) -> list[Sound]:
        """One track per character, in the script's order; the demixer's only one."""
        return [stem for name, stem in self.stems.items() if name.startswith("speech")]

    @property
    def mix(self) -> Sound:
        """The sum of the tracks."""
        return np.sum(list(self.stems.values()), axis=0, dtype=np.float32)


def true_tracks(specs: Sequence[Spec], rate: int) -> list[TrackCase]:
    """Cases of task mtv: every clip with its own caption and its own tracks at `rate` Hz."""
    at_rate = [replace(spec, rate=rate) for spec in specs]
    return [TrackCase(i, spec, caption(spec), synthesise(spec)) for i, spec in enumerate(at_rate)]


def variants(
    own: Sequence[TrackCase],
    names: Sequence[str],
    without_speaker: Callable[[str], str],
    separate: Callable[[Sound, int], Mapping[str, Sound]],
) -> dict[str, list[TrackCase]]:
    """Cases of each variant by task name, a variant's base before it; without those for which no clip is fit.

    Args:
        own: all clips with their own tracks (`true_tracks`).
        names: some of `VARIANTS`.
        without_speaker: a caption without its sentences about who speaks.
        separate: the tracks that a demixer finds in a mix [N] at a rate.
    """
    base = BASE["mtv:music swapped"]
    make: dict[str, Callable[[], dict[str, list[TrackCase]]]] = {
        "speech swapped": lambda: {"mtv:speech swapped": speech_swapped(own)},
        "effects swapped": lambda: {"mtv:effects swapped": effects_swapped(own)},
        "music swapped": lambda: dict(zip((base, "mtv:music swapped"), music_swapped(own), strict=True)),
        "silent speech": lambda: {"mtv:silent speech": silent_speech(own, without_speaker)},
        "speaker unmentioned": lambda: {"mtv:speaker unmentioned": speaker_unmentioned(own, without_speaker)},
        "dsp": lambda: {"mtv:dsp": demixed(own, separate)},
    }
    return {task: cases for name in VARIANTS if name in names for task, cases in make[name]().items() if cases}


def speech_swapped(own: Sequence[TrackCase]) -> list[TrackCase]:
    """Speech of a clip in which the same of as many people speak; clips with a visible speaker."""

    def rank(mine: Spec, other: Spec) -> Rank:
        return () if _speaking(mine) == _speaking(other) else None

    cases = []
    for case in (p for p in own if _visibly_speaking(p.spec)):
        if (other := _partner(own, case, rank)) is None:
            continue
        pairs = zip(case.spec.characters, other.spec.characters, strict=True)
        characters = tuple(replace(mine, syllables=theirs.syllables) for mine, theirs in pairs)
        speech = {name: stem for name, stem in other.stems.items() if name.startswith("speech")}
        spec = replace(case.spec, characters=characters)
        cases.append(replace(case, spec=spec, stems={**case.stems, **speech}))
    return cases


def effects_swapped(own: Sequence[TrackCase]) -> list[TrackCase]:
    """Effects of a clip with as many objects, of the same kinds if there is one; a count that the caption mentions
    holds for both. Clips whose objects are all visible."""
    cases = []
    for case in (p for p in own if p.spec.props and all(prop.visible for prop in p.spec.props)):
        if (other := _partner(own, case, _props_rank)) is None:
            continue
        order = min(permutations(other.spec.props), key=lambda props: _rank_of(case.spec.props, props))
        props = tuple(replace(p, onsets=q.onsets) for p, q in zip(case.spec.props, order, strict=True))
        stems = {**case.stems, "effects": other.stems["effects"]}
        cases.append(replace(case, spec=replace(case.spec, props=props), stems=stems))
    return cases


def music_swapped(own: Sequence[TrackCase]) -> tuple[list[TrackCase], list[TrackCase]]:
    """Music of another mood. The caption would contradict it, so its words about light are left out, also in the
    first list, the same clips with their own music. Clips with music."""

    def rank(mine: Spec, other: Spec) -> Rank:
        return () if other.music and other.mood != mine.mood else None

    unmentioned, swapped = [], []
    for case in (p for p in own if p.spec.music):
        if (other := _partner(own, case, rank)) is None:
            continue
        spec = replace(case.spec, mood_mentioned=False)
        base = replace(case, spec=spec, caption=caption(spec))
        names = ("mood", "tempo", "beat_phase", "root", "music_level")
        spec = replace(spec, **{name: getattr(other.spec, name) for name in names})
        unmentioned.append(base)
        swapped.append(replace(base, spec=spec, stems={**case.stems, "music": other.stems["music"]}))
    return unmentioned, swapped


def silent_speech(own: Sequence[TrackCase], without_speaker: Callable[[str], str]) -> list[TrackCase]:
    """Zeros for speech, and a caption that names the people and not who speaks; clips with a visible person in
    which somebody speaks."""
    cases = []
    for case in own:
        if any(c.visible for c in case.spec.characters) and any(_speaking(case.spec)):
            spec = replace(case.spec, characters=tuple(replace(c, syllables=()) for c in case.spec.characters))
            silent = {name: np.zeros_like(stem) for name, stem in case.stems.items() if name.startswith("speech")}
            text = without_speaker(case.caption)
            cases.append(replace(case, spec=spec, caption=text, stems={**case.stems, **silent}))
    return cases


def speaker_unmentioned(own: Sequence[TrackCase], without_speaker: Callable[[str], str]) -> list[TrackCase]:
    """Clip's own tracks, and a caption that does not name the speaker; clips with two visible people of whom
    one speaks (none on `simple`)."""
    chosen = [p for p in own if sum(c.visible for c in p.spec.characters) == 2 and sum(_speaking(p.spec)) == 1]
    return [replace(case, caption=without_speaker(case.caption)) for case in chosen]


def demixed(own: Sequence[TrackCase], separate: Callable[[Sound, int], Mapping[str, Sound]]) -> list[TrackCase]:
    """Tracks that a demixer finds in the mix: one of speech, whoever speaks."""
    return [replace(case, stems=separate(case.mix, case.spec.rate)) for case in own]


def _speaking(spec: Spec) -> tuple[bool, ...]:
    return tuple(bool(character.syllables) for character in spec.characters)


def _visibly_speaking(spec: Spec) -> bool:
    speakers = [character for character in spec.characters if character.syllables]
    return bool(speakers) and all(speaker.visible for speaker in speakers)


def _partner(own: Sequence[TrackCase], case: TrackCase, rank: Callable[[Spec, Spec], Rank]) -> TrackCase | None:
    """Fittest other clip of equal length, in the order of the clips after this one; `rank` is least for the
    fittest and None for what does not fit."""
    others = (*own[case.index + 1 :], *own[: case.index])
    found = [(rank(case.spec, other.spec), other) for other in others if other.spec.frames == case.spec.frames]
    fit = [(order, other) for order, other in found if order is not None]
    return min(fit, key=lambda pair: pair[0])[1] if fit else None


def _props_rank(mine: Spec, other: Spec) -> Rank:
    if len(mine.props) != len(other.props):
        return None
    best = min(_rank_of(mine.props, props) for props in permutations(other.props))
    return best[1:] if not best[0] else None


def _rank_of(mine: Sequence[Prop], other: Sequence[Prop]) -> tuple[int, ...]:
    """How many mentioned counts, kinds, and sizes or colours of objects do not agree: the sound of an object is that of
    its kind, size and colour."""
    pairs = list(zip(mine, other, strict=True))
    return (
        sum("count" in p.mentioned and len(p.onsets) != len(q.onsets) for p, q in pairs),
        sum(p.kind != q.kind for p, q in pairs),
        sum((p.size, p.colour) != (q.size, q.colour) for p, q in pairs),
    )
