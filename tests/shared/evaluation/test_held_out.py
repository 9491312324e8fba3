"""Batches hold one length; what jobs sample is read; processes: tests/scripts/test_evaluate.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from shared.evaluation.held_out import Sampler, SamplingJob, batches, sample_clips
from shared.puppets.clip import render_clip, sample_spec

SPECS = [sample_spec(51, index) for index in range(3)]
CLIPS = [render_clip(spec) for spec in SPECS]


class Truth:
    """Returns the true frames, sounds or both of the clips that it is asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, rows: list[int], streams: str) -> SimpleNamespace:
        self.calls += 1
        frames = np.stack([CLIPS[row].frames for row in rows]) if "v" in streams else None
        sounds = np.stack([CLIPS[row].mix for row in rows]) if "a" in streams else None
        return SimpleNamespace(video=frames, audio=sounds)


def job(rows: list[int], streams: str) -> SamplingJob:
    return SamplingJob(rows, [SPECS[row] for row in rows], "joint", {"rows": rows, "streams": streams})


def test_what_a_task_makes_is_read_and_nothing_else() -> None:
    pipelines = {"joint": Truth()}
    assert [set(one) for one in sample_clips(pipelines, job([0, 1], "va"))] == [
        {"frames", "video", "sound", "audio"}
    ] * 2
    assert set(sample_clips(pipelines, job([2], "v"))[0]) == {"frames", "video"}
    (sampled,) = sample_clips(pipelines, job([2], "a"))
    assert set(sampled) == {"sound", "audio"} and np.array_equal(sampled["sound"], CLIPS[2].mix)


def test_one_worker_samples_here(capsys: Any) -> None:
    pipeline = Truth()
    with Sampler({"joint": pipeline}, lambda: {}, 1) as sampler:
        sampled = sampler.sample([job([2, 0], "v"), job([1], "v")], "t2v")
    assert sorted(sampled) == [0, 1, 2] and pipeline.calls == 2 and sampler.pool is None
    assert all(np.array_equal(sampled[i]["frames"], CLIPS[i].frames) for i in range(3))


def test_batches_hold_one_length() -> None:
    specs: list[Any] = [SimpleNamespace(frames=frames) for frames in (32, 64, 32, 32)]
    assert list(batches(specs, 2)) == [[0, 2], [3], [1]]
