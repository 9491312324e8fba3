"""Captions of the puppets in the structured template (docs/design.md section 7), and those of their sound."""

from __future__ import annotations

from shared.puppets.script import Character, Prop, Spec

VERBS = {"ball": "bounces", "bell": "rings", "drum": "is hit"}
TIMES = ("", "once", "twice", "three times", "four times", "five times", "six times")
"""Up to `script.MOST_COUNTED`."""


def caption(spec: Spec) -> str:
    """Caption of a clip: "One person conversation. Person1: ... Person1 is speaking. Scene description: ...".

    Only the scene stands there when nobody speaks. Event times never appear.
    """
    said = dict(spec.caption_overrides)
    scene = [_event(prop, said, audio=False) for prop in spec.props]
    for drifting in spec.distractors:
        colour = f"{drifting.colour} " if drifting.kind == "balloon" else ""
        scene += [f"a {colour}{drifting.kind} drifts by"] if drifting.mentioned else []
    light = f" under a {said.get('mood', spec.mood)} light" if spec.mood_mentioned else ""
    looks = [_look(character, said) for character in spec.characters]
    people = ""
    if any(character.syllables for character in spec.characters):
        parts = [f"{('One', 'Two')[len(looks) - 1]} person conversation."]
        parts += [f"Person{i}: {look}." for i, look in enumerate(looks, 1)]
        parts += [f"Person{i} is speaking." for i, character in enumerate(spec.characters, 1) if character.syllables]
        people = " ".join(parts) + " "
    else:
        scene = [f"{look} is silent" for look in looks] + scene
    return f"{people}Scene description: {' and '.join(scene) or 'an empty stage'}{light}."


def audio_caption(spec: Spec) -> str:
    """Caption of what sounds: "A man speaks while a big red ball bounces twice with warm bright music."."""
    said = dict(spec.caption_overrides)
    voices = [f"a {said.get('person', c.kind)}" for c in spec.characters if c.syllables]
    speech = f"{voices[0]} speaks" if len(voices) == 1 else f"{' and '.join(voices)} speak in turns" if voices else ""
    events = " and ".join(_event(prop, said, audio=True) for prop in spec.props)
    text = " while ".join(part for part in (speech, events) if part)
    if spec.music:
        text += f" with {said.get('mood', spec.mood)} music" if spec.mood_mentioned else " with music"
    return f"{text[0].upper()}{text[1:]}."


def _look(character: Character, said: dict[str, str]) -> str:
    kind = said.get("person", character.kind)
    if not character.visible:
        return f"an offscreen {kind}"
    shirt = f" in a {character.shirt} shirt" if "shirt" in character.mentioned else ""
    return f"a {kind}{shirt}" + (f" on the {character.side}" if "side" in character.mentioned else "")


def _event(prop: Prop, said: dict[str, str], audio: bool) -> str:
    kind = said.get("object", prop.kind)
    words = [] if prop.visible or audio else ["offscreen"]
    words += [getattr(prop, name) for name in ("size", "colour") if name in prop.mentioned] + [kind]
    article = "an" if words[0] == "offscreen" else "a"
    count = f" {TIMES[len(prop.onsets)]}" if "count" in prop.mentioned else ""
    return f"{article} {' '.join(words)} {VERBS[kind]}{count}"
