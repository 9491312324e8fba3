"""What a caption tells of a clip, and nothing else: the measures compare clips with this, never with the script.

`told_by_script` knows it for the levels `simple` and `full`, whose captions are made of a script word for word; the
level `shows` has a grammar that parses its captions (`shared.puppets.grammar`); of any level: `clip.told_by_captions`.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.puppets.spec import Spec

MODES, PACES = {"warm": "major", "cold": "minor"}, {"bright": "fast", "dark": "slow"}
"""Of the music, by the words of a mood."""


@dataclass(frozen=True)
class ToldPerson:
    """A person of the caption; None: not told. `visible` False means offscreen."""

    kind: str
    side: str | None = None
    shirt: str | None = None
    speaks: bool | None = None
    visible: bool = True


@dataclass(frozen=True)
class ToldObject:
    """An object of the caption, which sounds `count` times; None: not told. `visible` False means offscreen."""

    kind: str
    size: str | None = None
    colour: str | None = None
    count: int | None = None
    visible: bool = True
    side: str | None = None


@dataclass(frozen=True)
class Told:
    """What is told, in its order; `light` is a mood, `pace` (fast, slow) and `mode` (major, minor) the music's."""

    people: tuple[ToldPerson, ...] = ()
    objects: tuple[ToldObject, ...] = ()
    light: str | None = None
    pace: str | None = None
    mode: str | None = None
    music: bool = False
    drifting: tuple[tuple[str, str | None], ...] = ()

    @property
    def count(self) -> int | None:
        """Events of all objects together; None where that of any is not told, 0 where no object is."""
        counts = [one.count for one in self.objects]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def events_are_visible(self) -> bool:
        """Whether no object sounds from offscreen."""
        return all(one.visible for one in self.objects)

    @property
    def speech_is_visible(self) -> bool:
        """Whether somebody is told to speak, and everybody who is can be seen."""
        speakers = [person.visible for person in self.people if person.speaks]
        return bool(speakers) and all(speakers)


def told_by_script(spec: Spec) -> Told:
    """Collect what the captions of `clip.caption` and `clip.audio_caption` tell; contradicted words as they stand."""
    said = dict(spec.caption_overrides)
    people = tuple(
        ToldPerson(
            said.get("person", c.kind), c.side if "side" in c.mentioned else None,
            c.shirt if "shirt" in c.mentioned else None, bool(c.syllables), c.visible,
        )
        for c in spec.characters
    )  # fmt: skip
    objects = tuple(
        ToldObject(
            said.get("object", p.kind), p.size if "size" in p.mentioned else None,
            p.colour if "colour" in p.mentioned else None, len(p.onsets) if "count" in p.mentioned else None, p.visible,
        )
        for p in spec.props
    )  # fmt: skip
    mood = said.get("mood", spec.mood) if spec.mood_mentioned else None
    drifting = tuple((d.kind, d.colour if d.kind == "balloon" else None) for d in spec.distractors if d.mentioned)
    pace = PACES[mood.split()[1]] if mood and spec.music else None
    return Told(people, objects, mood, pace, drifting=drifting)
