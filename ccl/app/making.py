"""Joint clips on the page: what a user gives is checked as in scripts/sample_joint.py, then made, one clip per seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccl.app.jobs import Job
from ccl.app.options import asked, plainly
from ccl.app.players import MadeClip
from ccl.generate import GivenMedia, JointOptions, guidance, sample_batch, write_clip
from ccl.routing import Task
from shared.utils.errors import UserError
from shared.utils.ranges import check_range
from shared.utils.windows import plan, window_frames

if TYPE_CHECKING:
    from ccl.app.shelf import Shelf
    from ccl.pipeline import CCLPipeline

FILES = ("image", "audio", "video")


def steps_told(job: Job, clip: str, before: float, part: float, windows: int = 1) -> Callable[..., None]:
    """Make the callback of a pipeline that tells a job of each step, and ends it where the user has asked for that.
    The clip, of so many `windows`, takes the share `part` of the job after `before`."""
    done = 0

    def called(pipeline: Any, step: int, _u: float, _latents: Any) -> None:
        nonlocal done
        steps, done = len(pipeline.scheduler.timesteps), done + 1
        window = f" of window {(done - 1) // steps + 1} of {windows}" if windows > 1 else ""
        job.progress(f"{clip}: step {step % steps + 1} of {steps}{window}", before + part * done / (steps * windows))

    return called


class JointRequest:
    """One request for clips: `values` are options of scripts/sample_joint.py by name, of which those that are empty
    have its defaults. UserError, as there, for what does not fit, before any model is loaded."""

    def __init__(self, values: Mapping[str, Any], seeds: Sequence[int], folder: Path, name: str = "clip") -> None:
        self.seeds, self.folder, self.name = list(seeds), folder, name
        files = [values.get(one) for one in FILES]
        with plainly([*files, folder]):
            self.options = asked(JointOptions, {"output": folder / "clip.mp4", **values})
            self.given = GivenMedia.read(self.options)
        self.files = files

    def make(
        self, job: Job, shelf: Shelf, shown: Sequence[MadeClip] = (), told: str = "seed {seed}", before: float = 0.0,
        part: float = 1.0,
    ) -> list[MadeClip]:  # fmt: skip
        """Make the clips one after the other; each is shown, after those that are `shown` already, when it is there.
        `told`: what stands below a clip. They take the share `part` of the job, after `before`."""
        made: list[MadeClip] = []
        with plainly([*self.files, self.folder]):
            job.progress("loading the model", before)
            pipeline = shelf.joint(self.options)
            arguments = self.given.arguments(self.options, pipeline) | self.options.given_arguments()
            arguments |= {"task": self.options.chosen_task.value, "guidance": guidance(self.options)}
            arguments |= {"audio_prompt": self.options.audio_prompt}
            for index, seed in enumerate(self.seeds):
                caption, each = told.replace("{seed}", str(seed)), part / len(self.seeds)
                callback = steps_told(job, caption, before + index * each, each, self._windows(pipeline))
                own = {"seed": [seed], "callback_on_step_end": callback}
                output = sample_batch(self.options, pipeline, [self.options.prompt or ""], arguments | own)
                file = self.folder / f"{self.name}_seed_{seed}{self.suffix}"
                write_clip(file, output, 0, self.given)
                made.append(MadeClip(file, caption))
                job.show(*shown, *made)
        return made

    def _windows(self, pipeline: CCLPipeline) -> int:
        """Count the windows of a long clip."""
        if self.options.window is None:
            return 1
        fps, stride = self.options.fps or pipeline.config.fps, pipeline.video_codec.temporal_stride
        frames = max(1, round(self.given.duration * fps))
        return len(plan(frames, window_frames(self.options.window, fps, stride), 1 + 2 * stride, stride))

    @property
    def suffix(self) -> str:
        """How the files end."""
        return ".wav" if self.options.chosen_task is Task.T2A else ".mp4"


def seeds_from(first: str, count: str, most: int) -> list[int]:
    """List the seeds of a grid, as many as `count` says, from the `first` on (default: 0). UserError for words that are
    no such numbers."""
    begin, clips = (_whole(name, words) for name, words in (("seed", first or "0"), ("clips", count or "1")))
    check_range("seed", begin, -(2**62), 2**62)
    check_range("clips", clips, 1, most)
    return [begin + index for index in range(clips)]


def _whole(name: str, words: str) -> int:
    try:
        return int(words)
    except ValueError:
        raise UserError(f"{name} {words}: a whole number is needed") from None
