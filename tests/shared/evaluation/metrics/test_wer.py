"""Word error rate: what counts as spoken, and that silence is not given to a model that invents words."""

from __future__ import annotations

import numpy as np
import pytest
from media import Media
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.evaluation.metrics import wer
from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.wer import WordErrorRate, spoken
from shared.perception import installed
from shared.perception.words import RATE, Transcript
from shared.utils.errors import UserError

NOTHING = np.zeros((0, 8, 8, 3), np.uint8)
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)


def test_marks_tell_what_is_spoken() -> None:
    assert spoken("A man says <S>Hello there.<E> and then <S> bye <E>") == "Hello there. bye"
    assert spoken("Hello there.") == "Hello there."


def test_wrong_words_are_counted_and_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    need_model("", "jiwer")
    monkeypatch.setattr(wer, "speech_share", lambda _: 1.0)
    monkeypatch.setattr(wer, "transcribe", lambda sound, language: Transcript("Hello dear!", "en", 0.0))
    result = WordErrorRate().clip(Media(NOTHING, 25.0, NOISE, RATE, "He says <S>hello there, Mr. Smith<E>."))
    assert result.value == pytest.approx(3 / 4) and result.weight == 4
    assert result.facts == {"heard": "Hello dear!", "language": "en", "unit": "words", "words": 4}


def test_the_track_of_speech_is_heard_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    need_model("", "jiwer")
    heard = []
    monkeypatch.setattr(wer, "speech_share", lambda sound: heard.append(sound) or 1.0)
    monkeypatch.setattr(wer, "transcribe", lambda sound, language: Transcript("hello", "en", 0.0))
    WordErrorRate().clip(Media(NOTHING, 25.0, NOISE, RATE, "hello", voice=NOISE / 2))
    assert (heard[0] == NOISE / 2).all()


@pytest.mark.parametrize("sound", [NOISE, 0 * NOISE], ids=["noise", "silence"])
def test_where_nobody_speaks_all_words_are_wrong(sound: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    need_model("", "jiwer")
    need_model("", "silero_vad")
    monkeypatch.setattr(wer, "transcribe", lambda *_: pytest.fail("it would invent words"))
    result = WordErrorRate("en").clip(Media(NOTHING, 25.0, sound, RATE, "hello there"))
    assert result.value == 1 and result.facts["heard"] == ""
    assert WordErrorRate().clip(Media(NOTHING, 25.0, sound, RATE, "<S> ... <E>")).refused == "no words in the text"


def test_without_its_model_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    need_model("", "faster_whisper")
    monkeypatch.setattr(installed, "folders", tuple)
    with pytest.raises(UserError, match=r"whisper-base: its weights .* are not installed; run `make perception`"):
        WordErrorRate.of(Tools())
    assert WordErrorRate("fr").preprocessing()["language"] == "fr"


@pytest.mark.slow
def test_a_recording_has_no_wrong_words() -> None:
    need_model("whisper-base", "faster_whisper")
    file, text = list(spoken_lines().items())[1]
    result = WordErrorRate.of(Tools()).clip(Media(NOTHING, 25.0, read_audio(file, RATE)[0], RATE, text))
    assert result.value == 0 and result.weight == 8
