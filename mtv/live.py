"""A live puppet: speech comes in piece by piece, and video of it goes out window by window, in memory that stays flat.

A window is made as soon as its sound is there, and begins with the last frames of the one before (`mtv.windows`). It is
heard together with the sound of the window before, so that only its newest frames lack what comes after them. Where a
machine cannot keep up it says so, and takes fewer steps; at one step it leaves sound out, and the delay stays short.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtv.cogvideox.solvers import checked_steps
from mtv.pipeline import MTVPipeline
from mtv.windows import WindowProgress
from shared.codecs import frames_to_tensor
from shared.nn.few_steps import FewSteps
from shared.utils.errors import UserError
from shared.utils.rng import derive
from shared.utils.windows import plan, window_frames

Sound = NDArray[np.float32]
SECONDS = 1.0  # of a window
SLOW = 2  # windows one after the other that took longer than they last, before fewer steps are taken


@dataclass(frozen=True)
class LiveFrames:
    """New frames [t, H, W, 3], uint8; the first one's number in the video; the `seconds` that they took to make, and
    the `delay` from the sound of the first of them to now; what is to be told, if anything is."""

    frames: NDArray[np.uint8]
    start: int
    seconds: float
    delay: float
    note: str = ""


class LivePuppet:
    """One video that goes on as long as sound comes in; `steps`: the pipeline's own where None.

    UserError for a window that does not fit the codec's latents, or what the pipeline refuses.
    """

    def __init__(
        self, pipeline: MTVPipeline, prompt: str, seed: int = 0, seconds: float = SECONDS, steps: int | None = None,
        image: Any = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.pipeline, self.prompt, self.seed, self.image = pipeline, prompt, seed, image
        self.fps, self.rate = float(pipeline.config.fps), 0
        stride = pipeline.video_codec.temporal_stride
        self.window, self.overlap = window_frames(seconds, self.fps, stride), 1 + stride
        plan(self.window, self.window, self.overlap, stride)
        few = FewSteps.of(pipeline.transformer)
        self.steps = steps or (checked_steps(pipeline.scheduler, None) if few is None else few.steps)
        self.made = self.left_out = 0  # windows
        self._clock, self._slow = clock, 0
        self._sound, self._dropped = np.zeros(0, np.float32), 0  # what is kept of it, and how much went before
        self._came: deque[tuple[int, float]] = deque()  # samples so far, and when the last of them came
        self._last: NDArray[np.uint8] | None = None

    @property
    def new(self) -> int:
        """Frames of a window that no other has."""
        return self.window - self.overlap

    @property
    def kept_bytes(self) -> int:
        """Bytes of sound and frames that are kept to go on from."""
        return self._sound.nbytes + (0 if self._last is None else self._last.nbytes)

    def hear(self, sound: Sound, rate: int) -> Iterator[LiveFrames]:
        """Take in more of the sound, mono [N] in [-1, 1] at `rate` Hz, and yield the frames that it completes.

        UserError for another rate than before, and for samples that are not finite.
        """
        if self.rate not in (0, rate):
            raise UserError(f"live sound came with {self.rate} Hz and now has {rate} Hz; begin anew")
        if sound.ndim != 1 or not np.isfinite(sound).all():
            raise UserError(f"live sound {list(sound.shape)}: finite samples [N] of one channel are needed")
        self.rate = rate
        self._sound = np.concatenate([self._sound, sound.astype(np.float32).clip(-1, 1)])
        self._came.append((self._dropped + len(self._sound), self._clock()))
        while (waiting := self._waiting()) > 0:
            yield self._make(waiting)

    def _sample(self, frame: int) -> int:
        """Find the first sample of a frame."""
        return round(frame / self.fps * self.rate)

    def _waiting(self) -> int:
        """Count the windows whose sound is complete, and which are not made."""
        there = (self._dropped + len(self._sound)) / self.rate * self.fps + 1e-6
        return max(0, int((there - self.window) // self.new) + 1 - self.made - self.left_out)

    def _make(self, waiting: int) -> LiveFrames:
        """Make the next window, or the newest where the machine is too slow with one step already."""
        note = ""
        if waiting > 1 and self.steps == 1 and self._slow >= SLOW:
            self.left_out += waiting - 1
            note = f"too slow even with 1 step: {(waiting - 1) * self.new / self.fps:.1f} s of sound are left out"
        index = self.made + self.left_out
        before = 1 if self.made else 0  # windows that are heard again
        begin = (index - before) * self.new
        count = self.window + before * self.new
        heard = self._sound[self._sample(begin) - self._dropped : self._sample(begin + count) - self._dropped]
        started = self._clock()
        made = self._frames(heard, count, before, index)
        seconds = self._clock() - started
        start = index * self.new + (self.overlap if self.made else 0)
        delay = self._clock() - self._heard_at(self._sample(start))
        self.made += 1
        self._forget(self._sample((self.made + self.left_out - 1) * self.new))
        return LiveFrames(made, start, seconds, delay, note or self._keep_up(seconds, len(made) / self.fps))

    def _frames(self, heard: Sound, count: int, before: int, index: int) -> NDArray[np.uint8]:
        """Sample the last window of `count` frames of sound."""
        last = None
        if self._last is not None:
            last = frames_to_tensor(torch.from_numpy(self._last))[None]
        parts = self.pipeline.stream(
            self.prompt, speech=(heard, self.rate), num_frames=count, window=self.window, overlap=self.overlap,
            num_inference_steps=self.steps, seed=derive(self.seed, "live", index) if index else self.seed,
            progress=WindowProgress(before, last), **({} if before or self.image is None else {"image": self.image}),
        )  # fmt: skip
        (frames,) = parts
        made: NDArray[np.uint8] = frames[0]
        self._last = made[-self.overlap :].copy()
        return made

    def _heard_at(self, sample: int) -> float:
        """Find when this sample had come."""
        return next((at for count, at in self._came if count > sample), self._clock())

    def _forget(self, sample: int) -> None:
        """Let go of the sound before a sample."""
        gone = max(0, sample - self._dropped)
        self._sound, self._dropped = self._sound[gone:].copy(), self._dropped + gone
        while self._came and self._came[0][0] <= sample:
            self._came.popleft()

    def _keep_up(self, seconds: float, lasts: float) -> str:
        """Take fewer steps after some windows that took longer than they last."""
        self._slow = self._slow + 1 if seconds > lasts and self.made > 1 else 0  # the first one starts the model
        if self._slow < SLOW or self.steps == 1:
            return ""
        before, self._slow = self.steps, 0
        self.steps = max(1, before // 2)
        return f"{seconds:.2f} s for {lasts:.2f} s of video with {before} steps is too slow: now {self.steps}"
