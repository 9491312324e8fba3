"""JavisScore (JavisDiT, arXiv 2503.23377): do the frames of each moment look like its sound?

Reproduced: windows of 2 s that overlap by 1.5 s, the cosine of each frame of a window with the window's sound, the mean
of the lowest 40 %, and of that the mean over windows. `javis_score_imagebind` reads ImageBind, as JavisBench does;
its weights are for no commercial use. `javis_score` has PE-AV in its place: its numbers cannot be compared with those
of JavisBench. Mended: the rate of the frames is stated; windows are whole ones, and what is shorter than one is refused
and counted. With ImageBind `published` 1 reads every frame and lays the last window at the end, as JavisBench does.
What would fool it: sounds that fit the place at any time.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short, wrong_fps
from shared.perception.audio_video import AudioVideo
from shared.perception.imagebind_encoder import ImageBindEncoder

WINDOW, STEP, LOWEST = 2.0, 0.5, 0.4  # seconds, and the part of a window's frames that counts


class Encoder(Protocol):
    """Embeds pictures and sounds in one space; rows are of length 1."""

    rate: int

    def preprocessing(self) -> dict[str, Any]: ...

    def fingerprint(self) -> str: ...

    def pictures(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures uint8 [T, H, W, 3] -> [T, D]."""
        ...

    def sounds(self, sounds: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed sounds [N] of one length at `rate` -> [K, D]."""
        ...


class JavisScore:
    """Mean over windows; facts: the number of each window, one every 0.5 s."""

    name: ClassVar[str] = "javis_score"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})

    def __init__(self, encoder: Encoder, fps: float = 8.0) -> None:
        self.encoder, self.fps = encoder, fps

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the PE-AV that the user has. UserError as `AudioVideo.load`."""
        return cls(tools.load("pe_av", AudioVideo.load), tools.settings[cls.name]["fps"])

    def preprocessing(self) -> dict[str, Any]:
        """Windows, frames, and what the network sees and hears."""
        windows = {"window": WINDOW, "step": STEP, "lowest": LOWEST}
        return {"fps": self.fps, **windows, **self.encoder.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too slow, too short, silent."""
        fps = self.frame_rate(media)
        if reason := wrong_fps(media, fps) or too_short(media, WINDOW) or silent(media, self.encoder.rate):
            return Result(None, reason)
        pictures, sound = media.frames(fps), media.audio(self.encoder.rate)
        windows = self.windows(len(pictures), len(sound), fps)
        if not windows:
            return Result(None, f"shorter than {WINDOW:g} s")
        seen = self.encoder.pictures(pictures)
        heard = self.encoder.sounds([sound[samples] for _, samples in windows])
        each = [lowest(seen[frames], row) for (frames, _), row in zip(windows, heard, strict=True)]
        return Result(float(np.mean(each)), facts={"windows": each})

    def frame_rate(self, media: ClipMedia) -> float:
        """Frames per second that are read of a clip."""
        return self.fps

    def windows(self, frames: int, samples: int, fps: float) -> list[tuple[slice, slice]]:
        """Places of all windows that are whole, in the frames and in the sound."""
        rate = self.encoder.rate
        count = int((min(frames / fps, samples / rate) - WINDOW + 1e-6) // STEP) + 1
        starts = [STEP * at for at in range(count)]
        return [
            (slice(round(at * fps), round((at + WINDOW) * fps)), slice(round(at * rate), round((at + WINDOW) * rate)))
            for at in starts
        ]


class JavisScoreImageBind(JavisScore):
    """The score by ImageBind; where it is `published`, of every frame, and of a last window that ends with the clip."""

    name = "javis_score_imagebind"

    def __init__(self, encoder: Encoder, fps: float = 8.0, published: bool = False) -> None:
        super().__init__(encoder, fps)
        self.published = published

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the ImageBind that the user has. UserError as `ImageBindEncoder.load`."""
        settings = tools.settings[cls.name]
        return cls(tools.load("imagebind", ImageBindEncoder.load), settings["fps"], bool(settings["published"]))

    def preprocessing(self) -> dict[str, Any]:
        """Windows, frames, and what the network sees and hears; of every frame no rate is told."""
        told = {**super().preprocessing(), "published": self.published}
        return {key: value for key, value in told.items() if key != "video" and not (self.published and key == "fps")}

    def frame_rate(self, media: ClipMedia) -> float:
        """Frames per second that are read of a clip: all where it is `published`."""
        return media.fps if self.published else self.fps

    def windows(self, frames: int, samples: int, fps: float) -> list[tuple[slice, slice]]:
        """Places of all windows; where it is `published`, the last ends with the frames, and with the sound."""
        if not self.published:
            return super().windows(frames, samples, fps)
        sides = [
            covering(length, int(WINDOW * rate), int(WINDOW * rate) - int((WINDOW - STEP) * rate))
            for length, rate in ((frames, fps), (samples, self.encoder.rate))
        ]
        return list(zip(*sides, strict=False))  # as many as both have


def covering(length: int, window: int, step: int) -> list[slice]:
    """Places of windows, one each `step` and the last at the end; none in what is shorter than one."""
    starts = [*range(0, length - window, step), length - window]
    return [slice(start, start + window) for start in starts] if length >= window else []


def lowest(frames: NDArray[np.float32], sound: NDArray[np.float32]) -> float:
    """Mean of the lowest cosines of a window's frames [T, D] with its sound [D]."""
    likeness = np.sort(frames.astype(np.float64) @ sound)
    return float(likeness[: max(1, int(LOWEST * len(likeness)))].mean())
