"""DeSync: seconds by which Synchformer holds sound and picture to be apart (Iashin et al., arXiv 2401.16423; as
MMAudio's benchmark has it, arXiv 2412.15322).

Reproduced: 25 frames per second, 16 kHz, segments of 0.64 s that overlap by half, the most probable of 21 offsets of -2
to 2 s in the first 4.8 s and in the last; the mean of both absolute values. Mended: what is shorter than 4.8 s is
refused and counted, where others repeat it, which changes the number; the whole clip is read, where the benchmark reads
8 s; silence is refused; frames that come too slowly are refused (`least_fps` 1 repeats them).
What would fool it: offsets beyond 2 s, which have no class; sounds whose cause is not seen, where any class may win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short
from shared.perception.sync_offsets import FPS, RATE, SyncOffsets

DEFAULTS = {"least_fps": 23.75}
"""Least frame rate of a clip."""


class DeSync:
    """Mean of the absolute offsets at both ends; facts: `lag_ms` of each, above 0 where the sound is late."""

    name = "desync"
    better: Better = "lower"
    needs = frozenset({"video", "audio"})

    def __init__(self, network: SyncOffsets, settings: Mapping[str, float] = DEFAULTS) -> None:
        self.network, self.settings = network, settings

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the Synchformer that the user has. UserError as `load_weights`."""
        return cls(tools.load("synchformer", SyncOffsets.load), tools.settings[cls.name])

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        return {**self.network.preprocessing(), **self.settings}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.network.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too slow, too short, silent."""
        least = self.settings["least_fps"]
        if media.fps < least:
            return Result(None, f"{media.fps:g} frames per second; {least:g} are needed")
        if reason := too_short(media, self.network.least_frames / FPS) or silent(media, RATE):
            return Result(None, reason)
        try:
            offsets = self.network(media.frames(FPS), media.audio(RATE))
        except ValueError as error:  # one of the streams ends early
            return Result(None, str(error))
        facts = {"lag_ms": [round(-1000 * offset) for offset in offsets]}
        return Result(float(np.mean(np.abs(offsets))), facts=facts)
