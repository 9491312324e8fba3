"""The structured text of audio-driven video (docs/design.md section 7); where nobody speaks only the scene stands.

Two person conversation. Person1: a man. Person2: a woman. Person1 is speaking. Scene description: a garden.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.utils.errors import UserError

COUNT_WORDS = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
FORM = "One person conversation. Person1: <look>. Person1 is speaking. Scene description: <scene>."
_HEAD = re.compile(r"(\w+) person conversation\.\s+")
_SCENE = re.compile(r"(?:^|(?<=\.)\s+)Scene description:\s+(.+)\.$", re.DOTALL)
_LOOK = re.compile(r"Person(\d+):\s+(.+?)\.(?=\s+Person\d+(?:: | is speaking\.)|$)\s*", re.DOTALL)
_SPEAKING = re.compile(r"Person(\d+) is speaking\.(?:\s+|$)")
_ANY_PART = re.compile(r"person conversation\.|Person\d+:|Person\d+ is speaking\.|Scene description:")


@dataclass(frozen=True)
class Template:
    """What the text says: `people` by their looks, free text as "a woman in a red shirt", and who of them speaks.

    `speaking` holds numbers of `people`, counted from 0, ascending; empty: nobody is named.
    ValueError for more people than `COUNT_WORDS`, a speaker who is not among them, numbers out of order, no scene, or a
    text that would not be read back: with blanks around it, a full stop at its end or a part of the template inside.
    """

    people: tuple[str, ...]
    speaking: tuple[int, ...]
    scene: str

    def __post_init__(self) -> None:
        if len(self.people) > len(COUNT_WORDS):
            raise ValueError(f"{len(self.people)} people; the template counts to {len(COUNT_WORDS)}")
        if list(self.speaking) != sorted(set(self.speaking) & set(range(len(self.people)))):
            raise ValueError(f"speaking {self.speaking}: ascending numbers below {len(self.people)} are needed")
        for text in (self.scene, *self.people):
            if not text or text != text.strip() or text.endswith(".") or _ANY_PART.search(text):
                raise ValueError(f"{text!r}: plain text without the template's own words and without an end is needed")


def build(template: Template) -> str:
    """Write the text of a template, in one line; `parse` returns the same template."""
    parts = [f"{COUNT_WORDS[len(template.people) - 1]} person conversation."] if template.people else []
    parts += [f"Person{i + 1}: {look}." for i, look in enumerate(template.people)]
    parts += [f"Person{i + 1} is speaking." for i in template.speaking]
    return " ".join([*parts, f"Scene description: {template.scene}."])


def compose(people: Sequence[str], speaking: Sequence[int], scene: str) -> str:
    """Write the text for free texts of any form: blanks around them and full stops at their ends are left out. Where
    nobody speaks it is the scene alone. ValueError as `Template`."""
    looks = tuple(look.strip().rstrip(".").rstrip() for look in people) if speaking else ()
    return build(Template(looks, tuple(speaking), scene.strip().rstrip(".").rstrip()))


def parse(text: str) -> Template:
    """Read the template that `text` follows. UserError says which part is missing or does not belong there."""
    text = text.strip()
    try:
        if (scene := _SCENE.search(text)) is None:
            raise ValueError("it does not end in 'Scene description: <scene>.'")
        people, speaking = _conversation(text[: scene.start()].strip())
        return Template(people, speaking, scene[1].strip())
    except ValueError as error:
        raise UserError(
            f"caption {text[:120]!r} does not follow the template: {error}; the form is {FORM!r}"
        ) from error


def without_speaker(text: str) -> str:
    """`text` without "Person1 is speaking.": then only the sound tells who speaks. UserError as `parse`."""
    return build(replace(parse(text), speaking=()))


def drop_speaker(caption: str) -> str:
    """As `without_speaker`; a caption of another form than the template stays as it is."""
    try:
        return without_speaker(caption)
    except UserError:
        return caption


def _conversation(rest: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """People and speakers of what stands before the scene."""
    if not rest:
        return (), ()
    head = _HEAD.match(rest + " ")
    if head is None or head[1] not in COUNT_WORDS:
        raise ValueError(f"'<{' | '.join(COUNT_WORDS)}> person conversation.' is missing at its start")
    people: list[str] = []
    at = min(head.end(), len(rest))
    while look := _LOOK.match(rest, at):
        if int(look[1]) != len(people) + 1:
            raise ValueError(f"'Person{len(people) + 1}: <look>.' is missing before 'Person{look[1]}:'")
        people.append(look[2].strip())
        at = look.end()
    if len(people) != COUNT_WORDS.index(head[1]) + 1:
        raise ValueError(f"it announces {head[1].lower()} and describes {len(people)} people")
    speaking: list[int] = []
    while sentence := _SPEAKING.match(rest, at):
        speaking.append(int(sentence[1]) - 1)
        at = sentence.end()
    if at != len(rest):
        raise ValueError(f"{rest[at:][:60]!r} is neither 'Person1 is speaking.' nor the scene")
    return tuple(people), tuple(speaking)
