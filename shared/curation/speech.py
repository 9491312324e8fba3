"""Who speaks: the lips of each face against the speech track. Clips with a voice and nobody's lips are voice-overs.

No package carries a model of active speakers. Where the user has TalkNet-ASD (`active_speakers`), it tells. In its
place stands the correlation of a mouth's opening with the loudness of the speech (Chandrasekaran et al. 2009, PLoS
Comput. Biol. 5(7), e1000436), over the time in which that mouth moves: of two who speak in turns each is judged by its
own turns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter1d, maximum_filter1d, minimum_filter1d

from shared.curation.active_speakers import face_scores
from shared.curation.config import Speech
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Record
from shared.data.media import read_audio
from shared.perception.stretches import stretches
from shared.perception.voices import STEP, speech_probability
from shared.puppets.readers import HOP, band_level
from shared.utils.levels import SILENCE_DBFS

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

RATE = 16000
VOICE_BAND = (100.0, 4000.0)  # Hz
SMOOTH = 0.03
"""Seconds of the curve of loudness that are looked at together."""
AROUND = 0.2
"""Seconds before and after a moment within which a mouth opens or shuts, if it moves."""
GAP = 0.3
"""Seconds of silence that do not part a stretch of speech."""
PAUSE = 0.3
"""Seconds before and after moving lips, or scores above 0, in which what is heard may still be theirs."""
LEAST_SPOKEN = 0.4
"""Seconds of moving lips below which nothing is said about them, and of scores above 0 from which a face speaks."""


class Voice(NamedTuple):
    """Speech per frame [T]: its loudness, and whether there is any."""

    loudness: Array
    active: Mask


def listen(record: Record, context: Context) -> Finding:
    """Tell who of the faces speaks, when somebody does (`spans`, seconds), and how much of it is nobody's."""
    settings = context.config.speech
    people = record.figures["people"]
    fps, frames = people["fps"], people["frames"]
    openings = [np.array(person["opening"]) for person in people["people"]]
    if "speech" in record.figures["demix"]["silent"]:
        sound = np.zeros(0, np.float32)
        voice = Voice(np.zeros(frames), np.zeros(frames, bool))
    else:
        sound = read_audio(track_files(context.output, record.key)["speech"], RATE)[0]
        voice = voice_of(sound, frames, fps, settings)
    if settings.speaker == "correlation":
        figures = who_speaks(openings, voice, fps, settings)
    elif openings and voice.active.any():
        figures = who_is_scored(face_scores(record, context.config, sound), voice, fps, settings)
    else:
        figures = who_is_scored([np.full(frames, np.nan) for _ in openings], voice, fps, settings)
    figures["spans"] = [[round(at / fps, 3) for at in span] for span in stretches(voice.active, round(GAP * fps))]
    if figures["speech_share"] >= settings.least_speech and figures["voice_over_share"] > settings.most_voice_over:
        seen = f"{len(openings)} faces are seen" if openings else "nobody is seen"
        told = f"{figures['voice_over_share']:.0%} of the speech is of nobody whose lips move with it, and {seen}"
        return Finding("drop", "voice-over", told, figures)
    return Finding(figures=figures)


def voice_of(sound: NDArray[np.float32], frames: int, fps: float, settings: Speech) -> Voice:
    """Read the speech track [N] at RATE on the times of so many frames."""
    level = gaussian_filter1d(band_level(sound, RATE, VOICE_BAND), SMOOTH / HOP)
    times = np.arange(frames) / fps
    loudness = np.interp(times, np.arange(len(level)) * HOP, level)
    if settings.activity == "level":
        return Voice(loudness, loudness > 10 ** (SILENCE_DBFS / 20))
    probability = speech_probability(sound)
    spoken = np.interp(times, (np.arange(len(probability)) + 0.5) * STEP / RATE, probability)
    return Voice(loudness, spoken >= settings.least_probability)


def who_speaks(openings: list[Array], voice: Voice, fps: float, settings: Speech) -> dict[str, Any]:
    """Judge the mouths [T] of faces by the speech of the same frames."""
    size = 1 + 2 * round(AROUND * fps)
    speaking, alike = [], []
    theirs = np.zeros(len(voice.active), bool)
    for opening in openings:
        moves = maximum_filter1d(opening, size) - minimum_filter1d(opening, size) >= settings.least_motion
        likeness = _likeness(opening, voice, moves, fps, settings.most_lag)
        alike.append(None if likeness is None else round(likeness, 3))
        speaking.append(likeness is not None and likeness >= settings.least_correlation)
        if speaking[-1]:
            theirs |= _around(moves, fps)
    return {"speaking": speaking, "correlations": alike} | _shares(voice, theirs)


def who_is_scored(scores: list[Array], voice: Voice, fps: float, settings: Speech) -> dict[str, Any]:
    """Judge faces by a network's scores [T] of the same frames, NaN where it has none. A face speaks if it is scored
    above 0 in `least_share` of the frames with speech, and in LEAST_SPOKEN seconds of them. Its figures: the mean score
    of its frames with speech, or None, and that share."""
    spoken = int(voice.active.sum())
    least = max(LEAST_SPOKEN * fps, settings.least_share * spoken)
    speaking, means, shares = [], [], []
    theirs = np.zeros(len(voice.active), bool)
    for score in scores:
        known = score[voice.active & np.isfinite(score)]
        above = int((known > 0).sum())
        means.append(round(float(known.mean()), 3) if len(known) else None)
        shares.append(round(above / spoken, 4) if spoken else 0.0)
        speaking.append(above >= least)
        if speaking[-1]:
            theirs |= _around(score > 0, fps)
    return {"speaking": speaking, "scores": means, "scored_shares": shares} | _shares(voice, theirs)


def _around(frames: Mask, fps: float) -> Mask:
    """Widen frames [T] by PAUSE."""
    wide: Mask = binary_dilation(frames, np.ones(1 + 2 * round(PAUSE * fps), bool))
    return wide


def _shares(voice: Voice, theirs: Mask) -> dict[str, float]:
    """Share of the time with speech, and of the speech what is of nobody who is seen to speak in frames `theirs`."""
    share = float(voice.active.mean()) if len(voice.active) else 0.0
    nobodys = float((voice.active & ~theirs).sum() / voice.active.sum()) if voice.active.any() else 0.0
    return {"speech_share": round(share, 4), "voice_over_share": round(nobodys, 4)}


def _likeness(opening: Array, voice: Voice, moves: Mask, fps: float, most_lag: float) -> float | None:
    """Correlate a mouth with the loudness while it moves, at the best lag; None where it hardly moves, or all is
    still."""
    spoken = moves & binary_dilation(voice.active, np.ones(3, bool))
    if spoken.sum() < LEAST_SPOKEN * fps:
        return None
    best = None
    reach = round(most_lag * fps)
    for lag in range(-reach, reach + 1):
        shifted = np.roll(voice.loudness, lag)[spoken]
        if np.ptp(opening[spoken]) > 0 and np.ptp(shifted) > 0:
            value = float(np.corrcoef(opening[spoken], shifted)[0, 1])
            best = value if best is None else max(best, value)
    return best
