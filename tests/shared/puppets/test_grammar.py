"""The language of `shows`: what is written is read back, and what is held out stays out."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain

import pytest

from mtv.captions import parse as parse_template
from mtv.captions import without_speaker
from shared.puppets.grammar import held_out_phrases, parse, told, write
from shared.puppets.shows import held_out_pairs, sample_show
from shared.puppets.spec import HELD_OUT_PAIRS, Spec
from shared.puppets.told import Told, ToldObject, ToldPerson
from shared.puppets.words import PHRASES, TAGS, VOCABULARY
from shared.utils.errors import UserError


def shots(count: int, held_out: bool = False) -> list[Spec]:
    return list(chain(*(sample_show(11, i, (64, 64), held_out=held_out).shots for i in range(count))))


TRAINING, UNSEEN = shots(900), shots(400, held_out=True)


def test_three_hundred_words_each_of_which_means_one_thing() -> None:
    assert 280 <= len(VOCABULARY) <= 340
    written = [phrase for values in PHRASES.values() for usual, rare in values.values() for phrase in {*usual, *rare}]
    assert len(written) == len(set(written)) == len(TAGS)
    assert all(len(set(usual)) > 0 and rare for values in PHRASES.values() for usual, rare in values.values())


@pytest.mark.parametrize("audio", [False, True], ids=["video", "audio"])
def test_thousands_of_captions_are_read_back(audio: bool) -> None:
    for spec in TRAINING + UNSEEN:
        text = write(spec, audio)
        assert parse(text) == told(spec, audio), text
        assert re.fullmatch(r"[A-Z0-9][A-Za-z0-9 .:]+\.", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  ", text), text


def test_every_word_is_used() -> None:
    text = " ".join(write(spec, audio) for spec in TRAINING + UNSEEN for audio in (False, True)).lower()
    unused = {phrase for phrase in TAGS if phrase not in text}
    assert len(unused) < 0.03 * len(TAGS), unused


def test_training_captions_have_nothing_of_what_is_held_out() -> None:
    for spec in TRAINING:
        assert not held_out_phrases(write(spec)) and not held_out_phrases(write(spec, audio=True))
        assert all(HELD_OUT_PAIRS[prop.kind] != prop.colour for prop in spec.props)
        assert all(HELD_OUT_PAIRS[c.kind] != c.shirt for c in spec.characters)
        read = parse(write(spec))
        assert all(HELD_OUT_PAIRS[one.kind] != one.colour for one in read.objects)
        assert all(HELD_OUT_PAIRS[one.kind] != one.shirt for one in read.people)


def test_held_out_captions_have_an_unseen_pair_and_an_unseen_paraphrase() -> None:
    for spec in UNSEEN:
        assert held_out_phrases(write(spec)) and held_out_phrases(write(spec, audio=True)) and held_out_pairs(spec)
    assert {pair for spec in UNSEEN for pair in held_out_pairs(spec)} == {(c, k) for k, c in HELD_OUT_PAIRS.items()}


def test_users_own_words_are_read() -> None:
    assert parse("A lady in a scarlet sweater at the left talks while a tiny golden chime tolls two times.") == Told(
        people=(ToldPerson("woman", "left", "red", speaks=True),),
        objects=(ToldObject("bell", "small", "yellow", count=2),),
    )
    assert parse("A man and a woman speak in turns with a slow sad melody.") == Told(
        people=(ToldPerson("man", speaks=True), ToldPerson("woman", speaks=True)),
        music=True, mode="minor", pace="slow",
    )  # fmt: skip


def test_the_template_is_that_of_audio_driven_video() -> None:
    templates = [spec for spec in TRAINING if "person conversation" in write(spec)]
    assert 0.4 < len(templates) / sum(any(c.syllables for c in spec.characters) for spec in TRAINING) < 0.9
    for spec in templates[:100]:
        read = parse_template(write(spec))
        assert read.speaking == tuple(i for i, c in enumerate(spec.characters) if c.syllables)
        untold = parse(without_speaker(write(spec)))
        assert [person.speaks for person in untold.people] == [None] * len(spec.characters)
        assert untold.objects == told(spec).objects


def test_the_same_script_has_the_same_words_and_others_have_others() -> None:
    spec = next(s for s in TRAINING if s.props)
    assert write(spec) == write(replace(spec)) and write(spec) != write(replace(spec, index=spec.index + 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A unicorn rings twice.", "'unicorn' is not in the puppets' grammar"),
        ("A ball bounces in a red.", "red belongs to nothing"),
        ("Twice and a bell.", "'twice' belongs to nothing"),
        ("A bell rings and speaks.", "nobody is there of whom 'speaks' is said"),
        ("On the left under warm bright light.", "'on the left' belongs to nothing"),
    ],
)
def test_what_is_no_caption_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(text)
