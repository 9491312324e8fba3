"""CLAP score: does the sound fit the text? 100 times the cosine of both embeddings (Wu et al., arXiv 2211.06687).

Reproduced: 48 kHz, cosine of sound and text. Mended: a sound of more than 10 s is read in windows that cover it and
their cosines averaged, where the library cuts 10 s out at random; silence is refused and counted.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent
from shared.perception.audio_text import AudioText


class CLAPScore:
    """Likeness of sound and text, times 100."""

    name = "clap_score"
    better: Better = "higher"
    needs = frozenset({"audio", "text"})

    def __init__(self, encoder: AudioText) -> None:
        self.encoder = encoder

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the CLAP that the user has. UserError as `AudioText.load`."""
        return cls(tools.load("clap", AudioText.load))

    def preprocessing(self) -> dict[str, Any]:
        """Rate and windows."""
        return self.encoder.preprocessing()

    def fingerprint(self) -> str:
        """Hash of CLAP's weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Mean over windows; facts: the cosine of each."""
        if reason := silent(media, self.encoder.rate):
            return Result(None, reason)
        assert media.text is not None, "the scorer refuses a clip without what a metric needs"
        cosines = 100 * (self.encoder.of_clip(media).astype(np.float64) @ self.encoder.text(media.text))
        return Result(float(cosines.mean()), facts={"likeness": cosines.tolist()})
