"""Quality of the speech in a clip as listeners would rate it: DNSMOS (Reddy et al. 2021, arXiv 2110.01763).

Reproduced: Microsoft's networks, windows and polynomials (`shared.perception.quality`). Mended: silence, and clips of
which nine tenths would be repetition, are refused, where the original rates whatever it is given.
What would fool it: clean speech of other words, or of nobody who is seen; `wer` and `lip_sync` find that.
"""

from __future__ import annotations

from typing import Any, Self

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short
from shared.perception.installed import find_weights, optional_module
from shared.perception.quality import MODEL, RATE, WINDOW, quality_fingerprint, speech_quality

LEAST_SECONDS = 1.0


class DNSMOS:
    """Overall quality, 1 to 5, of the mix; signal, background and P.808 stand beside it."""

    name = "dnsmos"
    better: Better = "higher"
    needs = frozenset({"audio"})

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make it; UserError where its weights, or onnxruntime, are not installed."""
        optional_module("onnxruntime", "onnxruntime", cls.name)
        find_weights(MODEL)
        return cls()

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        return {"rate": RATE, "window_s": WINDOW / RATE, "hop_s": 1.0, "short": "repeated", "least_s": LEAST_SECONDS}

    def fingerprint(self) -> str:
        """Hash of both networks."""
        return quality_fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too short, or silent."""
        if why := too_short(media, LEAST_SECONDS) or silent(media, RATE):
            return Result(None, why)
        scores = speech_quality(media.audio(RATE))
        return Result(scores["overall"], facts=scores)
