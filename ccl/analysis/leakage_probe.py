"""Samples of the same clips and noise, with their own and with another clip's sound or picture: leakage is read there.

Sampling is without guidance: the model's own velocity v(c,m) is what is measured, and no weight of guidance.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ccl.guidance import Form, Guidance
from ccl.pipeline import CCLPipeline
from shared.data.clip_texts import audio_text, video_text
from shared.data.dataset import Sample
from shared.evaluation.bootstrap import over_clips
from shared.evaluation.leakage import Change, Truth, picture_change, sound_change, sounding_region, sounding_spans
from shared.utils.progress import bar as progress_bar
from shared.utils.rng import derive

GIVEN = {"a2v": "audio", "v2a": "video"}


def choose_partners(frames: Sequence[int], truths: Sequence[Truth]) -> dict[int, int]:
    """For every clip the next of equal length, whose sound or picture it is given; clips without any are left out.
    One alike in mood and music comes first: the whole picture follows the mood, and that would count as leakage."""
    partners = {}
    for i in range(len(frames)):
        others = [j for j in (*range(i + 1, len(frames)), *range(i)) if frames[j] == frames[i]]
        if others:
            partners[i] = min(others, key=lambda j: [truths[j][name] != truths[i][name] for name in ("mood", "music")])
    return partners


class LeakageProbe:
    """Leakage of one pipeline on clips of the puppets, each with its truth and the second of its file where it starts.
    `partners`: of `choose_partners`. `steps`: of the solver. `batch`: clips at a time."""

    def __init__(
        self, pipeline: CCLPipeline, samples: Sequence[Sample], truths: Sequence[Truth], starts: Sequence[float],
        partners: Mapping[int, int], steps: int, batch: int, seed: int,
    ) -> None:  # fmt: skip
        self.pipeline, self.samples, self.truths, self.starts = pipeline, samples, truths, starts
        self.partners, self.steps, self.batch, self.seed = partners, steps, batch, seed
        pipeline.set_progress_bar_config(disable=True)

    def leakage(self, task: str) -> dict[str, Any]:
        """Of "a2v" or "v2a": `over_clips` of outside over inside, and the means of both as "outside" and "inside"."""
        changes: dict[str, Change | None] = {}
        lengths = {i: self.samples[i].video.shape[1] for i in self.partners}
        with progress_bar(total=len(self.partners), desc=f"leakage {task}", unit="clip") as bar:
            for length in sorted(set(lengths.values())):
                same = [i for i, own in lengths.items() if own == length]
                for first in range(0, len(same), self.batch):
                    rows = same[first : first + self.batch]
                    partners = [self.partners[i] for i in rows]
                    own, others = self._sample(task, rows, rows), self._sample(task, rows, partners)
                    for i, one, other in zip(rows, own, others, strict=True):
                        changes[self.samples[i].id] = self._change(task, one, other, i)
                    bar.update(len(rows))
        result = over_clips({name: change and change.ratio for name, change in changes.items()})
        counted = [change for change in changes.values() if change is not None]
        for name in Change._fields:
            result[name] = sum(getattr(change, name) for change in counted) / len(counted) if counted else None
        return result

    def _sample(self, task: str, clips: Sequence[int], given: Sequence[int]) -> Any:
        """Frames uint8 [B, T, H, W, 3] or sounds [B, N] for the texts and noise of `clips`, the stream of `given`."""
        stream, chosen = GIVEN[task], [self.samples[i] for i in clips]
        streams: dict[str, Any] = {stream: torch.stack([getattr(self.samples[i], stream) for i in given])}
        output = self.pipeline(
            [*map(video_text, chosen)], [*map(audio_text, chosen)], task=task,
            duration=chosen[0].video.shape[1] / self.pipeline.config.fps, num_inference_steps=self.steps,
            guidance=Guidance(Form.NONE), seed=[derive(self.seed, "leakage", task, clip.id) for clip in chosen],
            **streams,
        )  # fmt: skip
        return output.video if task == "a2v" else output.audio

    def _change(self, task: str, first: Any, second: Any, clip: int) -> Change | None:
        both = clip, self.partners[clip]
        if task == "a2v":
            return picture_change(first, second, sounding_region([self.truths[i] for i in both], first.shape[1:3]))
        spans = [span for i in both for span in sounding_spans(self.truths[i], self.starts[i])]
        return sound_change(first, second, self.pipeline.audio_codec.sample_rate, spans)
