"""Production quality of a clip's sound as listeners would rate it, 1 to 10: Audiobox-aesthetics (Tjandra et al. 2025,
arXiv 2502.05139).

Reproduced: the public network, 16 kHz, windows of 10 s one after the other, means weighted by their length
(`shared.perception.aesthetics`). Mended: silence is refused, where the original rates whatever it is given.
What would fool it: a clean studio recording of anything, whatever the picture and the text are; `clap_score` and
`desync` find that.
"""

from __future__ import annotations

from typing import Any, Self

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent
from shared.perception.aesthetics import RATE, Aesthetics


class AudioboxAesthetics:
    """Production quality of the mix; enjoyment, usefulness and complexity stand beside it."""

    name = "audiobox_aesthetics"
    better: Better = "higher"
    needs = frozenset({"audio"})

    def __init__(self, rater: Aesthetics) -> None:
        self.rater = rater

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make it with the weights that the user has. UserError as `Aesthetics.load`."""
        return cls(tools.load("audiobox", Aesthetics.load))

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        return self.rater.preprocessing()

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.rater.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: silent."""
        if reason := silent(media, RATE):
            return Result(None, reason)
        scores = self.rater.scores(media.audio(RATE))
        return Result(scores["quality"], facts=scores)
