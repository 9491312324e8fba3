"""The text that a clip trains by: the number of people, their looks, who speaks, and the scene.

The number is that of the voices that are heard, as in the paper, where they are counted: a text has only people who are
seen, and has all whose lips speak. Where they are not counted it is that of the faces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shared.curation.record import Context, Finding, Record
from shared.utils.errors import UserError

LOOK = "a person"
"""Of whom nobody has said more."""
IN_TEMPLATE = "Scene description:"
"""What a text that a user has written in the template says itself."""


def write(record: Record, context: Context) -> Finding:
    """Write caption and audio caption; both empty where no text says anything of the scene."""
    texts = record.figures["captions"]
    scene, sound = texts["scene"], texts["sound"]
    if not scene or IN_TEMPLATE in scene:
        return Finding(figures={"caption": scene, "audio_caption": sound})
    people = described(record.figures)
    looks = [texts["people"][number] if texts["people"] else LOOK for number in people]
    says = record.figures["speech"]["speaking"]
    speaking = [place for place, number in enumerate(people) if says[number]]
    try:
        text = context.tools.template(looks, speaking, scene)
    except ValueError as error:
        raise UserError(f"its caption cannot stand in the template: {error}") from None
    return Finding(figures={"caption": text, "audio_caption": sound})


def described(figures: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """List the faces that the text has, by number: as many as voices are heard, of those whose lips go best with the
    speech; all, where voices are not counted."""
    speech = figures["speech"]
    speaking = speech["speaking"]
    alike = speech["scores"] if "scores" in speech else speech["correlations"]  # by what tells who speaks
    faces = list(range(len(speaking)))
    if not figures["voices"]:
        return faces
    count = max(figures["voices"]["heard"], sum(speaking))
    likely = sorted(faces, key=lambda face: (not speaking[face], math.inf if alike[face] is None else -alike[face]))
    return sorted(likely[:count])
