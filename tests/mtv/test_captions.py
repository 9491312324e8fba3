from __future__ import annotations

import pytest

from mtv.captions import Template, build, compose, drop_speaker, parse, without_speaker
from shared.puppets.clip import caption
from shared.puppets.script import sample_spec
from shared.utils.errors import UserError

MAN, WOMAN, CHILD = "a man in a blue shirt", "a woman. She wears a hat", "a child: very small"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (Template((), (), "rain falls"), "Scene description: rain falls."),
        (
            Template((MAN,), (0,), "an empty stage"),
            "One person conversation. Person1: a man in a blue shirt. Person1 is speaking. "
            "Scene description: an empty stage.",
        ),
        (
            Template((MAN, WOMAN), (0, 1), "a garden. It rains"),
            "Two person conversation. Person1: a man in a blue shirt. Person2: a woman. She wears a hat. "
            "Person1 is speaking. Person2 is speaking. Scene description: a garden. It rains.",
        ),
        (
            Template((MAN, WOMAN, CHILD), (), "a kitchen"),
            "Three person conversation. Person1: a man in a blue shirt. Person2: a woman. She wears a hat. "
            "Person3: a child: very small. Scene description: a kitchen.",
        ),
    ],
)
def test_round_trip(template: Template, text: str) -> None:
    assert build(template) == text
    assert parse(text) == parse(f"  {text}\n") == template


@pytest.mark.parametrize("level", ["simple", "full"])
def test_the_stage_speaks_this_template(level: str) -> None:
    counts = set()
    for index in range(40):
        spec = sample_spec(3, index, level)
        text = caption(spec)
        template = parse(text)
        assert build(template) == text
        speakers = tuple(i for i, character in enumerate(spec.characters) if character.syllables)
        assert template.speaking == speakers
        assert len(template.people) == (len(spec.characters) if speakers else 0)
        counts.add(len(template.people))
    assert counts == ({0, 1} if level == "simple" else {0, 1, 2})


def test_without_speaker_removes_these_sentences_only() -> None:
    template = Template((MAN, WOMAN), (0, 1), "a garden")
    assert parse(without_speaker(build(template))) == Template((MAN, WOMAN), (), "a garden")
    assert without_speaker("Scene description: a garden.") == "Scene description: a garden."


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "Scene description"),
        ("A bell rings.", "Scene description"),
        ("Scene description: a garden", "Scene description"),
        ("Scene description: .", "Scene description"),
        ("Person1: a man. Scene description: a garden.", "person conversation"),
        ("Ten person conversation. Person1: a man. Scene description: a garden.", "person conversation"),
        ("One person conversation. Scene description: a garden.", "announces one and describes 0"),
        ("Two person conversation. Person1: a man. Scene description: a garden.", "announces two and describes 1"),
        ("Two person conversation. Person2: a man. Scene description: a garden.", "'Person1: <look>.' is missing"),
        ("One person conversation. Person1: a man. Person2 is speaking. Scene description: a garden.", "speaking"),
        ("One person conversation. Person1: a man. Scene description: x. Scene description: y.", "the template's own"),
        ("One person conversation. Person1: a man. Person1 is speaking. He is. Scene description: x.", "'He is.'"),
    ],
)
def test_other_texts_are_refused_with_the_missing_part(text: str, missing: str) -> None:
    with pytest.raises(UserError, match="does not follow the template") as refused:
        parse(text)
    assert missing in str(refused.value)


@pytest.mark.parametrize(
    ("people", "speaking", "scene"),
    [
        ((MAN,), (1,), "a garden"),
        ((MAN, WOMAN), (1, 0), "a garden"),
        ((), (), ""),
        ((), (), "a garden."),
        (("a man. Person2: a woman",), (0,), "a garden"),
        ((MAN,) * 10, (), "a garden"),
    ],
)
def test_a_template_that_could_not_be_read_back_is_not_made(
    people: tuple[str, ...], speaking: tuple[int, ...], scene: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        Template(people, speaking, scene)


def test_a_caption_of_another_form_keeps_its_speaker() -> None:
    said = "One person conversation. Person1: a man. Person1 is speaking. Scene description: a garden."
    assert drop_speaker(said) == without_speaker(said) != said
    assert drop_speaker("Person1 is speaking, somehow.") == "Person1 is speaking, somehow."


def test_free_texts_are_composed() -> None:
    text = compose(["a man. ", "a woman in a red shirt"], [1], " a garden.")
    assert text == (
        "Two person conversation. Person1: a man. Person2: a woman in a red shirt. Person2 is speaking. "
        "Scene description: a garden."
    )
    assert compose(["a man"], [], "a garden") == "Scene description: a garden."
