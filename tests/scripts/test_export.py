"""scripts/export.py: the checkpoint that training wrote comes out of its saved state, at any ZeRO stage."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import export
import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_train_ccl import clips

from ccl.pipeline import CCLPipeline
from shared.checkpoint.folder import load_checkpoint
from shared.utils.errors import run_main

ROOT = Path(__file__).parents[2]

DRIVER = """
import json, sys
sys.path.insert(0, "scripts")
import torch, train_ccl
from shared.utils.distributed import session
torch.set_num_threads(1)
with session():
    for config in json.loads(sys.argv[1]):
        train_ccl.main(["--config", config])
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0/ and 3/: runs of two processes with ZeRO stages 0 and 3, of three steps; part of the model is frozen."""
    folder = tmp_path_factory.mktemp("export")
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    manifest, configs = str(clips(folder / "clips")), []
    for stage in (0, 3):
        config = {
            "output": str(folder / str(stage)),
            "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
            "data": {"manifest": manifest, "fps": 8, "size": [32, 32]},
            "train": {
                "steps": 3,
                "micro_batch": 1,
                "checkpoint_every": 1,
                "log_every": 1,
                "ema": 0.5,
                "keep_checkpoints": 5,
            },
            "optimizer": {"warmup": 0, "lr": 0.01},
            "trainable": ["attention"],
            "tasks": {"t2av": 1},
            "deepspeed": {"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}},
        }
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(config))
        configs.append(str(folder / f"{stage}.yaml"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(configs)],
            cwd=ROOT, env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    for process in started:
        error = process.communicate(timeout=900)[1]
        assert process.returncode == 0, error
    return folder


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(checkpoint / "transformer/diffusion_pytorch_model.safetensors")
    return found


@pytest.mark.parametrize("stage", ["0", "3"])
def test_the_export_of_the_last_state_is_the_checkpoint_of_the_run(runs: Path, tmp_path: Path, stage: str) -> None:
    moved = shutil.copytree(runs / stage, tmp_path / "moved")
    export.main(["--run", str(moved), "--output", str(tmp_path / "out")])
    ours, theirs = weights(tmp_path / "out"), weights(runs / stage / "checkpoint")
    assert set(ours) == set(theirs) and all(torch.equal(value, theirs[name]) for name, value in ours.items())
    pipeline = load_checkpoint(CCLPipeline, tmp_path / "out")
    assert (pipeline.config.fps, pipeline.config.height) == (8, 32)
    card = (tmp_path / "out/README.md").read_text()
    assert "| steps | 3 of 3 |" in card and "| clips a step | 2, processes: 2 |" in card and "of decay 0.5" in card


def test_steps_and_the_average_are_chosen(runs: Path, tmp_path: Path) -> None:
    name = "blocks.0.video.attn1.to_q.weight"
    found = {}
    for label, more in {
        "1": ["--step", "1"],
        "3": [],
        "no": ["--no-ema"],
        "first": ["--step", "1", "--no-ema"],
    }.items():
        export.main(["--run", str(runs / "3"), "--output", str(tmp_path / label), *more])
        found[label] = weights(tmp_path / label)[name]
    assert not torch.equal(found["1"], found["3"]) and not torch.equal(found["3"], found["no"])
    assert torch.equal(found["1"], found["first"])  # the average starts as the weights after the first step
    assert "| weights | of the last step |" in (tmp_path / "no/README.md").read_text()


def refusal(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: export.main(list(line)))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def test_what_cannot_be_exported_is_refused(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(runs / "3"), str(tmp_path / "out")
    assert "no config.yaml there" in refusal(capsys, "--run", str(tmp_path), "--output", out)
    assert (
        "--step 7" in (said := refusal(capsys, "--run", run, "--output", out, "--step", "7")) and "has 1, 2, 3" in said
    )
    assert "exists already" in refusal(capsys, "--run", run, "--output", run)
    other = shutil.copytree(runs / "3", tmp_path / "other")
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["model"]["context_tokens"], config["train"]["ema"] = 5, 0.0
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    assert "keeps no average" in refusal(capsys, "--run", str(other), "--output", out, "--ema")
    said = refusal(capsys, "--run", str(other), "--output", out)
    assert "context_tokens is [2, 12], and [5, 12] in the run's config.yaml" in said
    shutil.rmtree(other / "state")
    assert "no complete state" in refusal(capsys, "--run", str(other), "--output", out)
    assert not (tmp_path / "out").exists()
