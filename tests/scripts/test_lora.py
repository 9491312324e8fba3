"""LoRA through the scripts: trained on clips from a checkpoint, resumed to the bit, sampled fused and unfused.

The runs share one process group in a process of their own: DeepSpeed allows one in each, and pytest's may have it
already.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sample_joint
import torch
import yaml
from distance import distances
from safetensors.torch import load_file

from ccl.pipeline import CCLPipeline
from shared.checkpoint.lora_file import FILE
from shared.data.media import read_video, write_video
from shared.utils.errors import run_main

ROOT = Path(__file__).parents[2]

DRIVER = """
import pathlib, shutil, sys
sys.path.insert(0, "scripts")
import torch, train_ccl
from shared.utils.distributed import session
torch.set_num_threads(1)
config, whole, halved = sys.argv[1:4]
others = dict(other.split(":") for other in sys.argv[4:])  # output: ZeRO stage
with session() as world:
    for output, stage in others.items():
        zero = {"stage": int(stage), "stage3_param_persistence_threshold": 0}
        batch = f"train.micro_batch={2 // world.size}"
        more = [f"output={output}", f"deepspeed={{zero_optimization: {zero}}}", "validation.every=9", batch]
        train_ccl.main(["--config", config, *(word for change in more for word in ("--set", change))])
    if not whole:
        sys.exit()
    train_ccl.main(["--config", config, "--set", f"output={whole}"])
    shutil.copytree(whole, halved)  # as a run that was killed after its first step
    halved = pathlib.Path(halved)
    shutil.rmtree(halved / "lora")
    shutil.rmtree(halved / "state/step00000002")
    (halved / "state/latest").write_text("step00000001")
    train_ccl.main(["--config", config, "--set", f"output={halved}"])
"""


@pytest.fixture(scope="module")
def runs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two steps from the tiny checkpoint, and the same run gone on with after the first."""
    folder = tmp_path_factory.mktemp("lora")
    (folder / "clips").mkdir()
    for index in range(2):
        rng = np.random.default_rng(index)
        frames = np.kron(rng.integers(0, 255, (8, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
        sound = (0.3 * rng.standard_normal((1, 16000))).astype(np.float32)
        write_video(folder / f"clips/clip{index}.mp4", frames, 8, sound, 16000)
        (folder / f"clips/clip{index}.txt").write_text(f"Clip {index} of noise.")
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    config = {
        "output": "",
        "seed": 1,  # with 0 one gradient lies near the optimizer's epsilon, where rounding shows
        "init": str(checkpoint),
        "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
        "data": {"manifest": str(folder / "clips"), "fps": 8, "size": [32, 32]},
        "train": {
            "steps": 2,
            "micro_batch": 2,
            "checkpoint_every": 1,
            "log_every": 1,
            "ema": 0.5,
            "export_dtype": "fp32",
            "max_grad_norm": 0.18,  # between the norms of the steps: a wrong factor then shows, which Adam alone hides
        },
        "optimizer": {"warmup": 0, "lr": 0.05},
        "tasks": {"t2av": 1},  # a loss per stream is a mean over the samples that have it, in each process
        "lora": {"rank": 2, "alpha": 4, "targets": ["attention", "cross-modal"]},
        "validation": {"every": 2, "clips": 1, "steps": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    whole, halved = folder / "whole", folder / "halved"
    own = [whole, halved, *(f"{folder / f'one{stage}'}:{stage}" for stage in (2, 3))]
    two = ["", "", *(f"{folder / f'two{stage}'}:{stage}" for stage in (1, 2, 3))]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    starts = [(own, {}), *((two, common | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01")]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder / "config.yaml"), *map(str, words)],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **more}, stderr=subprocess.PIPE, text=True,
        )
        for words, more in starts
    ]  # fmt: skip
    for process in started:
        error = process.communicate(timeout=600)[1]
        assert process.returncode == 0, error[-4000:]
    return whole, halved


def test_a_run_writes_its_adapters_alone(runs: tuple[Path, Path], checkpoint: Path) -> None:
    whole, _ = runs
    assert sorted(file.name for file in (whole / "lora").iterdir()) == ["README.md", FILE]
    assert not (whole / "checkpoint").exists() and (whole / "samples/step000002_0.mp4").is_file()
    weights = load_file(whole / "lora" / FILE)
    assert len(weights) == 2 * (2 * 8 + 2 * 4) and all(".lora_" in name for name in weights)
    assert all(value.any() for name, value in weights.items() if name.endswith("to_out.0.lora_B.weight"))
    card = (whole / "lora/README.md").read_text()
    assert (
        "Rank 2, alpha 4" in card and f"{checkpoint.parent.name}/{checkpoint.name}" in card and "| clips | 2 |" in card
    )


def test_a_run_gone_on_with_is_the_same_to_the_bit(runs: tuple[Path, Path]) -> None:
    first, second = (load_file(run / "lora" / FILE) for run in runs)
    assert set(first) == set(second)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("other", ["one2", "one3", "two1", "two2", "two3"])
def test_every_zero_stage_trains_the_same_adapters(runs: tuple[Path, Path], other: str) -> None:
    """With one process and with two, of one global batch."""
    first, second = (load_file(run / "lora" / FILE) for run in (runs[0], runs[0].with_name(other)))
    assert any(value.any() for value in first.values())
    # Rounding gives 5e-7 and 5e-8; gradients of twice or half the size, 2e-3 and 4e-4.
    largest, whole = distances(second, first)
    assert largest < 2e-3 and whole < 2e-4


def test_a_trained_adapter_samples_the_same_fused_and_unfused(runs: tuple[Path, Path], checkpoint: Path) -> None:
    pipe = CCLPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)

    def sample() -> torch.Tensor:
        last: dict[str, torch.Tensor] = {}
        callback = lambda _, step, u, now: last.update(now)  # noqa: E731
        pipe("A bell.", duration=0.5, num_inference_steps=2, callback_on_step_end=callback)
        return torch.cat([last["video"].flatten(), last["audio"].flatten()])

    base = sample()
    pipe.load_lora_weights(runs[0] / "lora", adapter_name="noise")
    trained = sample()
    assert (trained - base).abs().max() > 0.01
    pipe.unload_lora_weights()
    assert torch.equal(sample(), base)
    pipe.load_lora_weights(runs[0] / "lora", adapter_name="noise")
    pipe.fuse_lora()
    torch.testing.assert_close(sample(), trained, rtol=0, atol=1e-4)


def seen(checkpoint: Path, out: Path, *more: str) -> np.ndarray:
    line = ["--checkpoint", checkpoint, "--output", out, "--prompt", "A bell.", "--steps", 1, "--duration", 0.5, *more]
    sample_joint.main([str(part) for part in line])
    return read_video(out, 8).astype(int)


def test_sample_joint_takes_adapters_at_a_scale(
    runs: tuple[Path, Path], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = str(runs[0] / "lora")
    plain = seen(checkpoint, tmp_path / "plain.mp4")
    nothing = seen(checkpoint, tmp_path / "nothing.mp4", "--lora", f"{lora}=0")
    strong = seen(checkpoint, tmp_path / "strong.mp4", "--lora", f"{lora}=3")
    twice = seen(checkpoint, tmp_path / "twice.mp4", "--lora", f"{lora}=1", "--lora", f"{lora}=2", "--fuse-lora")
    low = seen(checkpoint, tmp_path / "low.mp4", "--memory", "low")
    assert "on a CPU there is nothing to offload from" in capsys.readouterr().err
    assert np.array_equal(plain, nothing) and abs(plain - strong).max() > 8
    assert abs(twice - strong).max() <= 2 and abs(low - plain).mean() < 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--lora", "nowhere"), "lora nowhere: no such file or folder"),
        (("--lora", "style=strong"), "'strong' is no scale; FOLDER or FOLDER=SCALE is needed"),
        (("--lora", "style=nan"), "'nan' is no scale"),
        (("--fuse-lora",), "there is nothing to fuse without --lora"),
        (("--memory", "tiny"), "invalid choice: 'tiny'"),
    ],
)
def test_bad_arguments_are_refused_before_a_model_is_loaded(
    more: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: sample_joint.main(["--prompt", "A bell.", "--output", str(tmp_path / "out.mp4"), *more]))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1
