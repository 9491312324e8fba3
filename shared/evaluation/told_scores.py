"""Does a clip show and sound as its caption tells? Scores of one clip as (numerator, denominator), sums over clips.

What stands in the picture was found without the caption (`script_fit`), so a wrong kind or an uninvited guest shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from shared.evaluation.bootstrap import Ratio
from shared.puppets.readers import AudioReading
from shared.puppets.script_fit import ScriptFit
from shared.puppets.spec import MOODS, PERSONS, Spec
from shared.puppets.told import PACES, Told, ToldObject, ToldPerson

LOOKS = ("kind", "size", "colour", "gender", "side", "shirt", "light")
"""What `looks` takes together."""
SEEN = (*LOOKS, "looks", "all_looks", "binding", "count_seen", "speaker", "drifting")
BELIEFS = ("text_believed", "given_believed")
HEARD = ("count_heard", "pace", "mode", "voice")
MOVES = 0.12
"""Standard deviation of a mouth's opening, 0 shut and 1 wide open, from which it moves."""
Attributes = dict[str, object]
"""What is told or found of a person or an object, by the name of the score; without what is not told."""


def seen_scores(told: Told, fit: ScriptFit) -> dict[str, Ratio]:
    """Attributes of what is seen: each right, of those told. Told and found are matched so that most agrees; whoever is
    told and not found has nothing right, and whoever is found and not told is a wrong `kind` or `gender`. `binding`: of
    two or more people or objects, those that have all they are told. `looks`: of all that is told of how the scene
    looks, what is right; `all_looks`: whether all of it is."""
    people = [_of_person(person) for person in told.people if person.visible]
    objects = [_of_object(thing) for thing in told.objects if thing.visible]
    mouths = [float(mouth.std()) > MOVES for mouth in fit.mouths]
    shown = [
        {"gender": c.kind, "side": c.side, "shirt": c.shirt, "speaker": moves}
        for c, moves in zip(fit.spec.characters, mouths, strict=True)
    ]
    things = [
        {"kind": p.kind, "size": p.size, "colour": p.colour, "side": p.slot, "count_seen": len(fit.events(p))}
        for p in fit.spec.props
    ]
    sums = {name: np.zeros(2) for name in SEEN}
    for wanted, found, must in ((people, shown, "gender"), (objects, things, "kind")):
        pairs = matched(wanted, found)
        for want, have in pairs:
            for name, value in want.items():
                sums[name] += have.get(name) == value, 1
        sums[must][1] += max(0, len(found) - len(wanted))
        if len(wanted) > 1:
            looks = [{k: v for k, v in want.items() if k not in ("count_seen", "speaker")} for want in wanted]
            right = [look.items() <= have.items() for look, (_, have) in zip(looks, pairs, strict=True)]
            sums["binding"] += sum(right), len(right)
    if told.light is not None:
        sums["light"] += fit.spec.mood == told.light, 1
    drifting = [(one.kind, one.colour) for one in fit.spec.distractors]
    for kind, colour in told.drifting:
        sums["drifting"] += any(kind == one and colour in (None, its) for one, its in drifting), 1
    sums["looks"] = right, count = np.sum([sums[name] for name in LOOKS], 0)
    sums["all_looks"] += count > 0 and right == count, count > 0
    return {name: (float(right), float(count)) for name, (right, count) in sums.items()}


def heard_scores(told: Told, audio: AudioReading) -> dict[str, Ratio]:
    """Compare the number of onsets heard, where all of it is told, pace and mode of the music, and the voices together
    where all who speak are men, or all women."""
    counted = bool(told.objects) and told.count is not None
    speakers = {person.kind for person in told.people if person.speaks}
    voices = sum(one.voice for one in audio.syllables)
    heard = {PERSONS[voices > 0]} if audio.syllables else set()
    return {
        "count_heard": (float(len(audio.onsets) == told.count), 1.0) if counted else (0.0, 0.0),
        "pace": (float(PACES.get(audio.pace) == told.pace), 1.0) if told.pace else (0.0, 0.0),
        "mode": (float(audio.mode == told.mode), 1.0) if told.mode else (0.0, 0.0),
        "voice": (float(heard == speakers), 1.0) if len(speakers) == 1 else (0.0, 0.0),
    }


def count_scores(told: Told, fit: ScriptFit | None, audio: AudioReading | None) -> dict[str, Ratio]:
    """`count`: per clip, whether each number that is told is right in every stream that is made; None: it is not."""
    right, counted = True, False
    if fit is not None and any(one.count is not None and one.visible for one in told.objects):
        hits, count = seen_scores(told, fit)["count_seen"]
        right, counted = right and hits == count, True
    if audio is not None:
        hits, count = heard_scores(told, audio)["count_heard"]
        right, counted = right and hits == count, counted or count > 0
    return {"count": (float(right), 1.0) if counted else (0.0, 0.0)}


def belief_scores(spec: Spec, fit: ScriptFit | None, audio: AudioReading | None) -> dict[str, Ratio]:
    """Whom a clip of contradicting text believes: of the things that the text of `spec` has otherwise than its picture
    and sound, those that are made as the text has them, and those as the other has. Of a picture its light, objects
    and people, of a sound the pace of its music."""
    true = {"mood": spec.mood, "object": spec.props[0].kind if spec.props else ""}
    true["person"] = spec.characters[0].kind if spec.characters else ""
    shown: dict[str, Sequence[str]] = {}
    if fit is not None:
        shown = {"mood": [fit.spec.mood], "object": [one.kind for one in fit.spec.props]}
        shown["person"] = [one.kind for one in fit.spec.characters]
    elif audio is not None and audio.pace:
        shown = {"mood": [mood for mood in MOODS if mood.split()[1] == audio.pace]}
    sums = np.zeros((2, 2))
    for name, word in spec.caption_overrides:
        if name in shown and (fit is None or _is_visible(spec, name)):
            sums += [(word in shown[name], 1), (true[name] in shown[name], 1)]
    return {name: (float(right), float(count)) for name, (right, count) in zip(BELIEFS, sums, strict=True)}


def _is_visible(spec: Spec, name: str) -> bool:
    return name == "mood" or (spec.props if name == "object" else spec.characters)[0].visible


def matched(wanted: Sequence[Attributes], found: Sequence[Attributes]) -> list[tuple[Attributes, Attributes]]:
    """Pair each that is wanted with one that is found, or with nothing, so that most agrees."""

    def agreeing(chosen: Iterable[Attributes]) -> int:
        pairs = zip(wanted, chosen, strict=True)
        return sum(have.get(name) == value for want, have in pairs for name, value in want.items())

    nothing: list[Attributes] = [{} for _ in wanted]
    choices: list[Sequence[Attributes]] = [*permutations([*found, *nothing], len(wanted))]
    return [*zip(wanted, max(choices, key=agreeing), strict=True)]


def _of_person(person: ToldPerson) -> Attributes:
    of_caption = {"gender": person.kind, "side": person.side, "shirt": person.shirt, "speaker": person.speaks}
    return {name: value for name, value in of_caption.items() if value is not None}


def _of_object(thing: ToldObject) -> Attributes:
    looks = {"kind": thing.kind, "size": thing.size, "colour": thing.colour, "side": thing.side}
    of_caption = looks | {"count_seen": thing.count}
    return {name: value for name, value in of_caption.items() if value is not None}
