"""Words: what is compared, and by which unit; and a real recording is read, where there is one."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.perception.words import (
    MODEL,
    RATE,
    Word,
    check_language,
    normalised,
    timed_words,
    transcribe,
    whole_words,
    word_errors,
    words_fingerprint,
)
from shared.utils.errors import UserError


def test_case_marks_and_numbers_do_not_count() -> None:
    assert normalised("Mr. Dashwood HAD  twenty-one — dogs!", "en") == normalised("mister dashwood had 21 dogs", "en")
    assert normalised("Ça va? [bruit]", "fr") == "ça va"
    assert len(words_fingerprint()) == 64


def test_words_are_counted_or_characters_where_there_are_no_spaces() -> None:
    need_model("", "jiwer")
    found = word_errors("He was not an ill disposed man.", "he was an ill disposed mane", "en")
    assert found == (pytest.approx(2 / 7), 7, "words")
    assert word_errors("今天天气好", "今天 天气坏", "zh") == (pytest.approx(1 / 5), 5, "characters")
    assert word_errors("one two", "", "en").rate == 1
    with pytest.raises(ValueError, match="has no word"):
        word_errors(" ... ", "x", "en")


def test_words_that_are_parted_at_a_hyphen_are_put_together() -> None:
    pieces = [Word(" ill", 0.1, 0.3), Word("-disposed", 0.3, 0.9), Word(" man.", 1.0, 1.4)]
    assert whole_words(pieces, "en") == (Word("ill-disposed", 0.1, 0.9), Word("man.", 1.0, 1.4))
    assert whole_words([Word("今", 0.1, 0.3), Word("天", 0.3, 0.2)], "zh") == (
        Word("今", 0.1, 0.3),
        Word("天", 0.3, 0.3),
    )
    assert whole_words([], "en") == ()


def test_a_code_that_is_no_language_is_told() -> None:
    check_language("words.language", "yue")
    with pytest.raises(UserError, match=r"words\.language: english is no language of Whisper; there are af, am, "):
        check_language("words.language", "english")


@pytest.mark.slow
def test_words_have_the_times_of_their_stretches_and_silence_is_not_asked_about() -> None:
    need_model(MODEL, "faster_whisper")
    need_model("", "jiwer")
    file, text = list(spoken_lines().items())[1]
    line = read_audio(file, RATE)[0]
    sound = np.concatenate([np.zeros(2 * RATE, np.float32), line, np.zeros(3 * RATE, np.float32)])
    end = 2 + len(line) / RATE
    heard = timed_words(sound, [(2.0, end)], "en")
    assert word_errors(text, heard.text, "en").rate == 0 and " ".join(word.text for word in heard.words) == heard.text
    assert 2 <= heard.words[0].start < 2.6 and end - 0.6 < heard.words[-1].end <= end + 0.1
    times = [time for word in heard.words for time in word[1:]]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_recording_is_read_word_by_word() -> None:
    need_model(MODEL, "faster_whisper")
    need_model("", "jiwer")
    file, text = list(spoken_lines().items())[1]
    heard = transcribe(read_audio(file, RATE)[0])
    assert heard.language == "en" and word_errors(text, heard.text, "en").rate == 0


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
def test_a_forked_process_answers_where_its_parent_has_the_model() -> None:
    need_model(MODEL, "faster_whisper")
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    here = timed_words(sound, [(0.0, 1.0)], "en")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(timed_words, (sound, [(0.0, 1.0)], "en")).get(timeout=60) == here
