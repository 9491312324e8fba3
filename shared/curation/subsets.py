"""The five subsets of the paper's curriculum, which overlap, by stated rules.

- single_character: one person is seen, and speaks.
- basic_face: the same, the face fills `least_face` of the height at least, and no effect sounds: a talking head.
- multiple_characters: two people or more are seen, and one speaks at least.
- sound_event: effects sound. ambience: music sounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.curation.record import Context, Finding, Record

SUBSETS = ("basic_face", "single_character", "multiple_characters", "sound_event", "ambience")


def sort(record: Record, context: Context) -> Finding:
    """Name the subsets of a clip; one in none of them is kept, for joint training."""
    names = subsets_of(record.figures, context.config.subsets.least_face)
    return Finding(figures={"subsets": names})


def subsets_of(figures: Mapping[str, Mapping[str, Any]], least_face: float) -> list[str]:
    """Apply the rules to what stages have found."""
    people, speaking = figures["people"]["people"], figures["speech"]["speaking"]
    silent = figures["demix"]["silent"]
    alone = len(people) == 1 and speaking[0]
    holds = {
        "basic_face": alone and people[0]["height"] >= least_face and "effects" in silent,
        "single_character": alone,
        "multiple_characters": len(people) >= 2 and any(speaking),
        "sound_event": "effects" not in silent,
        "ambience": "music" not in silent,
    }
    return [name for name in SUBSETS if holds[name]]
