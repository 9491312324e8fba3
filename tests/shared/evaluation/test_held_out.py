"""Batches hold one length; what jobs sample is read; processes: tests/scripts/test_evaluate.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from shared.evaluation.held_out import HeldOut, Sampler, SamplingJob, batches, counted, held_out_script, sample_clips
from shared.evaluation.kept_samples import KeptSamples
from shared.puppets.clip import caption, render_clip, sample_spec
from shared.puppets.grammar import held_out_phrases
from shared.puppets.shows import held_out_pairs

SPECS = [sample_spec(51, index) for index in range(3)]
CLIPS = [render_clip(spec) for spec in SPECS]
CODER = SimpleNamespace(
    config=SimpleNamespace(height=64, width=64, fps=4.0), device=torch.device("cpu"), audio_codec=None,
    video_codec=SimpleNamespace(spatial_stride=8, encode=lambda video: video, decode=lambda video, frames: video),
)  # fmt: skip


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
    return SamplingJob(f"t2{streams}", rows, [SPECS[row] for row in rows], "joint", {"rows": rows, "streams": streams})


def test_what_a_task_makes_is_read_and_nothing_else() -> None:
    pipelines = {"joint": Truth()}
    assert [set(one) for one in sample_clips(pipelines, job([0, 1], "va"))[0]] == [
        {"frames", "video", "scene", "sound", "audio"}
    ] * 2
    assert set(sample_clips(pipelines, job([2], "v"))[0][0]) == {"frames", "video", "scene"}
    ((sampled,), seconds, evaluations) = sample_clips(pipelines, job([2], "a"))
    assert seconds > 0 == evaluations
    assert set(sampled) == {"sound", "audio"} and np.array_equal(sampled["sound"], CLIPS[2].mix)


def test_held_out_clips_of_one_length() -> None:
    made = HeldOut.make(CODER, "full", 3, 4)
    assert [spec.duration for spec in made.specs] == [4, 4, 4] and made.cell == (8, 8)
    assert len({spec.index for spec in made.specs}) == 3 and len(made.coded[0].frames) == 16


def test_shows_have_one_shot_and_held_out_pairs_where_they_are_asked_for() -> None:
    usual, rare = (
        [held_out_script(CODER, "shows", i, held_out_pairs=held_out) for i in range(20)] for held_out in (False, True)
    )
    assert all(held_out_pairs(spec) and held_out_phrases(caption(spec)) for spec in rare)
    assert not any(held_out_pairs(spec) or held_out_phrases(caption(spec)) for spec in usual)
    twins = [held_out_script(CODER, "shows", i, twins=True) for i in range(20)]
    assert not any(held_out_pairs(spec) or held_out_phrases(caption(spec)) for spec in twins)
    for spec, twin in zip(rare, twins, strict=True):
        assert [p.onsets for p in spec.props] == [p.onsets for p in twin.props] and spec.frames == twin.frames
    for spec in (*usual, *rare):
        assert spec.level == "shows" and spec.shot == 0 and spec.fps == 4 and spec.frames == round(spec.duration * 4)


def test_clips_of_simple_are_made_as_long_as_is_asked() -> None:
    short, long = (held_out_script(CODER, "simple", 3, seconds=seconds) for seconds in (2, 8))
    assert short == held_out_script(CODER, "simple", 3) and (long.duration, long.fps) == (8, 4)
    assert caption(long) == caption(short)


def test_evaluations_of_the_model_are_counted() -> None:
    model = torch.nn.Linear(2, 2)
    with counted(model) as calls:
        model(model(torch.zeros(2)))
    model(torch.zeros(2))
    with counted("no module") as none:
        pass
    assert len(calls) == 2 and none == []


def test_one_worker_samples_here() -> None:
    pipeline = Truth()
    with Sampler({"joint": pipeline}, lambda: {}, 1) as sampler:
        sampled = sampler.sample([job([2, 0], "v"), job([1], "v"), job([1], "a")])
        assert list(sampler.map(str, [1, 2])) == ["1", "2"]
    assert list(sampled) == ["t2v", "t2a"] and pipeline.calls == 3 and sampler.pool is None
    clips, seconds, _ = sampled["t2v"]
    assert sorted(clips) == [0, 1, 2] and seconds > 0
    assert all(np.array_equal(clips[i]["frames"], CLIPS[i].frames) for i in range(3))


def test_what_is_kept_is_not_sampled_again(tmp_path: Path) -> None:
    pipeline, kept, jobs = Truth(), KeptSamples(tmp_path), [job([2, 0], "v"), job([1], "v"), job([0, 1], "va")]
    with Sampler({"joint": pipeline}, lambda: {}, 1, kept) as sampler:
        sampled = sampler.sample(jobs[1:])
        assert pipeline.calls == 2
        again = sampler.sample(jobs)
    assert pipeline.calls == 3 and [*again] == ["t2v", "t2va"] and sorted(again["t2v"].clips) == [0, 1, 2]
    assert again["t2va"].seconds == sampled["t2va"].seconds
    for index, clip in sampled["t2va"].clips.items():
        other = again["t2va"].clips[index]
        assert np.array_equal(clip["frames"], other["frames"]) and np.array_equal(clip["sound"], other["sound"])
        assert np.array_equal(clip["audio"].onsets, other["audio"].onsets)


def test_batches_hold_one_length() -> None:
    specs: list[Any] = [SimpleNamespace(frames=frames) for frames in (32, 64, 32, 32)]
    assert list(batches(specs, 2)) == [[0, 2], [3], [1]]


def test_held_out_clips_may_be_of_another_style_or_contradict_their_text() -> None:
    plain = held_out_script(CODER, "full", 3)
    assert held_out_script(CODER, "full", 3, conflict=True).caption_overrides and not plain.caption_overrides
    other, contradicting = (
        HeldOut.make(CODER, "simple", 2, **how) for how in ({"style": "cutout", "name_style": True}, {"conflict": True})
    )
    assert all(text.startswith("Cutout style. ") for text, _ in other.captions)
    assert [spec.style for spec in other.specs] == ["cutout"] * 2 and other.coded[0].scene.fit.spec.style == "cutout"
    assert all(spec.caption_overrides for spec in contradicting.specs)
