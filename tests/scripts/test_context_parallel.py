"""Two processes that hold a sample together compute what one does: outputs, gradients, training, clips; and two that
divide a list of prompts write what one would. One start of two processes makes all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joint
import numpy as np
import parallel
import pytest
import sample_joint
import sample_mtv
import small
import torch
from distance import distances
from safetensors.torch import load_file

from ccl.training.build import JointAdapter
from mtv.cogvideox_adapter import CogVideoXAdapter
from mtv.control import MSTControlNet
from mtv.pipeline import MTVPipeline
from shared.checkpoint.folder import save_checkpoint
from shared.data.media import read_audio, read_video, write_audio
from shared.encoders.audio import LogMel
from shared.utils.config import TrainConfig
from shared.utils.distributed import World, session
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]
ONE_BLOCK = {name: {**parallel.EVEN_HEADS[name], "num_layers": 1} for name in ("video", "audio")}
PARTS = ("one", "two")
SHORT = ["--steps", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with session() as joined:
        yield joined


def start(folder: Path, count: int = 2) -> None:
    """Run parallel.py on so many processes, by torchrun."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    env = {name: value for name, value in os.environ.items() if name not in names}
    paths = (ROOT, ROOT / "scripts", ROOT / "tests/helpers")
    env |= {"PYTHONPATH": ":".join(map(str, paths)), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    program = [str(ROOT / "tests/helpers/parallel.py"), str(folder)]
    done = subprocess.run([*line, *program], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def config(folder: Path, stage: int = 2, **train: Any) -> Path:
    return joint.write_config(folder, stage, model=parallel.EVEN_HEADS | ONE_BLOCK, **{"steps": 4, **train})


def heard(file: Path) -> bytes:
    """The decoded sound of a clip."""
    return read_audio(file, 16000).tobytes()


def commands(folder: Path) -> dict[str, list[str]]:
    """Words for the scripts, by the name of what they write in `folder`."""
    base = ["--checkpoint", str(folder.parent / "model"), *SHORT]
    spoken = ["--speech", str(folder.parent / "voice.wav"), "--window", "0.6"]
    return {
        "joint": ["--prompt", "A bell.", "--duration", "0.8", *base, "--output", str(folder / "joint.mp4")],
        "mtv": ["--prompt", "Person1.", *spoken, *base, "--output", str(folder / "mtv.mp4")],
        "many": ["--prompts", str(folder.parent / "many.jsonl"), "--batch", "1", "--duration", "0.5", *base,
                 "--output", str(folder / "many.mp4")],
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """two/: sums.pt, the run `run` and clips of two processes; one/: clips of one."""
    folder = tmp_path_factory.mktemp("parallel")
    torch.manual_seed(0)
    control = MSTControlNet(
        backbone_dim=24, backbone_heads=2, num_blocks=2, tracks=dict.fromkeys(parallel.TRACKS, (5, 1, 256)),
        token_dim=8, tokens=2, interaction_blocks=1, heads=2, ffn_dim=16, hidden_dim=8,
    )  # fmt: skip
    pipeline = MTVPipeline.from_pipe(
        small.pipeline(small.transformer()), control=small.randomised(control), audio_encoder=LogMel()
    )
    save_checkpoint(pipeline, folder / "model", "a card")
    time = np.arange(16000) / 16000
    write_audio(folder / "voice.wav", (0.3 * np.sin(900 * time) * np.exp(-time))[None].astype(np.float32), 16000)
    lines = [{"prompt": "A bell."}, {"prompt": "A drum.", "seed": 7, "audio_prompt": "Rain."}, {"prompt": "A ball."}]
    (folder / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in PARTS:
        (folder / name).mkdir()
    words = commands(folder / "two")
    together = ["--context-parallel", "2"]
    plan = {
        "cases": list(parallel.CASES),
        "configs": [str(config(folder / "two/run", context_parallel=2, activation_checkpointing=True))],
        "joint": [[*words["joint"], *together], words["many"]],
        "mtv": [[*words["mtv"], *together]],
    }
    (folder / "two/plan.json").write_text(json.dumps(plan))
    start(folder / "two")
    words = commands(folder / "one")
    sample_joint.main(words["joint"])
    sample_joint.main(words["many"])
    sample_mtv.main(words["mtv"])
    return folder


@pytest.mark.parametrize("name", parallel.CASES)
def test_outputs_and_gradients_are_those_of_one_process(runs: Path, name: str) -> None:
    found, wanted = torch.load(runs / "two/sums.pt")[name], parallel.evaluate(name, parallel=False)
    assert found.keys() == wanted.keys() and len(wanted) > 20
    for stream in ("video", "audio"):
        if stream in wanted:
            torch.testing.assert_close(found.pop(stream), wanted.pop(stream), rtol=1e-5, atol=1e-5)
    largest, whole = distances(found, wanted)
    assert largest < 1e-4 and whole < 1e-6  # the largest is of a gradient that is all rounding: 1e-4 of the others


def test_what_cannot_be_divided_is_told(runs: Path) -> None:
    heads, short, world, twice = torch.load(runs / "two/sums.pt")["refusals"]
    assert heads == "context parallel 2: the audio stream has 3 heads; one of 1 divides them"
    assert short.startswith("context parallel: 1 latents of the video cannot be divided among 2 processes")
    assert world == "context parallel 4: start 4 processes or a multiple; this run has 2"
    assert "enabled already" in twice


def assert_trained_alike(run: Path, alone: Path, world: World) -> None:
    """Losses and weights of a run are those of one process with the configuration `alone`."""
    settings = TrainConfig.load(alone)
    weights = joint.train(settings, world)
    assert joint.losses(run) == pytest.approx(joint.losses(alone.parent), rel=1e-5, abs=1e-5)
    first = joint.objective(settings).state_dict()
    largest, whole = distances(load_file(run / "weights.safetensors"), weights, first)
    assert largest < 1e-3 and whole < 5e-5


def test_training_with_zero_2_is_that_of_one_process(runs: Path, tmp_path: Path, world: World) -> None:
    run = runs / "two/run"
    assert_trained_alike(run, config(tmp_path / "one"), world)
    about = json.loads((run / "out/state/step00000004/about.json").read_text())
    assert (about["clips"], about["processes"]) == (joint.CLIPS, 2)


@pytest.mark.parametrize("name", ["joint.mp4", "mtv.mp4"])
def test_a_clip_of_two_processes_is_that_of_one(runs: Path, name: str) -> None:
    one, two = (read_video(runs / part / name, 16).astype(int) for part in PARTS)
    assert one.shape == two.shape and abs(one - two).max() <= 2 and one.std() > 1
    first, second = (read_audio(runs / part / name, 16000) for part in PARTS)
    assert abs(first - second).max() < 0.05 * abs(first).max()


def test_a_list_of_prompts_is_the_same_whoever_makes_it(runs: Path) -> None:
    """The sounds to the bit; x264 may encode the same frames in another way."""
    one, two = ([heard(runs / part / f"many_00{i}.mp4") for i in range(3)] for part in PARTS)
    assert one == two and len(set(one)) == 3
    one, two = ([read_video(runs / part / f"many_00{i}.mp4", 16).astype(int) for i in range(3)] for part in PARTS)
    assert max(abs(a - b).max() for a, b in zip(one, two, strict=True)) < 20


def test_a_list_goes_on_from_the_clips_that_are_there(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, whole = commands(runs / "one")["many"], runs / "one/many_001.mp4"
    kept = [*words, "--resume"]
    before = heard(whole)
    whole.unlink()
    capsys.readouterr()
    sample_joint.main(kept)
    assert capsys.readouterr().out.split() == [str(whole)] and heard(whole) == before
    with pytest.raises(UserError, match=r"many_000.mp4 is of other options, prompts or weights; leave out"):
        sample_joint.main([*kept, "--steps", "3"])
    (runs / "one/.many.mp4.settings").unlink()
    with pytest.raises(UserError, match="nothing tells what made it"):
        sample_joint.main(kept)


def test_what_launchers_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["--prompt", "x", "--output", str(tmp_path / "x.mp4")]
    with pytest.raises(
        UserError, match="--context-parallel 2: start it with torchrun --nproc-per-node 2 or a multiple"
    ):
        sample_joint.main([*words, "--context-parallel", "2"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="2 processes for one clip; give --context-parallel 2, or --prompts"):
        sample_joint.main(words)
    with pytest.raises(UserError, match="2 processes for one video; give --context-parallel 2"):
        sample_mtv.main([*words, "--music", "x.wav"])
    with pytest.raises(UserError, match="--device cpu: a launcher gives each process its own"):
        sample_joint.main([*words, "--device", "cpu", "--context-parallel", "2"])
    with pytest.raises(UserError, match="--compile cannot compile what processes exchange"):
        sample_joint.main([*words, "--compile", "--context-parallel", "2"])


def test_what_training_cannot_divide_is_told(tmp_path: Path) -> None:
    wrong = TrainConfig.load(joint.write_config(tmp_path, 2, context_parallel=2))  # three heads
    with pytest.raises(UserError, match=r"train\.context_parallel 2: the audio stream has 3 heads; one of 1 divides"):
        JointAdapter.check(wrong, [wrong])
    with pytest.raises(UserError, match=r"train\.context_parallel divides the joint model alone, not a CogVideoX"):
        CogVideoXAdapter.check(wrong.model_copy(update={"backbone": "x"}), [wrong])
    for overrides, said in (
        (["lora={dropout: 0.1}", "init=x"], "lora.dropout: processes that share a sample draw alike"),
        (["train.compile=true"], "train.compile cannot compile what train.context_parallel exchanges"),
    ):
        with pytest.raises(UserError, match=said):
            TrainConfig.load(tmp_path / "config.yaml", overrides)


@pytest.mark.slow  # four processes start, and train at each stage
def test_two_groups_train_at_each_stage_as_one_process(tmp_path: Path, world: World) -> None:
    stages = (0, 1, 2, 3)
    configs = [config(tmp_path / f"{stage}", stage, context_parallel=2, micro_batch=1, steps=3) for stage in stages]
    plan = {"cases": [], "configs": list(map(str, configs)), "joint": [], "mtv": []}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    start(tmp_path, count=4)
    for stage in stages:
        assert_trained_alike(tmp_path / f"{stage}", config(tmp_path / f"alone{stage}", stage, steps=3), world)
