"""Lip-sync without a trained judge: how open the mouths are against how loud the speech is, and by how much it is late.

Reference: the correlation of the mouth's opening with the envelope of the voice (Chandrasekaran et al. 2009, PLoS
Comput. Biol. 5(7), e1000436) and the search for an offset of SyncNet (Chung and Zisserman 2016, "Out of time").
Reproduced: one offset per clip, of all that are tried; the highest likeness is the confidence. Mended: no face track
vanishes unsaid (a clip without a face is refused and counted), none has to last 100 frames, and there is no network
whose crops move the number.
What would fool it: mouths that open at every loud syllable without forming it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short
from shared.evaluation.metrics.curves import LEAST_OVERLAP, best_lag
from shared.evaluation.metrics.mouths import FPS, SOURCES, Source
from shared.perception.faces import MODELS
from shared.perception.installed import find_weights, optional_module, weights_fingerprint
from shared.perception.voices import RATE, STEP, speech_probability, voices_fingerprint
from shared.puppets.readers import HOP, SPEECH_BAND, WINDOW, band_level

Array = NDArray[np.float64]

VOICE_BAND = (100.0, 4000.0)
"""Hz in which the loudness of real speech is read; the puppets' voices have a band of their own."""
CURVE_RATE = 100.0  # values per second of the curves that are compared
LEAST_LOUDNESS = 10 ** (-50 / 20)
"""RMS amplitude of the loudest moment of speech below which there is none."""
LEAST_SPEECH = 0.5
"""Probability below which a moment of a mix is no speech at all."""
LEAST_FOUND = 0.5
"""Share of frames in which a face has to be found."""


class LipSync:
    """Correlation, at the lag where it is highest, of the opening of all mouths with the loudness of speech: the clip's
    track of speech, or the mix, weighted by the probability that somebody speaks. `lag_ms` is above 0 where the sound
    is late. `mouth`: "landmarks", or "puppets" for the toy world, whose drawn faces the face model sees by chance alone
    and whose voices have a band to themselves. A mouth that never moves has 0."""

    name = "lip_sync"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})
    mouth: ClassVar[Source] = "landmarks"

    def __init__(self, mouth: Source | None = None, most_lag: float = 0.5) -> None:
        self.source: Source = mouth or self.mouth
        self.most_lag = most_lag

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make it; UserError where a model that it uses is not installed."""
        metric = cls(most_lag=tools.settings.get(cls.name, {}).get("most_lag", 0.5))
        metric.fingerprint()
        return metric

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        drawn = self.source == "puppets"
        return {
            "mouth": self.source, "fps": "the clip's" if drawn else FPS, "rate": RATE,
            "band_hz": list(SPEECH_BAND if drawn else VOICE_BAND), "window_s": WINDOW, "curve_rate": CURVE_RATE,
            "most_lag_s": self.most_lag, "mix_weighted_by": "nothing" if drawn else "speech probability",
            "least_speech": None if drawn else LEAST_SPEECH, "least_frames_with_a_face": LEAST_FOUND,
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of the weights; "" for puppets. UserError where they, or what runs them, are missing."""
        if self.source == "puppets":
            return ""
        optional_module("ai_edge_litert.interpreter", "ai-edge-litert", "reading faces")
        for model in MODELS:
            find_weights(model)
        return f"{weights_fingerprint(*MODELS)} {voices_fingerprint()}"

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too short, silent, no face, or nobody speaks."""
        if why := too_short(media, self.most_lag + LEAST_OVERLAP) or silent(media, RATE):
            return Result(None, why)
        mouths = SOURCES[self.source](media)
        if mouths.found < LEAST_FOUND:
            share = f"a face in only {mouths.found:.0%} of the frames"
            return Result(None, share if mouths.faces else "no face")
        loudness = self.loudness(media)
        if loudness.max(initial=0.0) < LEAST_LOUDNESS:
            return Result(None, "nobody speaks")
        times = np.arange(int(min(len(mouths.opening) / mouths.fps, len(loudness) * HOP) * CURVE_RATE)) / CURVE_RATE
        opening = np.interp(times, np.arange(len(mouths.opening)) / mouths.fps, mouths.opening)
        voice = np.interp(times, np.arange(len(loudness)) * HOP, loudness)
        try:
            lag = best_lag(opening, voice, CURVE_RATE, self.most_lag)
        except ValueError as error:  # one of the streams ends early
            return Result(None, str(error))
        facts = {
            "lag_ms": round(1000 * lag.seconds) if lag.correlation > 0 else None, "faces": mouths.faces,
            "frames_with_a_face": mouths.found, "correlation_unshifted": lag.unshifted,
            "lags_s": lag.lags.round(3).tolist(), "correlations": lag.curve.round(4).tolist(),
        }  # fmt: skip
        return Result(lag.correlation, facts=facts)

    def loudness(self, media: ClipMedia) -> Array:
        """RMS amplitude of the speech every HOP seconds."""
        track = media.speech(RATE)
        sound = media.audio(RATE) if track is None else track
        if self.source == "puppets":
            return band_level(sound, RATE, SPEECH_BAND)
        level = band_level(sound, RATE, VOICE_BAND)
        if track is not None:
            return level
        probability = speech_probability(sound)
        spoken = np.where(probability >= LEAST_SPEECH, probability, 0.0)
        return level * np.interp(np.arange(len(level)) * HOP, (np.arange(len(spoken)) + 0.5) * STEP / RATE, spoken)


class PuppetLipSync(LipSync):
    """The same for clips of the toy world."""

    name = "lip_sync_puppets"
    mouth: ClassVar[Source] = "puppets"
