from __future__ import annotations

from pathlib import Path

import pytest

from mtv.captions import compose, parse
from shared.curation.config import DemixConfig
from shared.curation.record import Context, Record, Tools
from shared.curation.template import write
from shared.utils.errors import UserError

CONTEXT = Context(DemixConfig(), Path(), Tools(None, compose))  # type: ignore[arg-type]


def text(
    speaking: list[bool], scene: str, looks: list[str] | None = None, sound: str = "",
    alike: list[float | None] | None = None, heard: int | None = None, key: str = "correlations",
) -> tuple[str, str]:  # fmt: skip
    figures = {
        "people": {"people": [{}] * len(speaking)}, "voices": {} if heard is None else {"heard": heard, "spans": []},
        "speech": {"speaking": speaking, key: alike or [0.5 * speaks for speaks in speaking]},
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


@pytest.mark.parametrize(
    ("speaking", "alike", "heard", "people", "speakers"),
    [
        ([False, True, False], [0.1, 0.7, None], None, "abc", (1,)),
        ([False, True, False], [0.1, 0.7, None], 1, "b", (0,)),
        ([False, True, False], [0.1, 0.7, None], 2, "ab", (1,)),
        ([True, False, True], [0.7, 0.2, 0.4], 1, "ac", (0, 1)),
        ([True, False], [0.7, None], 5, "ab", (0,)),
    ],
)
def test_as_many_people_as_voices_are_heard_and_all_who_speak(
    speaking: list[bool], alike: list[float | None], heard: int | None, people: str, speakers: tuple[int, ...]
) -> None:
    looks = ["man a", "man b", "man c"][: len(speaking)]
    for key in ("correlations", "scores"):  # of lips with loudness, and of a network
        said = parse(text(speaking, "a room", looks, "", alike, heard, key)[0])
        assert said.people == tuple(f"man {name}" for name in people) and said.speaking == speakers


def test_nobody_who_speaks_is_the_scene_alone_however_many_are_heard() -> None:
    assert text([False, False], "a room", heard=1)[0] == "Scene description: a room."


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
