"""How good a clip's sound is: by DNSMOS, of its speech track, where somebody speaks; or by Audiobox-aesthetics, of all.

The paper filters clips by Audiobox-aesthetics (arXiv 2506.08003). That rates any sound, so it hears the mix. DNSMOS
rates speech alone and hears all else as noise, so it hears the speech track, from the first word to the last, and a
clip in which nobody speaks is kept without a score, which its figures say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shared.curation.config import Quality
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Record
from shared.data.media import read_audio
from shared.perception.installed import find_weights, optional_module
from shared.perception.quality import MODEL, RATE, speech_quality

if TYPE_CHECKING:
    from shared.perception.aesthetics import Aesthetics

LEAST_SPEECH = 1.0
"""Seconds of speech below which DNSMOS, which fills its window of 9 s by repetition, says nothing."""


class Rater(NamedTuple):
    """What rates sounds: `scores` of a clip by name, empty for one that it says nothing of; `of`: what it hears;
    `score`: the one that decides, of `most` at best; `least`: below it a clip is dropped, if nothing else is said."""

    scores: Callable[[Record, Context], dict[str, float]]
    of: str
    score: str
    most: int
    least: float


def rate(record: Record, context: Context) -> Finding:
    """Rate a clip's sound, and drop it if that is too bad."""
    settings = context.config.quality
    if settings.by == "none":
        return Finding()
    rater = RATERS[settings.by]
    scores = {name: round(value, 3) for name, value in rater.scores(record, context).items()}
    if not scores:
        return Finding(figures={"by": settings.by, "scores": None, "why": f"less than {LEAST_SPEECH:g} s of speech"})
    figures = {"by": settings.by, "scores": scores}
    least = rater.least if settings.least is None else settings.least
    if scores[rater.score] < least:
        told = f"{settings.by} rates {rater.of} {scores[rater.score]:.2f} of {rater.most}"
        return Finding("drop", "bad sound", f"{told}; at least {least:g} is needed", figures)
    return Finding(figures=figures)


def by_dnsmos(record: Record, context: Context) -> dict[str, float]:
    """Scores of the speech track from where speech begins to where it ends; none for less than LEAST_SPEECH."""
    spans = record.figures["speech"]["spans"]
    if sum(end - start for start, end in spans) < LEAST_SPEECH:
        return {}
    first, end = spans[0][0], spans[-1][1]
    sound = read_audio(track_files(context.output, record.key)["speech"], RATE)[0]
    return speech_quality(sound[round(first * RATE) : round(end * RATE)])


def by_audiobox(record: Record, context: Context) -> dict[str, float]:
    """Scores of the clip's whole sound."""
    weights = context.config.quality.weights
    assert weights is not None, "the configuration refuses audiobox without weights"
    return _aesthetics(weights).scores(read_audio(record.source, RATE, True, record.start, record.end)[0])


#: By the names of the configuration.
RATERS = {
    "dnsmos": Rater(by_dnsmos, "its speech", "overall", 5, 2.5),
    "audiobox": Rater(by_audiobox, "its sound", "quality", 10, 5.0),
}


def check(settings: Quality) -> None:
    """Raise UserError where what rates is not installed, or the weights are not its."""
    if settings.by == "dnsmos":
        optional_module("onnxruntime", "onnxruntime", "rating speech")
        find_weights(MODEL)
    if settings.weights is not None:
        _aesthetics(settings.weights)


@cache
def _aesthetics(folder: Path) -> Aesthetics:
    from shared.perception.aesthetics import Aesthetics  # transformers takes seconds, in each process

    return Aesthetics.load(folder)
