"""Joint long clips in windows: each begins with the last frames and sounds of the one before, which stay as they are.

They are clean in the latents of both streams (`ccl.spans`), so what follows goes on from them. Of the sound one latent
less stays than of the pictures: over its time the two windows are cross-faded, so that no edge is heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ccl.spans import latents_inside
from shared.data.clip_output import ClipOutput
from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.calling import asked_frames, chosen, repeated, seeds_of
from shared.utils.errors import UserError
from shared.utils.ranges import checked_fps
from shared.utils.rng import derive
from shared.utils.windows import SECONDS, Window, plan, window_frames

#: Arguments of a call that say what the windows say.
NOT_LONG = ("task", "audio", "video", "keep", "keep_audio", "given_speech", "given_effects", "return_dict")


class LongClip:
    """Windows of a long clip of each prompt, by a `CCLPipeline`. `overlap`: frames that two of them share; `options`:
    other arguments of the pipeline. UserError for what does not go with windows."""

    def __init__(
        self, pipeline: Any, prompts: Sequence[str | TimedPrompts], heard: Sequence[str | TimedPrompts],
        window: int | None, overlap: int | None, options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        if taken := [name for name in NOT_LONG if options.get(name) is not None]:
            raise UserError(f"{taken[0]}: a long clip is made of texts and a first image; leave it out")
        if options.get("output_type", "np") == "latent":
            raise UserError("output_type latent: windows share frames, not latents; choose among np, pil, pt")
        self.pipeline, self.options = pipeline, dict(options)
        fps = chosen("fps", self.options.pop("fps", None), "frame_rate", self.options.pop("frame_rate", None))
        self.fps, self.rate = checked_fps(pipeline.config.fps if fps is None else fps), pipeline.audio_codec.sample_rate
        frames = asked_frames(self.options.pop("duration", None), self.options.pop("num_frames", None), self.fps)
        if frames is None:
            raise UserError("a long clip: how long? give duration or num_frames")
        stride, count = pipeline.video_codec.temporal_stride, self.options.pop("num_videos_per_prompt", 1)
        window = window_frames(SECONDS, self.fps, stride) if window is None else window
        self.windows = plan(frames, window, 1 + 2 * stride if overlap is None else overlap, stride)
        self.texts, self.heard = (
            [TimedPrompts.of(text) for text in repeated(list(texts), count)] for texts in (prompts, heard)
        )
        seed, generator = self.options.pop("seed", None), self.options.pop("generator", None)
        self.seeds = seeds_of(seed, generator, len(self.texts))

    def __iter__(self) -> Iterator[ClipOutput]:
        """Yield what each window adds: its new frames, and the sound up to where the next one is faded in."""
        last: tuple[np.ndarray, np.ndarray] | None = None  # frames and sound that the next window shares
        for index, window in enumerate(self.windows):
            made = self._make(index, window, last)
            frames, sound, start, end = made.video, made.audio, 0, self._samples(window, window.frames)
            assert frames is not None and sound is not None, "t2av makes both"
            if last is not None:
                start = self._kept(window)
                before = last[1][:, start:]
                fade = np.linspace(0, 1, before.shape[1], dtype=np.float32)
                sound[:, start : start + len(fade)] *= fade
                sound[:, start : start + len(fade)] += (1 - fade) * before
            if index + 1 < len(self.windows):
                after = self.windows[index + 1]
                shared = self._samples(window, after.start - window.start)
                last = frames[:, after.start - window.start :], sound[:, shared:]
                end = shared + self._kept(after)
            parts: dict[str, Any] = {"video": frames[:, window.given :], "audio": sound[:, start:end], "kept": None}
            yield replace(made, **parts)

    def _make(self, index: int, window: Window, last: tuple[np.ndarray, np.ndarray] | None) -> ClipOutput:
        """Sample one window; of all but the first, the beginning is given."""
        given: dict[str, Any] = {}
        if last is not None:
            self.options.pop("image", None)  # it is the first frame of all
            spans = (0.0, window.given / self.fps), (0.0, self._kept(window) / self.rate)
            given = {"video": last[0], "audio": (last[1][:, None], self.rate)}
            given |= {"keep": [spans[0]], "keep_audio": [spans[1]]}
        texts, heard = (
            [replace(text, start=window.start / self.fps) for text in some] for some in (self.texts, self.heard)
        )
        seeds = self.seeds if index == 0 else [derive(seed, "window", index) for seed in self.seeds]
        made: ClipOutput = self.pipeline(
            texts, audio_prompt=heard, num_frames=window.frames, fps=self.fps, seed=seeds, **given, **self.options
        )
        return made

    def _samples(self, window: Window, frame: int) -> int:
        """Sample of a window's sound at which a frame of it begins."""
        first = round(window.start / self.fps * self.rate)
        return round((window.start + frame) / self.fps * self.rate) - first

    def _kept(self, window: Window) -> int:
        """Count the samples that stay: one latent less than lies in the shared frames. UserError if there are none."""
        seconds = window.given / self.fps
        clock = self.pipeline.audio_codec.clock(round(seconds * self.rate))
        count = int(latents_inside(clock, [(0.0, seconds)]).sum()) - 1
        if count < 1:
            raise UserError(f"windows that share {window.given} frames share no two latents of sound; share more")
        return round(clock.ends[count - 1] * self.rate)


def joined(parts: Sequence[ClipOutput]) -> ClipOutput:
    """Put what the windows added together."""
    video, audio = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("video", "audio"))
    return replace(parts[0], video=video, audio=audio)
