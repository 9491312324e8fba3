"""A tiny joint model on the trainer. `python joint.py PLAN` trains the configurations of a JSON file one after another.

The clips of a step are the same for every number of processes, and so are each process's tasks: under ZeRO-3 all
processes have to run the same modules.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import tiny
import torch
import yaml
from diffusers import ContextParallelConfig
from safetensors.torch import save_file
from torch import Tensor

from ccl.training.objective import Batch, JointObjective
from shared.training.optimizer import parameter_groups
from shared.training.trainer import Trainer
from shared.utils import distributed
from shared.utils.config import TrainConfig
from shared.utils.errors import run_main
from shared.utils.rng import generator

CLIPS = 4  # of a step
ONE_BLOCK = {**tiny.CONFIG, **{name: {**tiny.CONFIG[name], "num_layers": 1} for name in ("video", "audio")}}
# Of the first half of a step's clips, and of the second: a stream may go untrained in one micro-step, or in a step.
TASKS = [["t2av", "a2v"], ["t2v", "t2v"], ["t2a", "t2v"], ["v2a", "t2av"]]


class Stop(Exception):
    """Training ends where a test wants it to."""


def write_config(folder: Path, stage: int, **changes: Any) -> Path:
    """A configuration in `folder`, which the run writes to, at the shipped ZeRO `stage`.

    `changes` are of `train`, `zero` of the ZeRO section, `model` takes the place of the model.
    """
    shipped = json.loads((Path(__file__).parents[2] / f"configs/deepspeed/zero{stage}.json").read_text())
    zero = {**shipped["zero_optimization"], **changes.pop("zero", {})}
    if stage == 3:  # by default all of this small model would stay whole; now only vectors do
        zero = {"stage3_param_persistence_threshold": 100, **zero}
    model = changes.pop("model", ONE_BLOCK)
    train = {
        "steps": 20,
        "micro_batch": 2,
        "gradient_accumulation_steps": 2,
        "log_every": 1,
        "checkpoint_every": 100,
        "ema": 0.9,
        "max_grad_norm": 4.0,  # amid the norms of the steps: a wrong factor then shows, which Adam alone hides
        **changes,
    }
    config = {
        "output": str(folder / "out"),
        "model": model,
        "data": {"manifest": "none"},
        "train": train,
        "optimizer": {"lr": 0.002, "warmup": 3, "cross_modal_lr_scale": 3.0, "weight_decay": 0.1},
        "detach_clean_stream": True,
        "deepspeed": {"zero_optimization": zero},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def objective(config: TrainConfig) -> JointObjective:
    """All weights random; the audio's patch embedding learns nothing."""
    model = tiny.transformer(**config.model).train()
    model.audio_stream.patch_embedding.requires_grad_(False)
    return JointObjective(model, config.flow, config.loss, config.seed, config.detach_clean_stream)


def groups(config: TrainConfig, module: JointObjective) -> list[dict[str, Any]]:
    return parameter_groups(module, config.optimizer, lambda name: ".fusion." in name)


def batch_at(step: int, clips: range) -> Batch:
    """Those of the `CLIPS` clips of a step; their latents depend on the clip alone."""
    ids = [f"clip{(CLIPS * step + i) % 9}" for i in clips]
    parts = {
        name: torch.stack([torch.randn(shape, generator=generator(0, name, clip)) for clip in ids])
        for name, shape in (
            ("video", tiny.VIDEO),
            ("audio", tiny.AUDIO),
            ("text", tiny.TEXT),
            ("audio_text", tiny.TEXT),
        )
    }
    clean = torch.zeros(len(ids), tiny.FRAMES, dtype=torch.bool)
    tasks = [TASKS[step % len(TASKS)][2 * i // CLIPS] for i in clips]
    return Batch(
        step, ids, tasks, **parts, clean_frames=clean, video_clock=tiny.VIDEO_CLOCK, audio_clock=tiny.AUDIO_CLOCK
    )


def train(config: TrainConfig, world: distributed.World, stop_at: int = -1, die_at: int = -1) -> dict[str, Tensor]:
    """Train, and return the exported weights (on rank 0). Ends before step `stop_at` in `Stop`, `die_at` in a kill."""
    micro, accumulation = config.train.micro_batch, config.train.gradient_accumulation_steps
    shared = world.of_groups(config.train.context_parallel)
    assert micro * accumulation * shared.size == CLIPS

    def part(step: int, turn: int, rank: int) -> Batch:
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == stop_at:
            raise Stop
        first = (turn * shared.size + rank) * micro
        return batch_at(step, range(first, first + micro))

    module = objective(config)
    if config.train.context_parallel > 1:
        parallel = ContextParallelConfig(ulysses_degree=config.train.context_parallel)
        module.transformer.enable_parallelism(config=parallel)
    exported: dict[str, Tensor] = {}
    Trainer(config, world, module, groups(config, module), part, None, exported.update).run()
    return exported


def losses(folder: Path) -> dict[tuple[str, ...], float]:
    """losses.csv of the run in `folder`: step, stream, task, bucket -> loss."""
    with open(folder / "out/losses.csv") as file:
        return {tuple(row[:4]): float(row[4]) for row in list(csv.reader(file))[1:]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plan", type=Path)
    plan = json.loads(parser.parse_known_args()[0].plan.read_text())
    with distributed.session() as world:
        for path in plan["configs"]:
            with contextlib.suppress(Stop):
                exported = train(TrainConfig.load(path), world, plan.get("stop_at", -1), plan.get("die_at", -1))
                if world.is_main:
                    save_file(exported, f"{Path(path).parent}/weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_main(main)
