"""Whether joint clips stay in step, however long: sampled window by window, and read stretch by stretch."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ccl.long_clip import joined
from ccl.pipeline import CCLPipeline
from shared.evaluation.long_sync import by_stretch, drift, told_scripts
from shared.utils.errors import UserError
from shared.utils.progress import bar as progress_bar
from shared.utils.rng import derive


class LongProbe:
    """Clips of `seconds` of held-out scripts of the puppets, `count` of them, by the pipeline's own steps and windows.
    UserError for a pipeline of a frame rate that is no whole number."""

    def __init__(self, pipeline: CCLPipeline, count: int, seconds: float, seed: int) -> None:
        self.pipeline, self.seconds, self.seed = pipeline, seconds, seed
        fps = float(pipeline.config.fps)
        if fps != round(fps):
            raise UserError(f"--probes long: scripts have whole frames a second, and this checkpoint has {fps:g}")
        self.scripts = [*islice(told_scripts(round(fps)), count)]
        pipeline.set_progress_bar_config(disable=True)

    def measure(self) -> dict[str, dict[str, Any]]:
        """`drift` of all clips."""
        clips = {}
        for number, (spec, text, heard) in enumerate(progress_bar(self.scripts, desc="long", unit="clip")):
            seed = derive(self.seed, "long", number)
            made = joined([*self.pipeline.stream(text, heard, duration=self.seconds, seed=seed)])
            assert made.video is not None and made.audio is not None, "t2av makes both"
            clips[str(number)] = by_stretch(made.video[0], made.audio[0], made.sample_rate, spec)
        return drift(clips)
