"""A clip as metrics see it, from arrays: pictures, sound, and what a test needs to be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shared.data.samples import resample
from shared.puppets.clip import render_clip
from shared.puppets.lasting import lasting
from shared.puppets.script import sample_spec

Frames = NDArray[np.uint8]
Sound = NDArray[np.float32]


@dataclass(eq=False)
class Media:
    """Implements `shared.evaluation.metrics.base.ClipMedia`; frames at another rate are those on show then, at
    another size a central cut."""

    pictures: Frames
    fps: float
    sound: Sound
    rate: int
    text: str | None = None
    voice: Sound | None = None

    @property
    def duration(self) -> float:
        return len(self.pictures) / self.fps if len(self.pictures) else len(self.sound) / self.rate

    def frames(self, fps: float | None = None, size: tuple[int, int] | None = None) -> Frames:
        wanted = fps or self.fps
        count = round(len(self.pictures) / self.fps * wanted)
        shown = np.minimum((np.arange(count) / wanted * self.fps + 1e-6).astype(int), len(self.pictures) - 1)
        chosen = self.pictures[shown]
        if size is None:
            return chosen
        scale = max(size[0] / chosen.shape[1], size[1] / chosen.shape[2])
        covering = (round(chosen.shape[1] * scale), round(chosen.shape[2] * scale))
        pixels = torch.from_numpy(chosen).movedim(-1, 1).float()
        scaled = torch.nn.functional.interpolate(pixels, covering, mode="bilinear", antialias=True)
        top, left = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
        cut = scaled[:, :, top : top + size[0], left : left + size[1]]
        return cut.movedim(1, -1).round().byte().numpy()

    def audio(self, rate: int) -> Sound:
        return resample(self.sound[None], self.rate, rate)[0]

    def speech(self, rate: int) -> Sound | None:
        return None if self.voice is None else resample(self.voice[None], self.rate, rate)[0]


def later(sound: Sound, rate: int, seconds: float) -> Sound:
    """Sound [N] that comes so much later, or earlier, with silence where there is none."""
    by = round(seconds * rate)
    moved = np.zeros_like(sound)
    moved[max(0, by) : len(sound) + min(0, by)] = sound[max(0, -by) : len(sound) - max(0, by)]
    return moved


def puppet(index: int, seconds: int, late: float = 0.0) -> Media:
    """A clip of the toy world, level simple, whose sound comes `late`."""
    spec = lasting(sample_spec(3, index, "simple"), seconds)
    clip = render_clip(spec)
    return Media(clip.frames, spec.fps, later(clip.mix, spec.rate, late), spec.rate, clip.caption)
