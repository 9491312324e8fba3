"""Prompts that change over time: which text holds when, with a hard cut or a cross-fade."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.utils.errors import UserError
from shared.utils.text_files import read_text, shortened, split_lines

if TYPE_CHECKING:  # a file of prompts is checked before torch is imported
    from torch import Tensor

SAME_TIME = 1e-9  # s; a latent's centre this little before a cut is on it, wherever its window begins


@dataclass(frozen=True)
class TimedPrompts:
    """Texts with the second from which each holds; the first starts at 0. A change is a cut, or with `fade` the weights
    of the two texts cross linearly over so many seconds around it. `start`: where on the clock of the times that of a
    window begins. UserError for what cannot be."""

    times: tuple[float, ...]
    texts: tuple[str, ...]
    fade: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        if not self.texts or len(self.times) != len(self.texts):
            raise UserError(f"timed prompts need as many times as texts: {len(self.times)} and {len(self.texts)}")
        if self.times[0] != 0:
            raise UserError(f"the first timed prompt starts at {self.times[0]} s; it must start at 0")
        if not all(a < b < math.inf for a, b in zip(self.times, self.times[1:], strict=False)):
            raise UserError(f"timed prompts are out of order: {', '.join(map(str, self.times))}; times must increase")
        if not 0 <= self.fade < math.inf:
            raise UserError(f"the fade of timed prompts is {self.fade} s; 0, a cut, or more is needed")

    @classmethod
    def of(cls, prompt: str | TimedPrompts) -> TimedPrompts:
        """Make prompts of one text that holds all the time, or leave them as they are."""
        return cls((0.0,), (prompt,)) if isinstance(prompt, str) else prompt

    @classmethod
    def read(cls, path: str | Path, end: float = math.inf, fade: float = 0.0) -> TimedPrompts:
        """One prompt per line, SECONDS, TEXT. UserError: no such file, another line, or a text from `end` (s) on."""
        times, texts = list[float](), list[str]()
        lines = split_lines(read_text(path, f"timed prompts {path}"), str(path))
        for number, line in enumerate(lines, start=1):
            seconds, _, text = line.partition(",")
            try:
                times.append(float(seconds))
            except ValueError:
                text = ""
            if not text.strip():
                raise UserError(f"{path}, line {number}: expected SECONDS, TEXT but found {shortened(repr(line))}")
            texts.append(text.strip())
        if not times:
            raise UserError(f"{path}: has no line; at least one of SECONDS, TEXT is needed, as 0, a bell rings")
        try:
            timed = cls(tuple(times), tuple(texts), fade)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if timed.times[-1] >= end:
            raise UserError(f"{path}: a text begins at {timed.times[-1]:g} s, the video ends at {end:g} s")
        return timed

    def weights(self, seconds: Tensor) -> Tensor:
        """[K, N] weight of each text at each time [N]; each column sums to 1."""
        import torch

        seconds = seconds.double() + self.start
        if self.fade:
            reached = [((seconds - start) / self.fade + 0.5).clamp(0, 1) for start in self.times[1:]]
        else:
            reached = [(seconds >= start - SAME_TIME).double() for start in self.times[1:]]
        steps = torch.stack([torch.ones_like(seconds), *reached, torch.zeros_like(seconds)])
        return steps[:-1] - torch.minimum(steps[:-1], steps[1:])

    def changed(self, change: Callable[[str], str]) -> TimedPrompts:
        """Change every text, and no time."""
        return replace(self, texts=tuple(map(change, self.texts)))
