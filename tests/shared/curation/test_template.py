from __future__ import annotations

from pathlib import Path

import pytest

from mtv.captions import compose, parse
from shared.curation.config import DemixConfig
from shared.curation.record import Context, Record, Tools
from shared.curation.template import write
from shared.utils.errors import UserError

CONTEXT = Context(DemixConfig(), Path(), Tools(None, compose))  # type: ignore[arg-type]


def text(speaking: list[bool], scene: str, looks: list[str] | None = None, sound: str = "") -> tuple[str, str]:
    figures = {
        "people": {"people": [{}] * len(speaking)}, "speech": {"speaking": speaking},
        "captions": {"people": looks or [], "scene": scene, "sound": sound},
    }  # fmt: skip
    found = write(Record("k", Path("x"), "k", 0, 1, "", figures), CONTEXT).figures
    return found["caption"], found["audio_caption"]


def test_the_template_has_the_speakers_that_were_found() -> None:
    caption, sound = text([False, True], "a garden at night.", ["a man", "a woman in red"], "A woman speaks.")
    assert caption == (
        "Two person conversation. Person1: a man. Person2: a woman in red. Person2 is speaking. "
        "Scene description: a garden at night."
    )
    assert sound == "A woman speaks." and parse(caption).speaking == (1,)


def test_a_text_that_the_template_cannot_hold_is_told() -> None:
    with pytest.raises(UserError, match=r"its caption cannot stand in the template: 'Person1: me'"):
        text([True], "Person1: me")


@pytest.mark.parametrize(
    ("speaking", "scene", "caption"),
    [
        (
            [True],
            "a room",
            "One person conversation. Person1: a person. Person1 is speaking. Scene description: a room.",
        ),
        ([False], "a room", "Scene description: a room."),
        ([True], "", ""),
        ([True], "Scene description: mine.", "Scene description: mine."),
    ],
)
def test_without_looks_scene_or_words(speaking: list[bool], scene: str, caption: str) -> None:
    assert text(speaking, scene)[0] == caption
