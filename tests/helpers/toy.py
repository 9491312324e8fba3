"""A toy with the trainer's protocol. `python toy.py CONFIG` trains it; at step DIE_AT it gets the signal DIE_BY."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import dataclass, replace

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.data.bucketing import BatchPlan, draw_tasks
from shared.training.log import LossRecord
from shared.training.optimizer import parameter_groups
from shared.training.trainer import StepOutput, Trainer
from shared.utils import distributed
from shared.utils.config import TrainConfig
from shared.utils.errors import run_main
from shared.utils.rng import generator

WIDTH = 6
DEFAULTS = {"nan_at": -1, "die_at": -1, "die_by": signal.SIGKILL}
PLAN_SHAPES = {f"clip{i}": (3, 5) for i in range(11)}


@dataclass(frozen=True)
class ToyBatch:
    step: int
    ids: list[str]
    tasks: list[str]
    x: Tensor

    def to(self, device: torch.device) -> ToyBatch:
        return replace(self, x=self.x.to(device))


class Toy(nn.Module):
    """`audio` gets no gradient in t2v, as a skipped stream."""

    def __init__(self, seed: int, nan_at: int = -1) -> None:
        super().__init__()
        self.video, self.audio = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.frozen = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
        self.register_buffer("scale", torch.full((1,), 2.0))
        self.nan_at = nan_at
        with torch.no_grad():
            for name, param in self.named_parameters():
                param.copy_(torch.randn(param.shape, generator=generator(seed, name)))

    def forward(self, batch: ToyBatch) -> StepOutput:
        total, records = batch.x.new_zeros(()), []
        for i, (clip, task) in enumerate(zip(batch.ids, batch.tasks, strict=True)):
            sigma = torch.rand(1, generator=generator(0, batch.step, clip, task))
            for stream in ("video", "audio") if task == "t2av" else ("video",):
                tower = getattr(self, stream)
                loss = (self.frozen(tower(batch.x[i])) - self.scale * batch.x[i]).square().mean()[None].float()
                if batch.step == self.nan_at and task == "t2av":
                    loss = loss * float("nan")
                total = total + loss.sum() / len(batch.ids)
                records.append(LossRecord(stream, task, sigma, loss))
        return StepOutput(total, records)


def held_out(rank: int, size: int):
    """Three clips that do not train, at two noise levels, in both tasks; a fourth batch does not count."""
    for task in ("t2av", "t2v"):
        for level in range(2):
            x = torch.randn(3, WIDTH, generator=generator(5, "held out"))
            yield ToyBatch(level, ["a", "b", "c"], [task] * 3, x), True
    yield ToyBatch(0, ["a"], ["t2v"], 100 * x[:1]), False


def write_config(folder, output, **changes) -> str:
    """A config file; `changes` are sections of the config or else keys of `train`."""
    sections = {key: changes.pop(key) for key in list(changes) if key in TrainConfig.model_fields}
    config = {
        "output": str(output),
        "model": {"width": WIDTH},
        "data": {"manifest": "none"},
        "train": {"steps": 8, "micro_batch": 4, "log_every": 1, "checkpoint_every": 4, **changes},
        "optimizer": {"lr": 0.01, "warmup": 2},
        "tasks": {"t2av": 0.5, "t2v": 0.5},
        "phases": [
            {"name": "t2v", "until": 0.25, "tasks": {"t2v": 1}},
            {"name": "joint", "tasks": {"t2av": 1, "t2v": 1}},
        ],
        **sections,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def train(
    config: TrainConfig, world: distributed.World, on_validate=None, nan_at: int = -1, die_at: int = -1,
    die_by: int = signal.SIGKILL, held_out=None,
):  # fmt: skip
    """Train, and return the exported weights (rank 0) with the trained module."""
    module = Toy(config.seed, nan_at)
    plan = BatchPlan(
        PLAN_SHAPES, config.seed, config.train.micro_batch, world.size, config.train.gradient_accumulation_steps
    )

    def batch_at(step: int, micro: int, rank: int) -> ToyBatch:
        if step == die_at:
            os.kill(os.getpid(), die_by)
        ids = plan.at(step, micro, rank)
        tasks = draw_tasks(config.phase_at(step).tasks, config.seed, step, micro, len(ids))
        x = torch.stack([torch.randn(WIDTH, generator=generator(config.seed, step, clip)) for clip in ids])
        return ToyBatch(step, ids, tasks, x)

    exported: dict[str, Tensor] = {}
    groups = parameter_groups(module, config.optimizer, cross_modal=lambda name: name.startswith("audio"))
    Trainer(config, world, module, groups, batch_at, on_validate, exported.update, held_out).run()
    return exported, module


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    config = TrainConfig.load(parser.parse_known_args()[0].config)
    with distributed.session() as world:
        given = {name: int(os.environ.get(name.upper(), default)) for name, default in DEFAULTS.items()}
        exported, _ = train(config, world, **given)
        if world.is_main:
            save_file(exported, f"{config.output}/weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_main(main)
