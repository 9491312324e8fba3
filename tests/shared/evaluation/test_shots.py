"""Two shots from prompts over time: the truth is right in each and at the cut; grey there, or one shot all the time,
is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ccl.pipeline import CCLOutput
from scripts import evaluate
from shared.encoders.timed_prompts import TimedPrompts
from shared.evaluation import run
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.shots import HeldOutShots, at_rates, windows
from shared.puppets.clip import audio_caption, caption, render_show
from shared.puppets.shows import sample_show
from shared.utils.cli import parse

CLIPS, FPS = 2, 12.0
Spoil = Callable[[np.ndarray, int], np.ndarray]


def soften(video: torch.Tensor) -> torch.Tensor:
    """Noise as a codec leaves it: the ceiling of a codec without any would be that of the fit."""
    return video + 0.03 * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))


CODER = SimpleNamespace(spatial_stride=8, encode=lambda video: video, decode=lambda video, frames: soften(video))


class Shown(torch.nn.Module):
    """Answers to prompts over time with the shows that they tell, and evaluates itself seven times."""

    has_unconditional = True
    config: ClassVar[dict[str, Any]] = {}

    def forward(self) -> None: ...


class Perfect:
    """Stand-in for a pipeline; `spoil`: what becomes of frames [T, H, W, 3] with a cut at a frame."""

    device, audio_codec, video_codec = torch.device("cpu"), None, CODER
    config = SimpleNamespace(height=64, width=64, fps=FPS)

    def __init__(self, spoil: Spoil | None = None) -> None:
        self.transformer, self.spoil = Shown(), spoil
        self.calls: list[dict[str, Any]] = []

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, **call: Any) -> CCLOutput:
        self.calls.append(call)
        for _ in range(7):
            self.transformer()
        frames, sounds = [], []
        for prompt in call["prompt"]:
            assert isinstance(prompt, TimedPrompts)
            show = next(s for s in MADE.shows if tuple(map(caption, s.shots)) == prompt.texts)
            clip = render_show(show)
            cut = show.first_frames[1]
            frames.append(clip.frames if self.spoil is None else self.spoil(clip.frames.copy(), cut))
            sounds.append(clip.mix)
        return CCLOutput(np.stack(frames), np.stack(sounds), FPS, 16000)


MADE = HeldOutShots.make(Perfect, CLIPS, 2)


@pytest.fixture(autouse=True)
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.HeldOutShots, "make", lambda *_: MADE)


def grey(frames: np.ndarray, cut: int) -> np.ndarray:
    frames[cut - 2 : cut + 2] = 127
    return frames


def first_only(frames: np.ndarray, cut: int) -> np.ndarray:
    frames[cut:] = frames[cut - 1]
    return frames


def measured(folder: Path, spoil: Spoil | None = None) -> tuple[Perfect, dict[str, Any]]:
    words = ["--checkpoint", "c", "--workers", "1", "--clips", str(CLIPS), "--level", "shows", "--tasks", "shots"]
    given = parse(EvaluationOptions, None, [*words, "--seconds", "2", "--output", str(folder)]).settled({})
    folder.mkdir(exist_ok=True)
    pipeline = Perfect(spoil)
    return pipeline, run.evaluate(evaluate.evaluated({"joint": pipeline}, given), given)["tasks"]["shots"]


def test_the_truth_is_right_in_each_shot_and_at_the_cut(tmp_path: Path) -> None:
    pipeline, result = measured(tmp_path)
    assert result["clips"] == 2 * CLIPS and result["evaluations"] == 7
    scores, cut = result["measures"]["scores"], result["cut"]
    assert all(scores[name]["value"] > 0.95 for name in ("looks", "count", "agreement", "events"))
    assert scores["validity"]["headline"] > 0.9 and scores["looks"]["clips"] == 2 * CLIPS
    assert cut["ratio"]["value"] > 0.9 and cut["scores"]["validity_cut"]["clips"] == CLIPS
    assert all(score["value"] > 0.9 and score["floor"] < 0.3 for score in cut["scores"].values())
    call = pipeline.calls[0]
    show = next(s for s in MADE.shows if tuple(map(caption, s.shots)) == call["prompt"][0].texts)
    assert call["prompt"][0].times == show.starts and call["duration"] == 2 and call["task"] == "t2av"
    assert call["audio_prompt"][0] == TimedPrompts(show.starts, tuple(map(audio_caption, show.shots)))
    assert json.loads((tmp_path / "metrics.json").read_text())["tasks"]["shots"]["fixed_times_f1"] is None
    page = (tmp_path / "index.html").read_text()
    assert page.count("<video") == CLIPS and "[0 s] " in page
    assert "Around the cut" in page and "evaluated 7 times" in page


def test_grey_at_the_cut_and_a_shot_that_goes_on_are_found(tmp_path: Path) -> None:
    _, mush = measured(tmp_path / "grey", grey)
    near, other = (mush["cut"]["scores"][name]["value"] for name in ("validity_cut", "validity_elsewhere"))
    assert near < 0.3 < 0.6 < other and mush["cut"]["ratio"]["value"] < 0.4
    assert mush["measures"]["scores"]["looks"]["value"] > 0.9
    _, same = measured(tmp_path / "same", first_only)
    assert same["measures"]["scores"]["looks"]["value"] < 0.8


def test_shots_are_at_the_pipelines_rates_and_numbered_in_a_row() -> None:
    assert len(MADE.shows) == CLIPS and len(MADE.specs) == len(MADE.coded) == 2 * CLIPS
    for i, show in enumerate(MADE.shows):
        assert len(show.shots) == 2 and MADE.whole[i].duration == 2 and MADE.specs[2 * i : 2 * i + 2] == [*show.shots]
        assert all(shot.fps == FPS for shot in show.shots)
        assert [len(clip.frames) for clip in MADE.coded[2 * i : 2 * i + 2]] == [shot.frames for shot in show.shots]
    show = sample_show(5, 3, (64, 64), 2)
    fast = at_rates(show, 24.0, 8000)
    assert abs(fast.starts[-1] - show.starts[-1]) <= 0.5 / 24 and {shot.rate for shot in fast.shots} == {8000}


@pytest.mark.parametrize(("number", "near"), [(0, [9, 10, 11]), (1, [0, 1, 2]), (4, [9, 10, 11])])
def test_windows_are_beside_the_cut(number: int, near: list[int]) -> None:
    clip: Any = SimpleNamespace(scene=SimpleNamespace(frames=np.zeros((12, 1))), spec=SimpleNamespace(fps=12.0))
    inside, elsewhere = windows(clip, number)
    assert np.flatnonzero(inside).tolist() == near and (inside ^ elsewhere).all()
