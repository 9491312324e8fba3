"""The hashed-words encoder: deterministic, unit scale, a null token for the empty text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.encoders.text import HashedWords, tokens_of, words_of
from shared.puppets.clip import audio_caption, caption, sample_spec
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint


def test_tokens_are_lower_case_words_and_single_punctuation_marks() -> None:
    text = "Person1: a man's RED shirt, waving."
    assert tokens_of(text) == ["person1", ":", "a", "man's", "red", "shirt", ",", "waving", "."]


def test_encoding_is_deterministic_padded_and_of_unit_scale() -> None:
    first = HashedWords().encode(["a big red ball", "a bell"])
    again = HashedWords().encode(["a bell", "a big red ball"]).flip(0)
    assert first.shape == (2, 64, 128)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert (first[0, 4:] == 0).all()
    assert (first[1, 2:] == 0).all()
    assert first[0, :4].square().mean().sqrt() == pytest.approx(1.0, abs=0.1)


def test_known_values_hold_on_every_machine() -> None:
    token = HashedWords(dim=4).encode(["ball"])[0, 0]
    torch.testing.assert_close(token, torch.tensor([-1.187191, 0.784305, -0.874785, 1.079925]), atol=1e-5, rtol=0)


def test_empty_text_is_one_nonzero_null_token() -> None:
    encoder = HashedWords()
    out = encoder.encode(["", "  "])
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0, 0], encoder.null_token)
    assert out[0, 0].abs().sum() > 0
    assert (out[0, 1:] == 0).all()


def test_the_same_word_differs_after_another_word_but_stays_closest_to_itself() -> None:
    ball = HashedWords().encode(["red ball", "blue ball", "blue shirt"])[:, 1]
    near = torch.cosine_similarity(ball[0], ball[1], dim=0)
    far = torch.cosine_similarity(ball[0], ball[2], dim=0)
    assert 0.6 < near < 0.99
    assert far < 0.4


def test_context_tells_who_stands_where() -> None:
    plain, told = HashedWords(dim=256), HashedWords(dim=256, context=0.5)
    texts = [f"Person1: a {one} on the left. Person2: a {other} on the right." for one, other in (("man", "lady"),) * 2]
    texts[1] = texts[1].replace("man", "x").replace("lady", "man").replace("x", "lady")
    left = tokens_of(texts[0]).index("left")

    def alike(encoder: HashedWords, token: int) -> float:
        one, other = encoder.encode(texts)[:, token]
        return float(torch.cosine_similarity(one, other, dim=0))

    assert alike(plain, left) == pytest.approx(1, abs=1e-6)  # nothing but "the left"
    assert alike(told, left) < 0.97
    one, other = (told.encode([text])[0, 4] for text in ("a man on the left.", "a man on the left. a lady"))
    torch.testing.assert_close(one, other)  # what stands in another sentence is not mixed in
    square = told.encode(texts)[0, : len(tokens_of(texts[0]))].square().mean(-1).sqrt()
    assert ((square - 1).abs() < 0.15).all()
    assert torch.equal(HashedWords(context=0.0).encode(texts), HashedWords().encode(texts))


def test_long_prompts_are_cut_with_a_warning_that_quotes_what_is_lost() -> None:
    encoder = HashedWords(max_length=3)
    with pytest.warns(UserWarning, match="'four five'"):
        out = encoder.encode(["one two three four five"])
    assert torch.equal(out, encoder.encode(["one two three"]))


def test_save_and_load(tmp_path) -> None:
    encoder = HashedWords(dim=32, max_length=8)
    encoder.save_pretrained(tmp_path)
    loaded = HashedWords.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.null_token.dtype == torch.float32
    assert torch.equal(loaded.encode(["", "a bell"]), encoder.encode(["", "a bell"]))


def test_words_that_were_never_learnt_are_named_once_with_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    encoder = HashedWords(dim=4, vocabulary=["bell", "drum", "rings", "twice"])
    plain = HashedWords(dim=4).encode(["A bel rings: TWICE, xylophone!"])
    assert torch.equal(encoder.encode(["A bel rings: TWICE, xylophone!", ""])[:1], plain) and len(caplog.records) == 1
    assert "'a', 'bel' (is 'bell' meant?), 'xylophone'; see docs/puppets.md" in caplog.text
    encoder.encode(["bel"])
    assert len(caplog.records) == 1
    encoder.encode(["bell zither"])
    assert len(caplog.records) == 2 and "'zither'" in caplog.records[1].getMessage()


def test_a_vocabulary_grows_with_training_and_an_open_one_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    encoder = HashedWords(dim=4, vocabulary=["bell"])
    encoder.learn(["A dog barks twice.", "A cat."])
    assert encoder.config.vocabulary == ["a", "barks", "bell", "cat", "dog", "twice"]
    same = fingerprint(encoder)
    encoder.learn(None)
    assert encoder.config.vocabulary is None and fingerprint(encoder) == same == fingerprint(HashedWords(dim=4))
    encoder.learn(["more"])
    assert encoder.config.vocabulary is None
    large = HashedWords(dim=4, vocabulary=[])
    large.encode(["quokka"])  # nothing is learnt yet, so nothing is strange
    large.learn(f"word{i}" for i in range(20_001))
    assert large.config.vocabulary is None
    encoder.encode(["quokka"])
    assert not caplog.records


def test_the_shipped_vocabulary_is_that_of_the_puppets() -> None:
    shipped = HashedWords.from_pretrained(Path(__file__).parents[3] / "assets/puppets/text_encoder")
    levels = ("simple", "full", "shows")
    scripts = [sample_spec(1, index, level, (64, 64)) for level in levels for index in range(300)]
    texts = [text(spec) for spec in scripts for text in (caption, audio_caption)]
    words = {word for text in texts for word in words_of(text)}
    assert words <= set(shipped.config.vocabulary) and len(shipped.config.vocabulary) < 1.2 * len(words)


def test_words_are_real_though_an_encoder_was_built_without_values_before() -> None:
    with torch.device("meta"):  # as a folder is checked
        HashedWords(dim=37)
    assert HashedWords(dim=37).null_token.isfinite().all()


@pytest.mark.parametrize("vocabulary", [5, "words", ["a", 5], {"a": 1}])
def test_a_vocabulary_of_anything_but_words_is_refused(vocabulary: object) -> None:
    with pytest.raises(UserError, match=r"vocabulary is .*; a list of words, or null, is needed"):
        HashedWords(vocabulary=vocabulary)  # type: ignore[arg-type]
