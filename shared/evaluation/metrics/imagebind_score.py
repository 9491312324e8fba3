"""ImageBind's scores of video, sound and text: 100 times the cosine of two embeddings (Girdhar et al., arXiv
2305.05665; MTV's Audio-C, JavisBench's IB-AV, IB-TV and IB-TA). ImageBind's weights are for no commercial use.

Reproduced: ImageBind's own reader, which JavisBench takes: clips of 2 s, five of the video, of each the first and the
last frame in three crops, and three of the sound; the mean of their embeddings. Mended: the clips go from the start to
the end, where published ones leave out the last fifth of the way, or third; what is shorter than a clip is refused, not
filled up; `published` 1 is as published. Differs in either case: all channels are heard, not the first alone; silence
is refused and counted.
What would fool it: the right sound at the wrong time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short, wrong_fps
from shared.perception.imagebind_encoder import CLIP, RATE, WINDOW, ImageBindEncoder
from shared.perception.imagebind_text import TextTokenizer

DEFAULTS = {"video_clips": 5, "audio_clips": 3, "published": False}
"""Clips of a video and of a sound; whether they are taken as published."""


class _Score:
    """What the three scores have in common; `sides`: what of a clip is embedded beside a text."""

    name: ClassVar[str]
    better: Better = "higher"
    needs: frozenset[str]
    sides: ClassVar[tuple[str, ...]]

    def __init__(self, encoder: ImageBindEncoder, settings: Mapping[str, float] = DEFAULTS) -> None:
        self.encoder, self.settings, self.published = encoder, settings, bool(settings["published"])

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the ImageBind that the user has. UserError as `ImageBindEncoder.load`."""
        return cls(tools.load("imagebind", ImageBindEncoder.load), tools.settings[cls.name])

    def preprocessing(self) -> dict[str, Any]:
        """Clips, and what the network sees and hears of them."""
        told = self.encoder.preprocessing()
        return {**self.settings, **{side: told[side] for side in self.sides}}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.encoder.fingerprint()

    def unfit(self, media: ClipMedia) -> str:
        """Reason to refuse a clip, or ""."""
        least = 0.0 if self.published else CLIP
        if "video" in self.sides:
            if reason := wrong_fps(media, 2 / CLIP) or too_short(media, least):
                return reason
            if len(media.frames()) < max(1, least * media.fps - 1):  # they end before the file says
                return f"{len(media.frames())} frames; {CLIP:g} s are needed"
        if "audio" not in self.sides:
            return ""
        needed = max(least, WINDOW / 1000)  # of the sound itself, which may end before the pictures do
        short = len(media.audio(RATE)) / RATE < needed - 1e-3
        return silent(media, RATE) or (f"sound shorter than {needed:g} s" if short else "")

    def video(self, media: ClipMedia) -> NDArray[np.float64]:
        """Embedding of the video [D]."""
        return self.encoder.of_video(media, int(self.settings["video_clips"]), self.published).astype(np.float64)

    def audio(self, media: ClipMedia) -> NDArray[np.float64]:
        """Embedding of the sound [D]."""
        return self.encoder.of_sound(media, int(self.settings["audio_clips"]), self.published).astype(np.float64)


class ImageBindAV(_Score):
    """Likeness of video and sound, times 100."""

    name = "imagebind_av"
    needs = frozenset({"video", "audio"})
    sides = ("video", "audio")

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too slow, too short, silent."""
        if reason := self.unfit(media):
            return Result(None, reason)
        return Result(100 * float(self.video(media) @ self.audio(media)))


class _TextScore(_Score):
    """Likeness of one side of a clip and its text, times 100."""

    def __init__(self, encoder: ImageBindEncoder, settings: Mapping[str, float], tokenizer: TextTokenizer) -> None:
        super().__init__(encoder, settings)
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the ImageBind that the user has, and the tokenizer in a folder of CLIP. UserError as
        `ImageBindEncoder.load` and `TextTokenizer.load`."""
        encoder = tools.load("imagebind", ImageBindEncoder.load)
        return cls(encoder, tools.settings[cls.name], TextTokenizer.load(tools.weights["clip"], encoder.sizes))

    def preprocessing(self) -> dict[str, Any]:
        """Clips, what the network sees or hears of them, and how many tokens it reads."""
        return {"tokens": self.tokenizer.most, **super().preprocessing()}

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; facts: whether the text was too long."""
        if reason := self.unfit(media):
            return Result(None, reason)
        assert media.text is not None, "the scorer refuses a clip without what a metric needs"
        numbers, cut = self.tokenizer(media.text)
        side = self.video(media) if "video" in self.sides else self.audio(media)
        return Result(100 * float(side @ self.encoder.text(numbers)), facts={"text_is_cut": cut})


class ImageBindTV(_TextScore):
    """Likeness of video and text, times 100."""

    name = "imagebind_tv"
    needs = frozenset({"video", "text"})
    sides = ("video",)


class ImageBindTA(_TextScore):
    """Likeness of sound and text, times 100."""

    name = "imagebind_ta"
    needs = frozenset({"audio", "text"})
    sides = ("audio",)
