"""What a metric is to the scorer: a value for each clip, or features of it, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.utils.levels import is_silent

Better = Literal["higher", "lower", "zero"]
#: What a metric may need of a clip, and why it is refused without; "reference" is a set of true clips.
NEEDS = {"video": "no video", "audio": "no sound", "text": "no text", "speech": "no track of speech"}
#: How much slower than a metric reads a clip's own frames may come: 24 frames per second are read at 25.
SLOWEST = 0.95


@dataclass(frozen=True)
class Result:
    """What a metric says of one clip. Of a metric over sets `value` counts the rows of `features`."""

    value: float | None  # None: refused
    refused: str = ""  # why: "no face", "shorter than 1 s", "silent"
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # curves, lag and so on, JSON-able; lists of numbers are drawn
    weight: float = 1.0  # in the mean over clips: words of a word error rate
    features: NDArray[np.float32] | None = None  # [K, D], of a metric over sets


class ClipMedia(Protocol):
    """A clip, decoded once for all metrics (`shared.evaluation.clip_media`)."""

    @property
    def fps(self) -> float: ...

    @property
    def duration(self) -> float: ...

    @property
    def text(self) -> str | None: ...

    def frames(self, fps: float | None = None, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Pictures uint8 [T, H, W, 3], by default at the clip's own rate and size (H, W)."""
        ...

    def audio(self, rate: int) -> NDArray[np.float32]:
        """Sound float32 [N], all channels as one."""
        ...

    def speech(self, rate: int) -> NDArray[np.float32] | None:
        """Sum of the clip's tracks of speech, float32 [N]; None without any."""
        ...


class Metric(Protocol):
    """A number for each clip; the scorer takes means over clips."""

    name: str
    better: Better
    needs: frozenset[str]  # of "video", "audio", "text", "speech", "reference"

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number: fps, size, rate, window, crop. JSON-able."""
        ...

    def fingerprint(self) -> str:
        """Hash of the weights; "" without any."""
        ...

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip that has what the metric needs."""
        ...


class SetMetric(Metric, Protocol):
    """A Fréchet distance of sets: `clip` gives features, which the scorer compares with those of the reference."""

    over_sets: Literal[True]


@dataclass(frozen=True)
class Tools:
    """What metrics are made from: `weights` by name as the user gave them, the device, how many frames or windows go
    through a network at a time, and `settings` of each metric. Models that several metrics use are loaded once."""

    weights: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"
    batch: int = 16
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    _loaded: dict[str, Any] = field(default_factory=dict)

    def load(self, name: str, loader: Callable[[Path, str, int], Any]) -> Any:
        """Load the model that lies in `weights[name]`, by `loader(path, device, batch)`; the next time it is there."""
        if name not in self._loaded:
            self._loaded[name] = loader(self.weights[name], self.device, self.batch)
        return self._loaded[name]


def too_short(media: ClipMedia, seconds: float) -> str:
    """Reason to refuse a clip that is shorter than `seconds`; "" for one that is not."""
    return f"shorter than {seconds:g} s" if media.duration < seconds - 1e-3 else ""


def wrong_fps(media: ClipMedia, fps: float) -> str:
    """Reason to refuse a clip whose frames come so slowly that reading it at `fps` would repeat them; or ""."""
    return f"{media.fps:g} frames per second; {fps:g} are read" if media.fps < SLOWEST * fps else ""


def silent(media: ClipMedia, rate: int) -> str:
    """Reason to refuse a clip whose sound is silence (`shared.utils.levels.is_silent`); or ""."""
    return "silent" if is_silent(media.audio(rate)) else ""
