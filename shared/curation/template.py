"""The text that a clip trains by: the number of people, their looks, who speaks, and the scene."""

from __future__ import annotations

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
    count = len(record.figures["people"]["people"])
    looks = texts["people"] or [LOOK] * count
    speaking = [number for number, speaks in enumerate(record.figures["speech"]["speaking"]) if speaks]
    try:
        text = context.tools.template(looks, speaking, scene)
    except ValueError as error:
        raise UserError(f"its caption cannot stand in the template: {error}") from None
    return Finding(figures={"caption": text, "audio_caption": sound})
