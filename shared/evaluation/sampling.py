"""Samples of an evaluation: calls of a pipeline in batches, on a CPU in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from shared.puppets.readers import read_picture, read_sound
from shared.puppets.script import Spec

#: Makes the pipelines by name; called once in every process, so it must be picklable.
Loader = Callable[[], Mapping[str, Any]]
#: What was made of one clip: the fields of its `MeasuredClip` that are not those of the clip that was given.
Sampled = dict[str, Any]


class SamplingJob(NamedTuple):
    """One call of a pipeline: clips of one length by number, their scripts, the pipeline's name and its arguments."""

    clips: list[int]
    specs: list[Spec]
    pipeline: str
    arguments: dict[str, Any]


class Sampler(ExitStack):
    """Runs jobs on `pipelines` in this process or, with more than one worker, on those that `load` makes in processes
    that live as long as this context; small models gain little from threads."""

    def __init__(self, pipelines: Mapping[str, Any], load: Loader, workers: int) -> None:
        super().__init__()
        self.pipelines, self.load, self.workers = pipelines, load, workers
        self.pool: ProcessPoolExecutor | None = None

    def sample(self, jobs: Sequence[SamplingJob], name: str) -> dict[int, Sampled]:
        """Sample each clip; what was made of it, by its number; `name` stands beside the progress bar."""
        sampled: dict[int, Sampled] = {}
        with tqdm(total=sum(len(job.clips) for job in jobs), desc=name, unit="clip") as bar:
            for job, clips in self._results(jobs):
                sampled |= zip(job.clips, clips, strict=True)
                bar.update(len(clips))
        return sampled

    def _results(self, jobs: Sequence[SamplingJob]) -> Iterator[tuple[SamplingJob, list[Sampled]]]:
        if min(self.workers, len(jobs)) <= 1:
            yield from ((job, run(self.pipelines, job)) for job in jobs)
            return
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.workers, context, _start_worker, (self.load,))
            self.callback(self.pool.shutdown, cancel_futures=True)
        futures = {self.pool.submit(_run_in_worker, job): job for job in jobs}
        yield from ((futures[future], future.result()) for future in as_completed(futures))


def run(pipelines: Mapping[str, Any], job: SamplingJob) -> list[Sampled]:
    """Sample the clips of a job and read them."""
    pipeline = pipelines[job.pipeline]
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(**job.arguments)
    frames, sounds = output.video, getattr(output, "audio", None)
    sampled: list[Sampled] = [{} for _ in job.specs]
    for row, spec in enumerate(job.specs):
        if frames is not None:
            sampled[row] |= {"frames": frames[row], "video": read_picture(frames[row], spec.fps, spec)}
        if sounds is not None:
            sampled[row] |= {"sound": sounds[row], "audio": read_sound(sounds[row], spec.rate)}
    return sampled


_in_worker: dict[str, Any] = {}


def _start_worker(load: Loader) -> None:
    torch.set_num_threads(1)
    _in_worker.update(load())


def _run_in_worker(job: SamplingJob) -> list[Sampled]:
    return run(_in_worker, job)
