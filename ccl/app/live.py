"""A puppet that speaks along with the microphone: pieces of sound in, pictures that move out. No Gradio."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ccl.app.jobs import Job
from ccl.app.options import asked, plainly
from shared.checkpoint.loading import SamplingOptions

if TYPE_CHECKING:
    from ccl.app.shelf import Shelf
    from mtv.live import LiveFrames, LivePuppet

SHOWN = 12  # of the last windows, whose delay is told


class LivePart:
    """What one user says, from the first piece to the last: `values` are options of a sampling script by name, of which
    those that are empty have its defaults. UserError, as there, for what does not fit."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        with plainly():
            prompt = " ".join((values.get("prompt") or "").split()) or " "  # refused as on the command line
            self.options = asked(SamplingOptions, {**values, "prompt": prompt})
        self.values = dict(values)
        self._puppet: LivePuppet | None = None
        self._delays: list[float] = []

    def hear(self, job: Job, shelf: Shelf, sound: NDArray[Any], rate: int) -> None:
        """Take in a piece of sound, [N] or [N, channels], and show what it completes."""
        if self._puppet is None:
            job.progress("loading the model", 0.0)
            self._puppet = self._new(shelf)
        for made in self._puppet.hear(mono(sound), rate):
            self._delays = [*self._delays[1 - SHOWN :], made.delay]
            job.progress(self._told(made), made.seconds / len(made.frames) * self._puppet.fps)
            if made.note:
                job.note(made.note)
            job.show(moving(made.frames, self._puppet.fps))

    def _new(self, shelf: Shelf) -> LivePuppet:
        from mtv.live import LivePuppet

        options = self.options
        return LivePuppet(shelf.driven(options), str(options.prompt), options.seed, steps=options.steps)

    def _told(self, made: LiveFrames) -> str:
        assert self._puppet is not None, "it has made these frames"
        busy, behind = made.seconds / len(made.frames) * self._puppet.fps, median(self._delays)
        return f"{self._puppet.steps} steps take {busy:.0%} of the time; {behind:.2f} s behind the voice"


def mono(sound: NDArray[Any]) -> NDArray[np.float32]:
    """Make samples [N] in [-1, 1] of what a browser sends: whole numbers of 16 bits, or floats; channels are mixed."""
    whole = np.issubdtype(sound.dtype, np.integer)
    samples = sound.astype(np.float32) / (float(np.iinfo(sound.dtype).max) + 1 if whole else 1.0)
    return samples.mean(1) if samples.ndim == 2 else samples


def moving(frames: NDArray[np.uint8], fps: float) -> str:
    """Put frames [t, H, W, 3] on the page as a picture that moves once, and then stands still."""
    file, pictures = io.BytesIO(), [Image.fromarray(frame) for frame in frames]
    pictures[0].save(
        file, "webp", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=1, lossless=True,
        method=0,
    )  # fmt: skip
    data = base64.b64encode(file.getvalue()).decode()
    return str(Markup('<img class="live" alt="the puppet" src="data:image/webp;base64,{}">').format(data))
