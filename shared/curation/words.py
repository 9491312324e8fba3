"""What is said in a clip, and when: Whisper on its speech track (shared.perception.words), where there is speech.

Whisper invents sentences in silence. So it is asked only about the stretches in which `speech` has found a voice, and
never about a clip without one.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.curation.config import Words
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Record
from shared.data.media import read_audio
from shared.perception.installed import find_weights, optional_module
from shared.perception.words import MODEL, RATE, check_language, timed_words

Spans = list[tuple[float, float]]

LEAST_SPEECH = 0.1
"""Seconds of speech below which nothing is said."""
EDGE = 0.2
"""Seconds before and after a stretch of speech that are given along: a consonant is quieter than a vowel."""
PAUSE = 1.0
"""Seconds of silence up to which two stretches are one: a sentence is read better as a whole."""


def write_down(record: Record, context: Context) -> Finding:
    """Write down what is said: `text`, `language`, and `words`, each with its first and last second in the clip."""
    settings = context.config.words
    if settings.by == "none":
        return Finding()
    spans = record.figures["speech"]["spans"]
    if sum(end - start for start, end in spans) < LEAST_SPEECH:
        return Finding(figures={"text": "", "language": "", "words": []})
    sound = read_audio(track_files(context.output, record.key)["speech"], RATE)[0]
    said = timed_words(sound, sentences(spans, len(sound) / RATE), settings.language)
    words = [[round(word.start, 2), round(word.end, 2), word.text] for word in said.words]
    return Finding(figures={"text": said.text, "language": said.language, "words": words})


def sentences(spans: Sequence[tuple[float, float]], seconds: float) -> Spans:
    """Widen stretches of speech in a clip of so many seconds, and join those that are near each other."""
    found: Spans = []
    for start, end in spans:
        first, last = max(0.0, start - EDGE), min(seconds, end + EDGE)
        if found and start - found[-1][1] <= PAUSE - EDGE:
            first = found.pop()[0]
        found.append((first, last))
    return found


def check(settings: Words) -> None:
    """Raise UserError where Whisper is not installed, or does not know the language."""
    if settings.by == "whisper":
        optional_module("faster_whisper", "faster-whisper", "reading speech")
        find_weights(MODEL)
        if settings.language is not None:
            check_language("words.language", settings.language)
