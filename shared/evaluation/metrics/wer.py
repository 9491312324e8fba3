"""Word error rate of what is said: Whisper's transcript against the text (Radford et al. 2022, arXiv 2212.04356).

Reproduced: Whisper's normaliser, edits over words of the text, the mean over clips weighted by words, as over one long
text. Mended: characters are counted in languages without spaces; sound in which nobody speaks is not given to Whisper,
which invents sentences there, but counts as nothing said, so that all words are wrong.
What would fool it: clear speech at any time and from anybody; `lip_sync` finds that.
"""

from __future__ import annotations

import re
from typing import Any, Self

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent
from shared.perception.installed import find_weights, optional_module
from shared.perception.voices import speech_share, voices_fingerprint
from shared.perception.words import BEAM, MODEL, RATE, normalised, transcribe, word_errors, words_fingerprint

_SPOKEN = re.compile(r"<S>(.*?)<E>", re.DOTALL)
LEAST_VOICE = 0.1
"""Seconds of speech below which nobody speaks."""
ANY_LANGUAGE = "en"  # whose rules a text is read by of which no language is told and nothing was heard


class WordErrorRate:
    """Rate of wrong words of the clip's text, of which only what stands between <S> and <E> is spoken, if there are
    such marks (as in Ovi's captions); of the clip's track of speech, or the mix. `language`: Whisper's code, or found.
    """

    name = "wer"
    better: Better = "lower"
    needs = frozenset({"audio", "text"})

    def __init__(self, language: str | None = None) -> None:
        self.language = language

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make it; UserError where a model that it uses is not installed."""
        metric = cls()
        for module, package in (("faster_whisper", "faster-whisper"), ("jiwer", "jiwer")):
            optional_module(module, package, cls.name)
        find_weights(MODEL)
        metric.fingerprint()
        return metric

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        return {
            "model": MODEL, "rate": RATE, "beam": BEAM, "temperature": 0, "language": self.language or "found",
            "normaliser": "Whisper's", "computation": "int8", "least_voice_s": LEAST_VOICE,
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of the weights. UserError where the voice detector is missing."""
        return f"{words_fingerprint()} {voices_fingerprint()}"

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: a text in which no word is spoken."""
        words = spoken(media.text or "")
        track = media.speech(RATE)
        sound = media.audio(RATE) if track is None else track
        text, language = "", self.language or ANY_LANGUAGE
        if not normalised(words, language):
            return Result(None, "no words in the text")
        if not silent(media, RATE) and speech_share(sound) * len(sound) / RATE >= LEAST_VOICE:
            heard = transcribe(sound, self.language)
            text, language = heard.text, heard.language
        errors = word_errors(words, text, language)
        facts = {"heard": text, "language": language, "unit": errors.unit, errors.unit: errors.total}
        return Result(errors.rate, facts=facts, weight=float(errors.total))


def spoken(text: str) -> str:
    """Take from a caption what is spoken: all that stands between <S> and <E>, or the whole text without such marks."""
    return " ".join(part.strip() for part in _SPOKEN.findall(text)) if _SPOKEN.search(text) else text
