"""Clips of the puppets drawn when they are asked for: without a file, so without what a video format takes away."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.puppets.clip import render_show
from shared.puppets.script import LEVELS, sample_spec
from shared.puppets.shows import Show, sample_show


class DrawnClip(NamedTuple):
    """Video [3, T, H, W] and mono sound [1, N], float32 in [-1, 1]."""

    video: Tensor
    audio: Tensor
    has_video: bool = True
    has_audio: bool = True


class DrawnClips:
    """`count` clips by number, of the `levels` in turn, of which any may occur several times; a seed's clips of a level
    are those of make_puppets.py."""

    def __init__(self, count: int, seed: int, size: tuple[int, int], levels: tuple[str, ...] = LEVELS) -> None:
        self.count, self.seed, self.size, self.levels = count, seed, size, levels

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> DrawnClip:
        if not 0 <= number < self.count:
            raise IndexError(number)
        turn, place = divmod(number, len(self.levels))
        level = self.levels[place]
        index = turn * self.levels.count(level) + self.levels[:place].count(level)
        if level == "shows":
            show = sample_show(self.seed, index, self.size)
        else:
            show = Show((sample_spec(self.seed, index, level, self.size),))
        clip = render_show(show)
        frames = torch.from_numpy(clip.frames).movedim(-1, 0).float().div(127.5).sub(1.0)
        return DrawnClip(frames, torch.from_numpy(clip.mix.astype(np.float32))[None])
