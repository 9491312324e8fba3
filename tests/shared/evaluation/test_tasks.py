"""What each task is given; whole evaluations: test_run.py."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.codecs import LinearAudioCodec, LinearVideoCodec, frames_to_tensor
from shared.evaluation.held_out import HeldOut, held_out_script
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.tasks import EvaluatedModel, TrackTools, arguments, joint_task, track_task
from shared.evaluation.track_variants import true_tracks
from shared.puppets.clip import render_clip
from shared.utils.rng import derive

OPTIONS = EvaluationOptions(checkpoint="c", output="o", seed=3, steps=4, batch=2)
GUIDANCE = {"joint": "a guidance", "mtv": "a guidance"}
TOOLS = TrackTools(lambda case: case.index, str, lambda mix, rate: {})
PIPELINE = SimpleNamespace(
    config=SimpleNamespace(height=64, width=64, fps=16.0),
    device=torch.device("cpu"),
    audio_codec=None,
    video_codec=None,
)


@pytest.fixture(scope="module")
def pipeline() -> SimpleNamespace:
    clips = [render_clip(held_out_script(PIPELINE, "simple", i)) for i in range(3)]
    video = LinearVideoCodec.fit(
        [frames_to_tensor(torch.from_numpy(clip.frames))[None] for clip in clips], latent_channels=16
    )
    audio = LinearAudioCodec.fit([torch.from_numpy(clip.mix)[None, None] for clip in clips], latent_channels=16)
    return SimpleNamespace(config=PIPELINE.config, device=PIPELINE.device, video_codec=video, audio_codec=audio)


@pytest.fixture(scope="module")
def held_out(pipeline: SimpleNamespace) -> HeldOut:
    return HeldOut.make(pipeline, "simple", 3)


def test_every_clip_has_noise_of_its_own_and_the_solver_its_steps() -> None:
    call = arguments(OPTIONS, "a guidance", "a2v", [1, 2])
    assert call["seed"] == [derive(3, "evaluate", "a2v", i) for i in (1, 2)]
    assert call["num_inference_steps"] == 4 and call["guidance"] == "a guidance"
    assert "num_inference_steps" not in arguments(OPTIONS.model_copy(update={"steps": None}), None, "a2v", [1])


def test_joint_tasks_are_given_the_other_stream(held_out: HeldOut) -> None:
    model = EvaluatedModel({}, GUIDANCE, dict)
    for name, stream in (("t2av", None), ("a2v", "audio"), ("v2a", "video")):
        task = joint_task(name, model, held_out, OPTIONS)
        assert [job.clips for job in task.jobs] == [[0, 1], [2]] and not task.before
        call = task.jobs[0].arguments
        assert {"audio", "video"} & set(call) == ({stream} if stream else set())
        assert call["prompt"] == [caption for caption, _ in held_out.captions[:2]] and call["duration"] == 2.0
    given = joint_task("a2v", model, held_out, OPTIONS).jobs[1].arguments["audio"]
    assert np.array_equal(given[0, 0].numpy(), held_out.rendered[2].sound)
    true = joint_task("a2v", model, held_out, OPTIONS).true
    assert true[0].video is held_out.coded[0].video and true[0].audio is held_out.rendered[0].audio


def test_tracks_are_what_is_heard_and_the_picture_before_is_kept(pipeline: SimpleNamespace, held_out: HeldOut) -> None:
    cases, model = true_tracks(held_out.specs, 16000)[1:], EvaluatedModel({"mtv": pipeline}, GUIDANCE, dict, TOOLS)
    task = track_task("mtv", model, held_out, cases, OPTIONS)
    assert [job.arguments["tracks"] for job in task.jobs] == [[1, 2]] and not task.before
    assert task.jobs[0].arguments["seed"] == arguments(OPTIONS, None, "mtv", [1, 2])["seed"]
    assert np.array_equal(task.given[1].sound, cases[0].mix) and task.given[1].frames is held_out.coded[1].frames
    assert task.true[2].video is held_out.coded[2].video
    swapped = track_task("mtv:speech swapped", model, held_out, cases, OPTIONS)
    assert sorted(swapped.before) == [1, 2]
