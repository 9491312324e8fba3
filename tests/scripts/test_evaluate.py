"""evaluate.py with a stand-in for the pipeline that returns the truth through the codecs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ccl.pipeline import CCLOutput
from scripts import evaluate
from shared.codecs import LinearAudioCodec, LinearVideoCodec, frames_to_tensor, tensor_to_frames
from shared.data.stage import render_clip, sample_spec
from shared.errors import UserError
from shared.metrics import held_out
from shared.rng import derive

CLIPS = 5


class Perfect:
    """Answers with the held-out clips themselves; `deaf`: with silence."""

    device = torch.device("cpu")
    config = SimpleNamespace(height=64, width=64, fps=16.0)

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


@pytest.fixture(scope="module")
def pipeline() -> Perfect:
    clips = [render_clip(sample_spec(33, i)) for i in range(10)]
    videos = [frames_to_tensor(torch.from_numpy(clip.frames))[None] for clip in clips]
    sounds = [torch.from_numpy(clip.mix)[None, None] for clip in clips]
    return Perfect((LinearVideoCodec.fit(videos), LinearAudioCodec.fit(sounds)))


def options(output: Path, *more: str) -> Any:
    base = ["--checkpoint", "c", "--workers", "1", "--clips", str(CLIPS), "--output", str(output)]
    return evaluate.parse([*base, *more])


def test_a_perfect_model_reaches_the_ceiling(pipeline: Perfect, tmp_path: Path) -> None:
    evaluate.evaluate(pipeline, options(tmp_path, "--batch", "4", "--steps", "5"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["tasks"]) == {"t2av", "a2v", "v2a"}
    for task in metrics["tasks"].values():
        for name in ("event_f1", "mouth_correlation"):
            assert task["scores"][name]["headline"] == pytest.approx(1, abs=0.02)
            assert task["scores"][name]["ceiling"] > 0.9
    assert "mood_seen" not in metrics["tasks"]["v2a"]["scores"]
    assert [len(call["prompt"]) for call in pipeline.calls[:2]] == [4, 1]
    given = {call["task"]: ("audio" in call, "video" in call) for call in pipeline.calls}
    assert given == {"t2av": (False, False), "a2v": (True, False), "v2a": (False, True)}
    assert pipeline.calls[0]["num_inference_steps"] == 5
    check_page((tmp_path / "index.html").read_text())


def check_page(page: str) -> None:
    assert page.count("<svg") == page.count("<video") == 3 * CLIPS
    assert page.count("stage-simple-900001-") == CLIPS
    assert not re.search(r"(src|href)='?(?!data:|')\S*(http|//)", page)


def test_a_silent_model_is_below_the_floor(pipeline: Perfect, tmp_path: Path) -> None:
    pipeline.deaf = True
    metrics = evaluate.evaluate(pipeline, options(tmp_path, "--tasks", "v2a", "--no-context"))
    pipeline.deaf = False
    assert metrics["tasks"]["v2a"]["scores"]["event_f1"]["value"] == 0
    assert pipeline.calls[-1]["guidance"].context_scale == (0.0, 0.0)
    assert "0m" in (tmp_path / "index.html").read_text()


def test_batches_hold_one_length() -> None:
    specs = [SimpleNamespace(frames=frames) for frames in (32, 64, 32, 32)]
    assert list(held_out.batches(specs, 2)) == [[0, 2], [3], [1]]


def test_processes_and_batches_do_not_change_what_is_made(checkpoint: Path, tmp_path: Path) -> None:
    more = ["--checkpoint", str(checkpoint), "--clips", "2", "--tasks", "v2a", "--steps", "1", "--device", "cpu"]
    scores = []
    for workers in ("1", "2"):
        evaluate.main([*more, "--batch", "1", "--workers", workers, "--output", str(tmp_path / workers)])
        scores.append(json.loads((tmp_path / workers / "metrics.json").read_text())["tasks"]["v2a"]["scores"])
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "1"], "--clips 1"),
        (["--tasks", "t2v"], "--tasks t2v"),
        (["--text-scale", "a"], "--text-scale a"),
        (["--no-context", "--context-scale", "2"], "--no-context"),
        (["--level", "hard"], "invalid choice"),
    ],
)
def test_bad_arguments_are_named(more: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        options(tmp_path, *more)


def test_a_missing_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        evaluate.main(["--checkpoint", str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="--output"):
        evaluate.prepare(tmp_path / "out")
