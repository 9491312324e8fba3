"""evaluate.py with stand-ins for the pipelines that return the truth through the codecs."""

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

from ccl.pipeline import CCLOutput, CCLPipeline
from mtv.captions import without_speaker
from mtv.control import MSTControlNet
from mtv.tracks import Tracks
from scripts import evaluate
from shared.checkpoint.folder import load_checkpoint, save_checkpoint
from shared.codecs import LinearAudioCodec, LinearVideoCodec, frames_to_tensor, tensor_to_frames
from shared.encoders import LogMel
from shared.evaluation import held_out, run
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.track_variants import VARIANTS, true_tracks, variants
from shared.puppets.clip import render_clip, sample_spec
from shared.puppets.script import Spec
from shared.utils.cli import parse
from shared.utils.errors import UserError
from shared.utils.files import writable_folder
from shared.utils.rng import derive

CLIPS, DRIVEN = 5, 7


class Perfect:
    """Answers with the held-out clips themselves; `deaf`: with silence."""

    device = torch.device("cpu")
    config = SimpleNamespace(height=64, width=64, fps=16.0)
    transformer = SimpleNamespace(has_unconditional=True)

    def __init__(self, codecs: tuple[LinearVideoCodec, LinearAudioCodec]) -> None:
        self.video_codec, self.audio_codec = codecs
        self.deaf = False
        self.calls: list[dict[str, Any]] = []

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, **call: Any) -> CCLOutput:
        self.calls.append(call)
        task = call["task"]
        index = {derive(0, "evaluate", task, i): i for i in range(CLIPS)}
        clips = [render_clip(held_out.held_out_script(self, "simple", index[s])) for s in call["seed"]]
        video = audio = None
        if task != "v2a":
            frames = frames_to_tensor(torch.from_numpy(np.stack([clip.frames for clip in clips])))
            video = tensor_to_frames(self.video_codec.decode(self.video_codec.encode(frames), 32)).numpy()
        if task != "a2v":
            mix = torch.from_numpy(np.stack([clip.mix for clip in clips]))[:, None]
            audio = self.audio_codec.decode(self.audio_codec.encode(mix), 32000)[:, 0].numpy()
            audio = np.zeros_like(audio) if self.deaf else audio
        return CCLOutput(video, audio, 16.0, 16000)


class PerfectDriven:
    """Answers with what the tracks ask for; `deaf_to_speech`: with the mouths of the clip's own speech."""

    device, config, audio_codec = Perfect.device, Perfect.config, None
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
def both(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a control network of random weights: joint and driven in one folder."""
    torch.manual_seed(1)
    joint, encoder = load_checkpoint(CCLPipeline, checkpoint), LogMel(n_mels=16, parts_per_frame=2)
    size = (encoder.window, encoder.layers, encoder.dim)
    control = MSTControlNet(
        12, 1, 1, dict.fromkeys(("speech", "effects", "music"), size),
        token_dim=8, tokens=2, interaction_blocks=1, heads=2, ffn_dim=8, hidden_dim=8,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in control.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    joint.register_modules(control=control, audio_encoder=encoder)
    folder = tmp_path_factory.mktemp("both") / "tiny"
    save_checkpoint(joint, folder, "a card")
    return folder


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


def test_batches_hold_one_length() -> None:
    specs = [SimpleNamespace(frames=frames) for frames in (32, 64, 32, 32)]
    assert list(held_out.batches(specs, 2)) == [[0, 2], [3], [1]]


def test_perfect_driving_reaches_the_ceiling_of_every_variant(
    driven: PerfectDriven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "VARIANTS_SHOWN", 1)
    chosen = options(tmp_path, "--clips", str(DRIVEN), "--tasks", "mtv", "--speech-scale", "3", control=True)
    metrics = measure({"mtv": driven}, chosen)
    assert list(metrics["tasks"]) == [
        "mtv", "mtv:speech swapped", "mtv:effects swapped", "mtv:mood unmentioned", "mtv:music swapped",
        "mtv:silent speech", "mtv:dsp",
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


def test_processes_and_batches_do_not_change_what_is_made(both: Path, tmp_path: Path) -> None:
    more = ["--checkpoint", str(both), "--clips", "2", "--tasks", "v2a,mtv", "--steps", "1", "--device", "cpu"]
    scores = []
    for workers in ("1", "2"):
        given = ["--variants", "none", "--batch", "1", "--workers", workers, "--output", str(tmp_path / workers)]
        evaluate.main([*more, *given])
        tasks = json.loads((tmp_path / workers / "metrics.json").read_text())["tasks"]
        assert list(tasks) == ["v2a", "mtv"]
        scores.append([task["per_clip"] for task in tasks.values()])
    assert scores[0] == scores[1]


def test_one_checkpoint_does_all_tasks_and_is_compared_with_another_run(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--checkpoint", str(both), "--clips", "2", "--steps", "1", "--device", "cpu", "--workers", "1"]
    evaluate.main([*more, "--variants", "silent-speech,speaker-unmentioned", "--output", str(tmp_path / "all")])
    file = tmp_path / "all" / "metrics.json"
    metrics = json.loads(file.read_text())
    assert list(metrics["tasks"]) == ["t2av", "a2v", "v2a", "mtv", "mtv:silent speech"]
    assert "mtv:speaker unmentioned: left out" in capsys.readouterr().out
    evaluate.main([*more, "--tasks", "mtv", "--variants", "none", "--against", str(file), "--output", str(tmp_path)])
    out = capsys.readouterr().out
    against = json.loads((tmp_path / "metrics.json").read_text())["against"]
    assert list(against["tasks"]) == ["mtv"] and f"minus {file}, clip by clip" in out
    assert all(value["difference"] == 0 for value in against["tasks"]["mtv"].values()) and against["tasks"]["mtv"]


def test_a_joint_checkpoint_cannot_be_driven(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no control network"):
        evaluate.main(["--checkpoint", str(checkpoint), "--tasks", "mtv", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_default_is_what_the_checkpoint_can_do(tmp_path: Path) -> None:
    assert options(tmp_path).tasks == ("t2av", "a2v", "v2a")
    chosen = options(tmp_path, control=True)
    assert chosen.tasks == ("t2av", "a2v", "v2a", "mtv")
    assert [name.replace("-", " ") for name in chosen.variants] == list(VARIANTS)
    assert options(tmp_path, "--no-context", control=True).tasks == ("t2av", "a2v", "v2a")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "1"], "--clips 1"),
        (["--tasks", "t2v"], "--tasks t2v"),
        (["--text-scale", "a"], "--text-scale a"),
        (["--no-context", "--context-scale", "2"], "--no-context"),
        (["--level", "hard"], "invalid choice"),
        (["--tasks", "mtv", "--variants", "loud"], "--variants loud"),
        (["--tasks", "mtv", "--speech-scale", "nan"], "--speech-scale nan"),
        (["--tasks", "t2av", "--music-scale", "2"], "--music-scale is for --tasks mtv"),
        (["--tasks", "t2av", "--variants", "none"], "--variants is for --tasks mtv"),
        (["--tasks", "mtv", "--context-scale", "2"], "--context-scale is for --tasks t2av,a2v,v2a"),
        (["--tasks", "t2av,mtv", "--no-context"], "--no-context: mtv has no such route"),
    ],
)
def test_bad_arguments_are_named(more: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        options(tmp_path, *more, control=True)


def test_a_missing_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        evaluate.main(["--checkpoint", str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="--output"):
        writable_folder("--output", tmp_path / "out")
