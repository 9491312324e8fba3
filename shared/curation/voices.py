"""How many voices are heard, and who speaks when, in the speech track. A voice without a face is dropped with its clip.

The paper leaves out clips in which somebody speaks who is not seen; lips alone (stage `speech`) tell that of most of
the speech, and not of a second voice that speaks less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.curation.config import DemixConfig, Voices
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Loads, Record
from shared.data.media import read_audio
from shared.perception.pipeline_folder import read_pipeline
from shared.utils.parallel import process_pool

if TYPE_CHECKING:
    from shared.perception.diarisation import Diariser

RATE = 16000
LEAST = 0.4
"""Seconds in all below which what is heard is no voice."""
MOST_PROCESSES = 4096
"""As many as --workers may be: a pipeline is small."""


def count(record: Record, context: Context) -> Finding:
    """Count voices: `heard`, and `spans`, the seconds in which each speaks, in the order of their first words."""
    settings = context.config.voices
    if settings.by == "none":
        return Finding()
    spans = []
    if "speech" not in record.figures["demix"]["silent"]:
        found = _diariser(settings)(read_audio(track_files(context.output, record.key)["speech"], RATE)[0])
        spans = [voice for voice in found if sum(end - start for start, end in voice) >= LEAST]
    figures = {"heard": len(spans), "spans": [[[start, end] for start, end in voice] for voice in spans]}
    seen = len(record.figures["people"]["people"])
    if len(spans) > seen + settings.most_unseen:
        told = f"{len(spans)} voice{'s are' if len(spans) > 1 else ' is'} heard"
        told = f"{told}, and {seen} face{' is' if seen == 1 else 's are'} seen"
        return Finding("drop", "unseen voice", told, figures)
    return Finding(figures=figures)


def loads(config: DemixConfig) -> Loads | None:
    """Name the files of the pipeline; where nothing counts voices there are none."""
    weights = config.voices.weights
    return None if weights is None else Loads(read_pipeline(weights).files, MOST_PROCESSES)


def check(settings: Voices) -> None:
    """Raise UserError where the pipeline is none, or what runs it is not installed."""
    if settings.weights is not None:
        read_pipeline(settings.weights)
        with process_pool(1) as pool:  # the package and its thread stay out of a parent that forks
            pool.submit(_check, settings).result()


def _check(settings: Voices) -> None:
    _diariser(settings)


def _diariser(settings: Voices) -> Diariser:
    from shared.perception.diarisation import load_diariser  # torch takes seconds, in each process

    assert settings.weights is not None, "the configuration refuses pyannote without weights"
    return load_diariser(settings.weights)
