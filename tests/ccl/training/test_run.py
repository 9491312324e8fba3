"""What a run samples at validation, and what it tells its adapter; whole runs are tested with the scripts."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ccl.training.run import Run, _check_prolonged, _steps_done, train
from ccl.training.source import Source
from shared.data.bad_clips import Problem
from shared.data.manifest import Clip, write_manifest
from shared.encoders.timed_prompts import TimedPrompts
from shared.training.card import Progress
from shared.utils.config import TrainConfig
from shared.utils.distributed import World
from shared.utils.errors import UserError

CLIPS = [Clip(id=str(i), video=Path(f"{i}.mp4"), caption=f"Clip {i}.") for i in range(4)]
SHOTS = Clip.model_validate({"id": "shots", "video": "s.mp4", "prompts": [(0, "A bell."), (1, "A drum.")]})
WORLD = World(0, 2, torch.device("cpu"))


class Latents:
    """Those of four clips."""

    def __len__(self) -> int:
        return 4

    def shapes(self) -> dict[str, tuple[int, int]]:
        return {str(i): (3, 5) for i in range(4)}


class Data:
    """Training data; `clips`: of a manifest, none of shards."""

    texts, tracks, latents = None, None, Latents()

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def buckets(self, stride: int, patch: int) -> tuple[dict[str, tuple[int, int]], int]:
        assert (stride, patch) == (8, 2)
        return self.latents.shapes(), 4

    def prompts(self, count: int) -> list[TimedPrompts]:
        return [TimedPrompts.of(f"Record {i}.") for i in range(count)]


class Adapter:
    """Keeps what a run asks of it."""

    patch = 2

    def __init__(self, config: TrainConfig, components: Any, features: Any) -> None:
        assert features is None  # there are no tracks
        self.sampled: list[Any] = []
        self.saved: list[Any] = []

    def objective(self) -> nn.Module:
        return nn.Linear(1, 1)

    def sample(self, weights: Any, prompts: list[TimedPrompts], clips: list[Clip], stem: Path, device: Any) -> None:
        assert stem.parent.is_dir()
        self.sampled.append((prompts, [clip.id for clip in clips], stem.name))

    def save(self, weights: Any, folder: Path, progress: Progress) -> None:
        self.saved.append((folder.name, progress.step, progress.clips, progress.processes))


def run(folder: Path, trained_on: list[Clip], **validation: Any) -> Run:
    raw = {"output": str(folder / "out"), "model": {}, "data": {"manifest": "clips"}, "train": {"steps": 9}}
    config = TrainConfig.model_validate(raw | {"validation": {"every": 3, "clips": 2} | validation})
    (folder / "out").mkdir(exist_ok=True)
    components = SimpleNamespace(codecs=SimpleNamespace(video=SimpleNamespace(spatial_stride=8)))
    return Run(config, WORLD, Data(trained_on), components, Adapter)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("clips", "validation", "prompts", "held_out"),
    [
        (CLIPS, {}, ["Clip 0.", "Clip 1."], ["0", "1"]),
        (CLIPS, {"prompts": ["A bell."]}, ["A bell."], ["0", "1"]),
        ([], {}, ["Record 0.", "Record 1."], []),
        (CLIPS, {"clips": 0}, [], []),
        ([], {"manifest": True, "clips": 1}, ["Clip 2."], ["2"]),
        ([SHOTS], {}, [TimedPrompts((0.0, 1.0), ("A bell.", "A drum."))], ["shots"]),
    ],
)
def test_prompts_are_given_or_captions_of_the_held_out_or_the_first_clips(
    tmp_path: Path, clips: list[Clip], validation: dict, prompts: list[str | TimedPrompts], held_out: list[str]
) -> None:
    if validation.get("manifest"):
        (tmp_path / "2.mp4").touch()
        write_manifest(tmp_path / "held_out.jsonl", [CLIPS[2].resolved(tmp_path)])
        validation = validation | {"manifest": str(tmp_path / "held_out.jsonl")}
    one = run(tmp_path, clips, **validation)
    one.validate(3, {})
    texts = [TimedPrompts.of(prompt) for prompt in prompts]
    assert one.model.sampled == [(texts, held_out, "step000003")]  # type: ignore[attr-defined]
    one.export({})
    assert one.model.saved == [("checkpoint", 3, 4, 2), ("checkpoint", 9, 4, 2)]  # type: ignore[attr-defined]


def test_what_is_left_out_is_listed_in_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(output=str(tmp_path), model={}, data={"manifest": "clips"}, train={"steps": 9})
    source = Source([], left_out=[Problem("a", "clip 'a': left out by data.max_duration: it lasts 9 s")])
    data = SimpleNamespace(left_out=[Problem("b", "clip 'b': its sound is silent")])
    monkeypatch.setattr("ccl.training.run.read_source", lambda config, tasks: source)
    monkeypatch.setattr("ccl.training.run.session", lambda: nullcontext(World(0, 1, torch.device("cpu"))))
    monkeypatch.setattr("ccl.training.run.claim_output", lambda config, world: None)
    monkeypatch.setattr("ccl.training.run.TrainingData.of", lambda *_: data)
    monkeypatch.setattr("ccl.training.run.own_output", lambda *_: nullcontext())
    monkeypatch.setattr("ccl.training.run.check_export", lambda *_: None)
    monkeypatch.setattr("ccl.training.run.Run", lambda *_: SimpleNamespace(train=lambda: None))
    adapter: Any = SimpleNamespace(check=lambda *_: None, prepare=lambda *_: None)
    train(config, adapter)
    lines = (tmp_path / "left_out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "steps"), [("5", 5), ("5\n", 5), (None, 0), ("", 7), ("five", 7), ("9" * 5000, 7), ("5\0", 7)]
)
def test_a_stage_was_done_after_the_steps_that_are_noted(tmp_path: Path, text: str | None, steps: int) -> None:
    """Where nothing is noted, as by earlier versions, or it is damaged, after all that it has."""
    if text is not None:
        (tmp_path / "done").write_text(text)
    assert _steps_done(tmp_path / "done", stage(tmp_path, 7)) == steps


def test_only_the_last_stage_that_began_is_prolonged(tmp_path: Path) -> None:
    stages = [stage(tmp_path / name, 7) for name in ("first", "second", "third")]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    _check_prolonged(stages, 1, 5)
    _check_prolonged(stages, 0, 7)  # done, and no more is asked for
    _check_prolonged(stages, 0, 0)  # not done yet
    with pytest.raises(UserError, match=r"first ended after 5 steps, and .*second began from there; .* prolonged to 7"):
        _check_prolonged(stages, 0, 5)


def stage(output: Path, steps: int) -> Any:
    return SimpleNamespace(output=str(output), train=SimpleNamespace(steps=steps))
