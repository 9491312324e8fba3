"""How near a sample of few steps comes to its teacher's of many, from the same noise: in the latents, clip by clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccl.analysis.leakage_probe import GIVEN
from ccl.analysis.loss_probes import JOINED
from ccl.pipeline import CCLPipeline
from shared.data.clip_texts import audio_text, video_text
from shared.data.dataset import Sample
from shared.evaluation.bootstrap import over_clips
from shared.nn.few_steps import FewSteps
from shared.utils.errors import UserError
from shared.utils.progress import bar as progress_bar
from shared.utils.rng import derive

HASTY = 2  # steps of the teacher that few steps are to be better than


class Way(NamedTuple):
    """How a sample is made."""

    pipeline: CCLPipeline
    steps: int


class FewStepsProbe:
    """A distilled `student` and its `teacher`, which is guided by default, on the texts of the same clips.

    A distance is the root mean square of the difference of two samples' latents, over that of the teacher's sample of
    `steps` steps. UserError for a student that is not distilled.
    """

    def __init__(
        self, student: CCLPipeline, teacher: CCLPipeline, samples: Sequence[Sample], steps: int, batch: int, seed: int
    ) -> None:
        few = FewSteps.of(student.transformer)
        if few is None:
            raise UserError("--probes steps: --checkpoint is not distilled for few steps, and has no number of them")
        if few.steps >= steps or steps <= HASTY:
            raise UserError(f"--steps {steps}: more steps of the teacher are needed than {max(few.steps, HASTY)}")
        self.reference, self.samples, self.batch, self.seed = Way(teacher, steps), samples, batch, seed
        self.own, self.hasty = f"{few.steps} steps", f"teacher's {HASTY}"
        self.ways = {self.own: Way(student, few.steps), self.hasty: Way(teacher, HASTY)}
        for way in self.ways.values():
            way.pipeline.set_progress_bar_config(disable=True)

    def measure(self) -> dict[str, dict[str, Any]]:
        """By task, and by stream with the way: `over_clips` of distances, and of how much nearer few steps come."""
        return {task.value: self._task(task.value) for task in JOINED}

    def _task(self, task: str) -> dict[str, Any]:
        distances: dict[str, dict[str, float]] = {}
        lengths = [sample.video.shape[1] for sample in self.samples]
        with progress_bar(total=len(lengths), desc=f"steps {task}", unit="clip") as bar:
            for length in sorted(set(lengths)):
                same = [i for i, own in enumerate(lengths) if own == length]
                for first in range(0, len(same), self.batch):
                    clips = [self.samples[i] for i in same[first : first + self.batch]]
                    reference = self._latents(self.reference, task, clips)
                    for name, way in self.ways.items():
                        for stream, values in _distances(self._latents(way, task, clips), reference).items():
                            found = zip((clip.id for clip in clips), values, strict=True)
                            distances.setdefault(f"{stream}, {name}", {}).update(found)
                    bar.update(len(clips))
        result = {name: over_clips(values) for name, values in distances.items()}
        for stream in sorted({name.partition(",")[0] for name in distances}):
            own, hasty = (distances[f"{stream}, {name}"] for name in (self.own, self.hasty))
            result[f"{stream}, nearer by"] = over_clips({clip: hasty[clip] - value for clip, value in own.items()})
        return result

    def _latents(self, way: Way, task: str, clips: Sequence[Sample]) -> dict[str, Tensor]:
        """Latents of what is made, [B, ...], after the last step."""
        last: dict[str, Tensor] = {}
        names = [name for of, name in GIVEN.items() if of == task]
        streams: dict[str, Any] = {name: torch.stack([getattr(clip, name) for clip in clips]) for name in names}
        way.pipeline(
            [*map(video_text, clips)], [*map(audio_text, clips)], task=task, num_inference_steps=way.steps,
            duration=clips[0].video.shape[1] / way.pipeline.config.fps,
            seed=[derive(self.seed, "steps", task, clip.id) for clip in clips],
            callback_on_step_end=lambda pipeline, step, u, latents: last.update(latents), **streams,
        )  # fmt: skip
        return last


def _distances(made: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Distance of each clip, by stream."""
    found = {}
    for name, value in made.items():
        squares = ((value - reference[name]).square().flatten(1).mean(1), reference[name].square().flatten(1).mean(1))
        found[name] = (squares[0] / squares[1]).sqrt().tolist()
    return found
