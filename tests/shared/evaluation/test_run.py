"""What each task is given; whole evaluations, with stand-ins for pipelines that return the truth through the codecs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ccl.pipeline import CCLOutput
from mtv.captions import without_speaker
from mtv.tracks import Tracks
from scripts import evaluate
from shared.codecs import LinearAudioCodec, LinearVideoCodec, frames_to_tensor, tensor_to_frames
from shared.evaluation import held_out, run
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.track_variants import VARIANTS, true_tracks, variants
from shared.puppets.clip import render_clip, sample_spec
from shared.puppets.script import Spec
from shared.utils.cli import parse
from shared.utils.rng import derive

OPTIONS = EvaluationOptions(checkpoint="c", output="o", seed=3, steps=4, batch=2)
GUIDANCE = {"joint": "a guidance", "mtv": "a guidance"}
TOOLS = run.TrackTools(lambda case: case.index, str, lambda mix, rate: {})
BARE = SimpleNamespace(
    config=SimpleNamespace(height=64, width=64, fps=16.0),
    device=torch.device("cpu"),
    audio_codec=None,
    video_codec=None,
)
CLIPS, DRIVEN = 5, 7


class Perfect:
    """Answers with the held-out clips themselves; `deaf`: with silence."""

    device = torch.device("cpu")
    config = SimpleNamespace(height=64, width=64, fps=16.0)
    transformer = SimpleNamespace(has_unconditional=True, config={})

    def __init__(self, codecs: tuple[LinearVideoCodec, LinearAudioCodec]) -> None:
        self.video_codec, self.audio_codec = codecs
        self.deaf = False
        self.calls: list[dict[str, Any]] = []

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, **call: Any) -> CCLOutput:
        self.calls.append(call)
        task = call["task"]
        name = task.replace("t2", "i2") if "image" in call else task.replace("part", "a2v")
        name = "retake" if "keep" in call else name
        index = {derive(0, "evaluate", name, i): i for i in range(CLIPS)}
        clips = [render_clip(held_out.held_out_script(self, "simple", index[s])) for s in call["seed"]]
        video = audio = None
        if task not in ("v2a", "t2a"):
            frames = frames_to_tensor(torch.from_numpy(np.stack([clip.frames for clip in clips])))
            video = tensor_to_frames(self.video_codec.decode(self.video_codec.encode(frames), 32)).numpy()
        if task not in ("a2v", "t2v"):
            mix = torch.from_numpy(np.stack([clip.mix for clip in clips]))[:, None]
            audio = self.audio_codec.decode(self.audio_codec.encode(mix), 32000)[:, 0].numpy()
            audio = np.zeros_like(audio) if self.deaf else audio
        return CCLOutput(video, audio, 16.0, 16000)


class PerfectDriven:
    """Answers with what the tracks ask for; `deaf_to_speech`: with the mouths of the clip's own speech."""

    device, config, audio_codec, transformer = Perfect.device, Perfect.config, None, Perfect.transformer
    audio_encoder = SimpleNamespace(sample_rate=16000)

    def __init__(self, video_codec: LinearVideoCodec, clips: int) -> None:
        self.video_codec, self.deaf_to_speech = video_codec, False
        self.calls: list[dict[str, Any]] = []
        own = true_tracks([held_out.held_out_script(self, "simple", i) for i in range(clips)], 16000)
        tools = evaluate.track_tools()
        cases = {"mtv": own, **variants(own, VARIANTS, without_speaker, tools.separate)}
        self.wanted: dict[bytes, tuple[int, Spec, Spec]] = {}
        for case in (one for some in cases.values() for one in some):
            key = fingerprint(case.caption, tools.tracks_of(case))
            self.wanted[key] = (case.index, case.spec, own[case.index].spec)

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, **call: Any) -> Any:
        self.calls.append(call)
        frames = []
        for prompt, tracks, seed in zip(call["prompt"], call["tracks"], call["seed"], strict=True):
            index, spec, own = self.wanted[fingerprint(prompt, tracks)]
            assert seed == derive(0, "evaluate", "mtv", index)
            if self.deaf_to_speech:
                spec = replace(spec, characters=own.characters)
            frames.append(held_out.code_picture(self, render_clip(spec).frames))
        return SimpleNamespace(video=np.stack(frames), fps=16.0)


def fingerprint(prompt: str, tracks: Tracks) -> bytes:
    assert tracks.effects is not None and tracks.music is not None
    return prompt.encode() + b"".join(t.numpy().tobytes() for t in (*tracks.speech, tracks.effects, tracks.music))


@pytest.fixture(scope="module")
def driven(pipeline: Perfect) -> PerfectDriven:
    return PerfectDriven(pipeline.video_codec, DRIVEN)


@pytest.fixture(scope="module")
def pipeline() -> Perfect:
    clips = [render_clip(sample_spec(33, i)) for i in range(10)]
    videos = [frames_to_tensor(torch.from_numpy(clip.frames))[None] for clip in clips]
    sounds = [torch.from_numpy(clip.mix)[None, None] for clip in clips]
    return Perfect((LinearVideoCodec.fit(videos), LinearAudioCodec.fit(sounds)))


def options(output: Path, *more: str, control: bool = False) -> EvaluationOptions:
    base = ["--checkpoint", "c", "--workers", "1", "--output", str(output)]
    given = parse(EvaluationOptions, None, [*base, *(() if "--clips" in more else ("--clips", str(CLIPS))), *more])
    return given.settled({"control": ["mtv.control", "MSTControlNet"]} if control else {})


def measure(pipelines: dict[str, Any], chosen: EvaluationOptions) -> dict[str, Any]:
    return run.evaluate(evaluate.evaluated(pipelines, chosen), chosen)


def test_a_perfect_model_reaches_the_ceiling(pipeline: Perfect, tmp_path: Path) -> None:
    measure({"joint": pipeline}, options(tmp_path, "--batch", "4", "--steps", "5"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["tasks"]) == {"t2av", "a2v", "v2a"}
    for task in metrics["tasks"].values():
        for name in ("event_f1", "mouth_correlation"):
            assert task["scores"][name]["headline"] == pytest.approx(1, abs=0.02)
            assert task["scores"][name]["ceiling"] > 0.9
    assert "mood_video" not in metrics["tasks"]["v2a"]["scores"]
    assert [len(call["prompt"]) for call in pipeline.calls[:2]] == [4, 1]
    given = {call["task"]: ("audio" in call, "video" in call) for call in pipeline.calls}
    assert given == {"t2av": (False, False), "a2v": (True, False), "v2a": (False, True)}
    assert pipeline.calls[0]["num_inference_steps"] == 5
    check_page((tmp_path / "index.html").read_text())


def test_streams_alone_and_first_frames_are_tasks_too(pipeline: Perfect, tmp_path: Path) -> None:
    pipeline.calls.clear()
    tasks = ("t2v", "t2a", "i2av", "i2v")
    metrics = measure({"joint": pipeline}, options(tmp_path, "--tasks", ",".join(tasks), "--clips", "3"))
    assert [call["task"] for call in pipeline.calls] == ["t2v", "t2a", "t2av", "t2v"]
    images = [call.get("image") for call in pipeline.calls]
    assert images[:2] == [None, None] and all(image.shape == (3, 3, 64, 64) for image in images[2:])
    found = {task: metrics["tasks"][task] for task in tasks}
    for task in tasks:
        scores = found[task]["measures"]["scores"]
        assert scores["events"]["value"] == scores["events"]["ceiling"] > 0.9, task
        assert ("validity" in scores) == (task != "t2a") and ("agreement" in scores) == (task == "i2av")
    assert set(found["t2a"]["scores"]) == {"mood_audio", "count_audio"} and found["t2v"]["lag_ms"]["all"] is None
    page = (tmp_path / "index.html").read_text()
    assert "Not shown, of fewer than 30 clips" in page and "What would fool it" not in page


def test_as_users_do_is_by_defaults_and_through_a_file(pipeline: Perfect, tmp_path: Path) -> None:
    pipeline.calls.clear()
    metrics = measure({"joint": pipeline}, options(tmp_path, "--tasks", "t2av,t2a", "--as-users-do", "--clips", "3"))
    assert all(call.keys() == {"prompt", "task", "seed", "duration"} for call in pipeline.calls)
    assert metrics["config"]["as_users_do"] is True
    for task in ("t2av", "t2a"):
        assert metrics["tasks"][task]["measures"]["scores"]["events"]["value"] > 0.9
    validity = metrics["tasks"]["t2av"]["measures"]["scores"]["validity"]
    assert validity["ceiling"] - 0.1 < validity["value"] != validity["ceiling"]  # H.264 has been there


def test_mouths_for_given_speech_are_measured_against_it(pipeline: Perfect, tmp_path: Path) -> None:
    pipeline.calls.clear()
    pipeline.deaf = True
    metrics = measure({"joint": pipeline}, options(tmp_path, "--tasks", "part,a2v", "--batch", "4"))
    pipeline.deaf = False
    assert list(metrics["tasks"]) == ["a2v", "part", "part:given"]
    part, given, whole = (metrics["tasks"][name]["measures"] for name in ("part", "part:given", "a2v"))
    assert part["scores"]["mouth_agreement"]["value"] == 0 < 0.9 < given["scores"]["mouth_agreement"]["value"]
    rows = [one["per_clip"]["mouth_agreement"]["value"] for one in (given, whole)]
    assert rows[0] == rows[1][: len(rows[0])] and metrics["tasks"]["part"]["clips"] < CLIPS
    call = next(call for call in pipeline.calls if call["task"] == "part")
    speech, rate = call["given_speech"]
    assert speech.shape == (len(call["prompt"]), 1, 32000) and rate == 16000 and np.abs(speech).max((1, 2)).min() > 0.05


def test_what_is_made_again_is_measured_at_its_seams(pipeline: Perfect, tmp_path: Path) -> None:
    pipeline.calls.clear()
    result = measure({"joint": pipeline}, options(tmp_path, "--tasks", "retake", "--batch", "4"))["tasks"]["retake"]
    assert result["clips"] == CLIPS and result["measures"]["scores"]["validity"]["value"] > 0.9
    assert result["cut"]["ratio"]["value"] > 0.9 and result["cut"]["scores"]["validity_cut"]["clips"] == CLIPS
    call = pipeline.calls[0]
    (first, start), (end, last) = call["keep"]
    clock = pipeline.video_codec.clock(32, 16.0)
    assert (
        (first, last, call["task"]) == (0.0, 2.0, "t2av") and {start, end} < {*clock.starts} and 0.3 < end - start < 1
    )
    assert call["video"].shape == (len(call["prompt"]), 3, 32, 64, 64) and call["audio"].shape[1:] == (1, 32000)


def check_page(page: str) -> None:
    assert page.count("<img") == page.count("<video") == 3 * CLIPS
    assert page.count("stage-simple-900001-") == CLIPS
    assert not re.search(r"""(src|href)=["']?(?!data:|["'])\S*(http|//)""", page)


def test_a_silent_model_is_below_the_floor(pipeline: Perfect, tmp_path: Path) -> None:
    pipeline.deaf = True
    metrics = measure({"joint": pipeline}, options(tmp_path, "--tasks", "v2a", "--no-context"))
    pipeline.deaf = False
    assert metrics["tasks"]["v2a"]["scores"]["event_f1"]["value"] == 0
    assert pipeline.calls[-1]["guidance"].context_scale == (0.0, 0.0)
    assert "0m" in (tmp_path / "index.html").read_text()


def test_perfect_driving_reaches_the_ceiling_of_every_variant(
    driven: PerfectDriven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "VARIANTS_SHOWN", 1)
    driving = ("--tasks", "mtv", "--speech-scale", "3")
    chosen = options(tmp_path, "--clips", str(DRIVEN), "--variants", "all", *driving, control=True)
    metrics = measure({"mtv": driven}, chosen)
    assert list(metrics["tasks"]) == [
        "mtv", "mtv:speech swapped", "mtv:effects swapped", "mtv:mood unmentioned", "mtv:music swapped",
        "mtv:silent speech", "mtv:dsp", "mtv:text changed",
    ]  # fmt: skip
    for task, result in metrics["tasks"].items():
        for name, score in result["scores"].items():
            if name != "face_visible" and score["headline"] is not None and task != "mtv:dsp":
                assert score["headline"] == pytest.approx(1, abs=1e-6), (task, name)
    scores = {task: result["scores"] for task, result in metrics["tasks"].items()}
    for task in ("mtv", "mtv:speech swapped", "mtv:effects swapped"):
        assert scores[task]["event_f1"]["ceiling"] > 0.9 and scores[task]["mouth_correlation"]["ceiling"] > 0.9
    assert scores["mtv:music swapped"]["mood_followed"]["value"] == 1
    assert scores["mtv:silent speech"]["mouth_opening"]["value"] < 0.05
    assert scores["mtv:silent speech"]["mouth_opening"]["floor"] > 0.15
    assert scores["mtv:silent speech"]["face_visible"]["value"] == 1
    swapped = metrics["tasks"]["mtv:speech swapped"]
    assert abs(swapped["paired"]["scores"]["event_f1"]["difference"]) < 0.02
    changed = metrics["tasks"]["mtv:text changed"]
    assert changed["scores"]["colour"]["value"] == 1 and changed["scores"]["colour"]["floor"] < 0.2
    assert changed["paired"]["measures"]["events"]["difference"] == 0
    assert metrics["tasks"]["mtv:music swapped"]["paired"]["base"] == "mtv:mood unmentioned"
    assert metrics["config"]["track_guidance"]["speech"] == 3 == driven.calls[0]["guidance"].speech
    assert "guidance" not in metrics["config"] and "num_inference_steps" not in driven.calls[0]
    assert "Minus mtv, clip by clip" in (tmp_path / "index.html").read_text()


def test_who_ignores_the_swapped_speech_is_at_the_floor(driven: PerfectDriven, tmp_path: Path) -> None:
    driven.deaf_to_speech = True
    variant = ("--tasks", "mtv", "--variants", "speech-swapped,silent-speech")
    metrics = measure({"mtv": driven}, options(tmp_path, "--clips", str(DRIVEN), *variant, control=True))
    driven.deaf_to_speech = False
    assert list(metrics["tasks"]) == ["mtv", "mtv:speech swapped", "mtv:silent speech"]
    swapped, silent = (metrics["tasks"][f"mtv:{name}"] for name in ("speech swapped", "silent speech"))
    assert swapped["scores"]["mouth_correlation"]["headline"] == pytest.approx(0, abs=1e-6)
    assert swapped["scores"]["event_f1"]["headline"] == pytest.approx(1, abs=1e-6)
    assert silent["scores"]["mouth_opening"]["headline"] == pytest.approx(0, abs=1e-6)
    paired = swapped["paired"]["scores"]["mouth_correlation"]
    assert paired["interval"][1] < -0.3 and paired["clips"] == swapped["scores"]["mouth_correlation"]["clips"]


@pytest.fixture(scope="module")
def coder() -> SimpleNamespace:
    clips = [render_clip(held_out.held_out_script(BARE, "simple", i)) for i in range(3)]
    video = LinearVideoCodec.fit(
        [frames_to_tensor(torch.from_numpy(clip.frames))[None] for clip in clips], latent_channels=16
    )
    audio = LinearAudioCodec.fit([torch.from_numpy(clip.mix)[None, None] for clip in clips], latent_channels=16)
    return SimpleNamespace(config=BARE.config, device=BARE.device, video_codec=video, audio_codec=audio)


@pytest.fixture(scope="module")
def three(coder: SimpleNamespace) -> held_out.HeldOut:
    return held_out.HeldOut.make(coder, "simple", 3)


def test_every_clip_has_noise_of_its_own_and_the_solver_its_steps() -> None:
    call = run.arguments(OPTIONS, "a guidance", "a2v", [1, 2])
    assert call["seed"] == [derive(3, "evaluate", "a2v", i) for i in (1, 2)]
    assert call["num_inference_steps"] == 4 and call["guidance"] == "a guidance"
    assert "num_inference_steps" not in run.arguments(OPTIONS.model_copy(update={"steps": None}), None, "a2v", [1])


def test_joint_tasks_are_given_the_other_stream(three: held_out.HeldOut) -> None:
    model = run.EvaluatedModel({}, GUIDANCE, dict)
    for name, stream in (("t2av", None), ("a2v", "audio"), ("v2a", "video")):
        task = run.joint_task(name, model, three, OPTIONS)
        assert [job.clips for job in task.jobs] == [[0, 1], [2]] and not task.before
        call = task.jobs[0].arguments
        assert {"audio", "video"} & set(call) == ({stream} if stream else set())
        assert call["prompt"] == [caption for caption, _ in three.captions[:2]] and call["duration"] == 2.0
    given = run.joint_task("a2v", model, three, OPTIONS).jobs[1].arguments["audio"]
    assert np.array_equal(given[0, 0].numpy(), three.rendered[2].sound)
    true = run.joint_task("a2v", model, three, OPTIONS).true
    assert true[0].video is three.coded[0].video and true[0].audio is three.rendered[0].audio


def test_tracks_are_what_is_heard_and_the_picture_before_is_kept(
    coder: SimpleNamespace, three: held_out.HeldOut
) -> None:
    cases, model = true_tracks(three.specs, 16000)[1:], run.EvaluatedModel({"mtv": coder}, GUIDANCE, dict, TOOLS)
    task = run.track_task("mtv", model, three, cases, OPTIONS)
    assert [job.arguments["tracks"] for job in task.jobs] == [[1, 2]] and not task.before
    assert task.jobs[0].arguments["seed"] == run.arguments(OPTIONS, None, "mtv", [1, 2])["seed"]
    assert np.array_equal(task.given[1].sound, cases[0].mix) and task.given[1].frames is three.coded[1].frames
    assert task.true[2].video is three.coded[2].video
    swapped = run.track_task("mtv:speech swapped", model, three, cases, OPTIONS)
    assert sorted(swapped.before) == [1, 2]
