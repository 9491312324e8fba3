"""The language of the level `shows`: a script becomes a caption, a caption becomes what it tells.

`write` chooses among paraphrases by the script's own random numbers; `parse` reads any of them back, in the template of
docs/puppets.md or as free sentences. Paraphrases and pairs that training never has: `HELD_OUT`, `HELD_OUT_PAIRS`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from numpy.random import Generator

from shared.puppets.spec import MOST_COUNTED, Character, Prop, Spec
from shared.puppets.told import MODES, PACES, Told, ToldObject, ToldPerson
from shared.puppets.words import FILLERS, HELD_OUT, LONGEST, PHRASES, TAGS, Tag
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator

TEMPLATE_RATE = 0.7
"""Share of captions with speakers that follow the template; the others are free sentences."""


def write(spec: Spec, audio: bool = False) -> str:
    """Caption of a script, or the caption of its sound. The same script is always told in the same words; a held-out
    one has a held-out paraphrase at least, any other one none."""
    for attempt in range(1000):
        rng = numpy_generator(spec.seed, "words", spec.index, spec.shot, audio, spec.held_out, attempt)
        words = _Words(rng, spec.held_out)
        text = _audio(words, spec) if audio else _video(words, spec)
        if words.held or not spec.held_out:
            return re.sub(r"\b(a)(?= [aeiou])", r"\1n", text, flags=re.IGNORECASE)
    raise UserError(f"{spec.id}: none of its words has a held-out paraphrase; give a script with a person or an object")


def told(spec: Spec, audio: bool = False) -> Told:
    """Tell what `write` tells of a script, without words."""
    people = [_told_person(c, audio) for c in spec.characters if c.syllables or not audio]
    objects = tuple(_told_object(prop, audio) for prop in spec.props)
    warmth, brightness = spec.mood.split()
    music = spec.music if audio else spec.music_mentioned
    named = music and (spec.mood_mentioned or not audio)
    drifting = [(d.kind, d.colour if d.kind == "balloon" else None) for d in spec.distractors if d.mentioned]
    return Told(
        tuple(people), objects, spec.mood if spec.mood_mentioned and not audio else None,
        PACES[brightness] if named else None, MODES[warmth] if named else None, music, () if audio else tuple(drifting),
    )  # fmt: skip


def parse(caption: str) -> Told:
    """Read what a caption tells, of picture or sound. UserError for a word that the grammar does not have, and for
    an attribute that belongs to nothing."""
    reading = _Reading(caption)
    for tag, phrase in _tags(caption):
        reading.take(tag, phrase)
    return reading.told()


def held_out_phrases(caption: str) -> list[str]:
    """Paraphrases in a caption that training captions never have."""
    return [phrase for _, phrase in _tags(caption) if phrase in HELD_OUT]


def _told_person(person: Character, audio: bool) -> ToldPerson:
    seen = person.visible and not audio
    return ToldPerson(
        person.kind, person.side if seen and "side" in person.mentioned else None,
        person.shirt if seen and "shirt" in person.mentioned else None, bool(person.syllables), person.visible or audio,
    )  # fmt: skip


def _told_object(prop: Prop, audio: bool) -> ToldObject:
    said = {name: getattr(prop, name) for name in ("size", "colour") if name in prop.mentioned}
    side = prop.slot if "side" in prop.mentioned and prop.visible and not audio else None
    count = len(prop.onsets) if "count" in prop.mentioned else None
    return ToldObject(prop.kind, **said, side=side, visible=prop.visible or audio, count=count)


class _Words:
    """Chooses paraphrases; `held` says whether one of them is held out."""

    def __init__(self, rng: Generator, held_out: bool) -> None:
        self.rng, self.held_out, self.held = rng, held_out, False

    def of(self, name: str, value: str | int | bool | None) -> str:
        usual, rare = PHRASES[name][str(value)]
        if self.held_out and rare and self.rng.random() < 0.5:
            self.held = True
            return rare[self.rng.integers(len(rare))]
        return usual[self.rng.integers(len(usual))]

    def one(self, *choices: str) -> str:
        return choices[self.rng.integers(len(choices))]


def _video(words: _Words, spec: Spec) -> str:
    people = [_told_person(c, audio=False) for c in spec.characters]
    things = [_thing(words, _told_object(prop, audio=False)) for prop in spec.props]
    for drifting in (one for one in spec.distractors if one.mentioned):
        colour = f"{words.of('colour', drifting.colour)} " if drifting.kind == "balloon" else ""
        things.append(f"a {colour}{words.of('drifting', drifting.kind)} {words.of('drifts', 'drifts')}")
    rest = _light(words, spec)
    if spec.music_mentioned:
        rest += f" {words.one('with', 'and')} {_music(words, spec, True)}"
    looks = [_look(words, person) for person in people]
    if any(person.speaks for person in people) and words.rng.random() < TEMPLATE_RATE:
        parts = [f"{('One', 'Two')[len(looks) - 1]} person conversation."]
        parts += [f"Person{i}: {look}." for i, look in enumerate(looks, 1)]
        parts += [f"Person{i} is speaking." for i, person in enumerate(people, 1) if person.speaks]
        return f"{' '.join(parts)} Scene description: {_joined(words, things) or 'an empty stage'}{rest}."
    acts = [f"{look} {words.of('speaking', p.speaks)}" for look, p in zip(looks, people, strict=True) if look]
    text = f"{_joined(words, acts + things)}{rest}."
    return text[0].upper() + text[1:] if any(p.speaks for p in people) else f"Scene description: {text}"


def _audio(words: _Words, spec: Spec) -> str:
    voices = [f"a {words.of('person', c.kind)}" for c in spec.characters if c.syllables]
    speech = [f"{voice} {words.of('speaking', True)}" for voice in voices]
    if len(voices) == 2 and words.rng.random() < 0.5:
        speech = [f"{' and '.join(voices)} {words.of('turns', 'turns')}"]
    text = _joined(words, speech + [_thing(words, _told_object(prop, audio=True)) for prop in spec.props])
    text += f" with {_music(words, spec, spec.mood_mentioned)}" if spec.music else ""
    return f"{text[0].upper()}{text[1:]}."


def _joined(words: _Words, clauses: list[str]) -> str:
    return "".join(f" {words.one('and', 'and', 'while', 'as')} {one}" if i else one for i, one in enumerate(clauses))


def _look(words: _Words, person: ToldPerson) -> str:
    text = f"a {words.of('person', person.kind)}"
    if not person.visible:
        return f"a {words.of('offscreen', 'offscreen')} {text[2:]}"
    if person.shirt:
        wearing = words.one("in a", "in a", "wearing a", "dressed in a")
        text += f" {wearing} {words.of('colour', person.shirt)} {words.of('shirt', 'shirt')}"
    return text + (f" {words.of('side', person.side)}" if person.side else "")


def _thing(words: _Words, thing: ToldObject) -> str:
    said = [] if thing.visible else [words.of("offscreen", "offscreen")]
    said += [words.of("size", thing.size)] if thing.size else []
    said += [words.of("colour", thing.colour)] if thing.colour else []
    said += [words.of("object", thing.kind)]
    said += [words.of("side", thing.side)] if thing.side else []
    said += [words.of("acts", thing.kind)]
    said += [words.of("count", thing.count)] if thing.count else []
    return f"a {' '.join(said)}"


def _light(words: _Words, spec: Spec) -> str:
    if not spec.mood_mentioned:
        return ""
    warmth, brightness = spec.mood.split()
    text = f"{words.of('warmth', warmth)} {words.of('brightness', brightness)} {words.of('light', 'light')}"
    return f" {words.one('under', 'in')} {words.one('', '', 'a ')}{text}"


def _music(words: _Words, spec: Spec, named: bool) -> str:
    warmth, brightness = spec.mood.split()
    music = words.of("music", "music")
    said = [words.of("pace", PACES[brightness]), words.of("mode", MODES[warmth])] if named else []
    return " ".join([*([] if music.endswith("music") else ["a"]), *said, music])


def _tags(caption: str) -> list[tuple[Tag, str]]:
    """Phrases of a caption with their tags, the longest first; words that tell nothing are left out."""
    tokens = re.findall(r"[a-z0-9]+", caption.lower())
    found, i = list[tuple[Tag, str]](), 0
    while i < len(tokens):
        for length in range(min(LONGEST, len(tokens) - i), 0, -1):
            phrase = " ".join(tokens[i : i + length])
            if phrase in TAGS:
                found.append((TAGS[phrase], phrase))
                break
        else:
            length = 1
            if (mark := re.fullmatch(r"person([1-9])", tokens[i])) is not None:
                found.append((("number", mark[1]), tokens[i]))
            elif tokens[i] not in FILLERS:
                raise UserError(f"caption {caption[:120]!r}: the word {tokens[i]!r} is not in the puppets' grammar")
        i += length
    return found


@dataclass
class _Reading:
    """What has been read of a caption so far. `loose`: adjectives whose noun is still to come."""

    caption: str
    people: list[ToldPerson] = field(default_factory=list)
    objects: list[ToldObject] = field(default_factory=list)
    drifting: list[tuple[str, str | None]] = field(default_factory=list)
    loose: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    side_of: str = ""
    number: int | None = None

    def take(self, tag: Tag, phrase: str) -> None:
        """Give one phrase to what it belongs to."""
        name, value = tag
        if name in ("size", "colour", "warmth", "brightness", "pace", "mode", "offscreen"):
            self.loose[name] = value
        elif name == "number":
            self.number = int(value) - 1
        elif (act := _NOUNS.get(name)) is not None:
            act(self, value)
        elif name == "turns":
            self.people = [replace(person, speaks=True) for person in self.people]
        elif name == "speaking":
            self._speaking(value == "True", phrase)
        elif name in ("shirt", "side", "count"):
            self._attribute(name, value, phrase)

    def told(self) -> Told:
        """All that was read. UserError for adjectives without their noun."""
        if self.loose:
            raise UserError(f"caption {self.caption[:120]!r}: {', '.join(self.loose.values())} belongs to nothing")
        people = self.people
        if self.number is not None and any(p.speaks for p in people):  # the template names those who speak
            people = [replace(person, speaks=bool(person.speaks)) for person in people]
        light = f"{self.facts['warmth']} {self.facts['brightness']}" if "warmth" in self.facts else None
        return Told(
            tuple(people), tuple(self.objects), light, self.facts.get("pace"), self.facts.get("mode"),
            "music" in self.facts, tuple(self.drifting),
        )  # fmt: skip

    def person(self, kind: str) -> None:
        self.people.append(ToldPerson(kind, visible=not self._taken("offscreen")))
        self.side_of = "person"

    def object(self, kind: str) -> None:
        size, colour = self._taken("size"), self._taken("colour")
        self.objects.append(ToldObject(kind, size, colour, visible=not self._taken("offscreen")))
        self.side_of = "object"

    def drifter(self, kind: str) -> None:
        self.drifting.append((kind, self._taken("colour")))
        self.side_of = ""

    def fact(self, *names: str) -> Callable[[str], None]:
        def take(value: str) -> None:
            self.facts |= {value: value} | {name: self.loose.pop(name) for name in names if name in self.loose}

        return take

    def _taken(self, name: str) -> str | None:
        return self.loose.pop(name, None)

    def _speaking(self, speaks: bool, phrase: str) -> None:
        which = self.number if speaks and phrase == "is speaking" and self.number is not None else -1
        if not self.people or which >= len(self.people):
            raise UserError(f"caption {self.caption[:120]!r}: nobody is there of whom {phrase!r} is said")
        self.people[which] = replace(self.people[which], speaks=speaks)

    def _attribute(self, name: str, value: str, phrase: str) -> None:
        if name == "shirt" and self.people:
            self.people[-1] = replace(self.people[-1], shirt=self._taken("colour"))
        elif name == "count" and self.objects:
            self.objects[-1] = replace(self.objects[-1], count=int(value))
        elif name == "side" and self.side_of == "person":
            self.people[-1] = replace(self.people[-1], side=value)
        elif name == "side" and self.side_of == "object":
            self.objects[-1] = replace(self.objects[-1], side=value)
        else:
            raise UserError(f"caption {self.caption[:120]!r}: {phrase!r} belongs to nothing")


_NOUNS: dict[str, Callable[[_Reading, str], None]] = {
    "person": _Reading.person,
    "object": _Reading.object,
    "drifting": _Reading.drifter,
    "light": lambda reading, value: reading.fact("warmth", "brightness")(value),
    "music": lambda reading, value: reading.fact("pace", "mode")(value),
}
assert len(PHRASES["count"]) == MOST_COUNTED, "every count that captions tell needs words"
