"""FAD: Fréchet distance of features of sound (Kilgour et al., arXiv 1812.08466).

Reproduced: VGGish, 16 kHz, a row for each 0.96 s. Mended: silent and too short clips are refused and counted; the
jackknife leaves out whole clips, because rows of one clip are alike; what small sets add is taken off, as Gui et al.
(arXiv 2311.01616) ask for. With CLAP (48 kHz, 10 s) it is the same distance of other features.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short
from shared.perception.audio_text import AudioText
from shared.perception.vggish import VGGishFeatures


class FAD:
    """Rows of VGGish features, one for each whole 0.96 s of a clip."""

    name = "fad"
    better: Better = "lower"
    over_sets: Literal[True] = True
    needs = frozenset({"audio", "reference"})

    def __init__(self, network: VGGishFeatures) -> None:
        self.network = network

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the VGGish that the user has. UserError as `VGGishFeatures.load`."""
        return cls(tools.load("vggish", VGGishFeatures.load))

    def preprocessing(self) -> dict[str, Any]:
        """Rate, window and features."""
        return self.network.preprocessing()

    def fingerprint(self) -> str:
        """Hash of the network's weights."""
        return self.network.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Features of the clip's windows."""
        rate, least = self.network.rate, self.network.least_seconds
        if reason := too_short(media, least) or silent(media, rate):
            return Result(None, reason)
        rows = self.network(media.audio(rate))
        if not len(rows):  # the sound ends before the pictures do
            return Result(None, f"shorter than {least:g} s")
        return Result(float(len(rows)), features=rows)


class FADCLAP:
    """Rows of CLAP's embedding, one for each 10 s of a clip."""

    name = "fad_clap"
    better: Better = "lower"
    over_sets: Literal[True] = True
    needs = frozenset({"audio", "reference"})

    def __init__(self, encoder: AudioText) -> None:
        self.encoder = encoder

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the CLAP that the user has. UserError as `AudioText.load`."""
        return cls(tools.load("clap", AudioText.load))

    def preprocessing(self) -> dict[str, Any]:
        """Rate, window and features."""
        return {"features": "CLAP audio embedding, length 1", **self.encoder.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of CLAP's weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Embeddings of the clip's windows."""
        if reason := silent(media, self.encoder.rate):
            return Result(None, reason)
        rows = self.encoder.of_clip(media)
        return Result(float(len(rows)), features=rows)
