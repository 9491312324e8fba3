"""evaluate.py on a tiny checkpoint: all tasks, in one process and in two; what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ccl.pipeline import CCLPipeline
from mtv.control import MSTControlNet
from scripts import evaluate
from shared.checkpoint.folder import load_checkpoint, save_checkpoint
from shared.encoders import LogMel
from shared.evaluation import held_out
from shared.evaluation.held_out import SamplingJob, sample_clips
from shared.evaluation.options import EvaluationOptions
from shared.utils.errors import UserError

#: Runs evaluate.py, and kills it when so many batches are kept.
KILLED = """
import os, signal, sys
from scripts import evaluate
from shared.evaluation.kept_samples import KeptSamples
write, count = KeptSamples.write, int(sys.argv[1])
def then_die(self, *arguments):
    global count
    write(self, *arguments)
    if not (count := count - 1):
        os.kill(os.getpid(), signal.SIGKILL)
KeptSamples.write = then_die
evaluate.main(sys.argv[2:])
"""


FEW = Path(__file__).parents[2] / "assets/puppets_few"
FIRST, MARGIN = 16, 0.05  # clips; by how much a score of them may be lower than what is stored: processors round


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
    assert all(value["difference"] == 0 for value in against["measures"]["mtv"].values()) and against["measures"]["mtv"]
    assert list(against["tasks"]) == ["mtv"] and f"minus {file.parent.name}/{file.name}, clip by clip" in out
    assert all(value["difference"] == 0 for value in against["tasks"]["mtv"].values()) and against["tasks"]["mtv"]


def test_an_evaluation_that_was_killed_goes_on_to_the_same_numbers(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--checkpoint", str(both), "--clips", "2", "--tasks", "v2a,mtv", "--steps", "1", "--batch", "1"]
    words += ["--device", "cpu", "--workers", "1", "--output"]
    killed = [sys.executable, "-c", KILLED, "1", *words, str(tmp_path / "killed")]
    assert subprocess.run(killed, capture_output=True, check=False).returncode == -signal.SIGKILL
    left = sorted(file.name for file in (tmp_path / "killed/unfinished").glob("*.npz"))
    assert left == ["v2a.000000.npz"]
    assert not (tmp_path / "killed/metrics.json").exists()
    with pytest.raises(UserError, match="unfinished holds samples of an evaluation with other options or weights"):
        evaluate.main([*words, str(tmp_path / "killed"), "--seed", "1"])
    sampled = []

    def sample(pipelines: Any, job: SamplingJob, kept: Any = None) -> Any:
        sampled.append((job.task, job.clips))
        return sample_clips(pipelines, job, kept)

    monkeypatch.setattr(held_out, "sample_clips", sample)
    for folder in ("killed", "whole"):
        evaluate.main([*words, str(tmp_path / folder)])
    missing = [("v2a", [1]), ("mtv", [0]), ("mtv", [1])]
    assert sampled == [*missing, ("v2a", [0]), *missing]
    one, other = (json.loads((tmp_path / folder / "metrics.json").read_text()) for folder in ("killed", "whole"))
    for metrics in (one, other):
        for result in (metrics, *metrics["tasks"].values()):
            assert result.pop("seconds") > 0
    assert one == other and list(one["tasks"]) == ["v2a", "mtv"]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["index.html", "metrics.json"]
    pages = [(tmp_path / folder / "index.html").read_text() for folder in ("killed", "whole")]
    assert pages[0].count("<video") == pages[1].count("<video") == 4


def test_two_shots_from_prompts_over_time_and_a_contact_sheet(both: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(both), "--clips", "2", "--steps", "1", "--device", "cpu", "--workers", "1"]
    words += ["--level", "shows", "--seconds", "2", "--sheet", str(tmp_path / "sheet.png")]
    evaluate.main([*words, "--tasks", "t2v,shots", "--output", str(tmp_path / "out")])
    tasks = json.loads((tmp_path / "out/metrics.json").read_text())["tasks"]
    assert list(tasks) == ["t2v", "shots"] and tasks["shots"]["clips"] == 4
    assert tasks["shots"]["evaluations"] >= tasks["t2v"]["evaluations"] > 0
    assert tasks["shots"]["cut"]["scores"]["validity_cut"]["clips"] == 2
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_pipelines_sample_at_another_frame_rate(both: Path) -> None:
    def load(tasks: str, **more: float | str) -> dict[str, Any]:
        words = {"checkpoint": both, "output": both / "out", "tasks": tasks, **more}
        return evaluate.load(EvaluationOptions.model_validate(words), "cpu")

    own, other = load("t2av,mtv"), load("t2av,mtv", fps=6.0)
    assert {name: one.config.fps for name, one in other.items()} == {"joint": 6.0, "mtv": 6.0}
    assert own["joint"].config.fps == 8.0
    assert load("mtv", fps=6.0)["mtv"].config.fps == 6.0
    assert not own["joint"].transformer.is_cache_enabled


def test_the_shipped_few_steps_keep_their_sync(tmp_path: Path) -> None:
    """Events, their agreement and lips of the first clips are those that were stored, whatever has changed since."""
    evaluate.main(
        [
            "--checkpoint",
            str(FEW),
            "--clips",
            str(FIRST),
            "--tasks",
            "t2av",
            "--output",
            str(tmp_path),
            "--device",
            "cpu",
        ]
    )
    stored, now = (json.loads((folder / "metrics.json").read_text())["tasks"]["t2av"] for folder in (FEW, tmp_path))
    assert now["evaluations"] == stored["evaluations"] == 4
    for name in ("events", "agreement", "mouth_agreement"):
        then, found = (one["measures"]["per_clip"][name] for one in (stored, now))
        values = [  # what does not count in a clip has neither value nor weight
            np.average([value or 0 for value in one["value"][:FIRST]], weights=one["weight"][:FIRST])
            for one in (then, found)
        ]
        assert values[1] > values[0] - MARGIN, f"{name}: {values[1]:.3f}, and {values[0]:.3f} is stored"


def test_a_joint_checkpoint_cannot_be_driven(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no control network"):
        evaluate.main(["--checkpoint", str(checkpoint), "--tasks", "mtv", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_missing_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        evaluate.main(["--checkpoint", str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_scores_need_a_card_to_go_into(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    options = EvaluationOptions(checkpoint=tmp_path / "model", output=tmp_path / "out", card=True)
    with pytest.raises(UserError, match=r"--card: .*model has no README\.md, its model card"):
        options.settled({})
