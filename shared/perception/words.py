"""What is said: Whisper (arXiv 2212.04356, the base model) by faster-whisper, and rates of wrong words by jiwer."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.perception.installed import find_weights, optional_module, weights_fingerprint
from shared.utils.errors import UserError

RATE = 16000
MODEL = "whisper-base"
BEAM = 5
WITHOUT_SPACES = frozenset({"ja", "km", "lo", "my", "th", "yue", "zh"})
"""Languages that put no spaces between words, by Whisper's codes: there characters are counted."""


class Transcript(NamedTuple):
    """What was heard, its language, and the probability that nobody speaks, the highest of its segments."""

    text: str
    language: str
    no_speech: float


class Word(NamedTuple):
    """A word as it stands in the text, and the seconds from which and to which it is spoken."""

    text: str
    start: float
    end: float


class Spoken(NamedTuple):
    """What was heard, its language, and when each word was."""

    text: str
    language: str
    words: tuple[Word, ...]


class Errors(NamedTuple):
    """Wrong words, or characters, of `total` in the reference."""

    rate: float
    total: int
    unit: str


def transcribe(sound: NDArray[np.float32], language: str | None = None) -> Transcript:
    """Write down mono `sound` [N] at RATE; the `language` is Whisper's code, or found. Beam search at temperature 0,
    each window by itself: the same sound gives the same words. UserError where weights or package are missing."""
    segments, about = _model().transcribe(
        sound, language=language, beam_size=BEAM, temperature=0.0, condition_on_previous_text=False,
        without_timestamps=False,
    )  # fmt: skip
    found = list(segments)
    text = "".join(segment.text for segment in found).strip()
    return Transcript(text, about.language, max((segment.no_speech_prob for segment in found), default=1.0))


def timed_words(
    sound: NDArray[np.float32], spans: Sequence[tuple[float, float]], language: str | None = None
) -> Spoken:
    """Write down what is said in stretches of mono `sound` [N] at RATE, in seconds, as `transcribe` does, each by
    itself; the language is found in the first."""
    segments, about = _model().transcribe(
        sound, language=language, beam_size=BEAM, temperature=0.0, condition_on_previous_text=False,
        word_timestamps=True, clip_timestamps=[time for span in spans for time in span],
    )  # fmt: skip
    found = list(segments)
    pieces = [Word(piece.word, float(piece.start), float(piece.end)) for one in found for piece in one.words]
    text = "".join(segment.text for segment in found).strip()
    return Spoken(text, about.language, whole_words(sorted(pieces, key=attrgetter("start")), about.language))


def whole_words(pieces: Sequence[Word], language: str) -> tuple[Word, ...]:
    """Put words together that Whisper parts at a hyphen: a piece without a space before it goes on with the last one,
    but in languages without spaces."""
    words: list[Word] = []
    for piece in pieces:
        if words and not piece.text.startswith(" ") and language not in WITHOUT_SPACES:
            last = words.pop()
            words.append(Word(last.text + piece.text.rstrip(), last.start, max(last.end, piece.end)))
        else:
            words.append(piece._replace(text=piece.text.strip(), end=max(piece.start, piece.end)))
    return tuple(words)


def check_language(name: str, code: str) -> None:
    """Raise UserError, which calls it `name`, for a code that is none of Whisper's languages."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    if code not in LANGUAGES:
        raise UserError(f"{name}: {code} is no language of Whisper; there are {', '.join(sorted(LANGUAGES))}")


def word_errors(reference: str, heard: str, language: str) -> Errors:
    """Rate of words, or characters in languages without spaces, to be changed, after `normalised`. UserError where
    jiwer is missing; ValueError for a reference without a word."""
    jiwer = optional_module("jiwer", "jiwer", "counting wrong words")
    wanted, found = normalised(reference, language), normalised(heard, language)
    if not wanted:
        raise ValueError(f"{reference!r} has no word; a text that is spoken is needed")
    if language in WITHOUT_SPACES:
        wanted, found = wanted.replace(" ", ""), found.replace(" ", "")
        return Errors(float(jiwer.cer(wanted, found)), len(wanted), "characters")
    return Errors(float(jiwer.wer(wanted, found)), len(wanted.split()), "words")


def normalised(text: str, language: str) -> str:
    """Text as it is compared: Whisper's own normaliser, of English for "en" (numbers, contractions; British spelling
    stays as it is), the basic one for others; both drop case, punctuation and what stands in brackets."""
    from transformers.models.whisper import english_normalizer

    plain = unicodedata.normalize("NFKC", text)
    english = language == "en"
    read: Any = english_normalizer.EnglishTextNormalizer({}) if english else english_normalizer.BasicTextNormalizer()
    return " ".join(word for word in read(plain).split() if any(map(str.isalnum, word)))


def words_fingerprint() -> str:
    """Hash of the weights and of what turns their output into text."""
    return weights_fingerprint(MODEL)


def _model() -> Any:
    return _loaded(os.getpid())


@cache
def _loaded(process: int) -> Any:
    """Load the model, in each process: one that is forked has its parent's, and none of the threads that answer."""
    package = optional_module("faster_whisper", "faster-whisper", "reading speech")
    return package.WhisperModel(str(find_weights(MODEL).parent), device="cpu", compute_type="int8", cpu_threads=1)
