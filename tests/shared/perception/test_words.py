"""Words: what is compared, and by which unit; and a real recording is read, where there is one."""

from __future__ import annotations

import pytest
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.perception.words import MODEL, RATE, normalised, transcribe, word_errors, words_fingerprint


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


@pytest.mark.slow
def test_a_recording_is_read_word_by_word() -> None:
    need_model(MODEL, "faster_whisper")
    need_model("", "jiwer")
    file, text = list(spoken_lines().items())[1]
    heard = transcribe(read_audio(file, RATE)[0])
    assert heard.language == "en" and word_errors(text, heard.text, "en").rate == 0
