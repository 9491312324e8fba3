"""Training steps of a configuration on made-up clips, each part timed: one process, no launcher, no files left.

`python -P ccl/training/timed_steps.py SETTINGS`, with another checkout first on PYTHONPATH, runs that checkout's steps:
it answers lines on stdin (`ccl.analysis.train_benchmark` asks). So only what has long been there is used here, and
nothing but the times of the parts is new: the same clips, seeds and weights in every checkout.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from ccl.training.batches import JointBatches
from ccl.training.build import JointAdapter
from ccl.training.run import CROSS_MODAL
from shared.data.clip_texts import ClipTexts
from shared.data.shard_writer import NewRecord, write_shard
from shared.data.shards import LatentShards
from shared.training.components import Components
from shared.training.optimizer import build_optimizer, parameter_groups
from shared.utils.config import TrainConfig
from shared.utils.errors import run_main
from shared.utils.rng import generator

CAPTION = "Scene description: a big yellow bell rings twice under a warm bright light."
PARTS = ("data", "forward", "backward", "optimizer")


class TimedSteps:
    """Steps of the joint model of `config` on `task`, of `train.micro_batch` clips of `seconds` each.

    One process does what `shared.training.trainer.Trainer` has DeepSpeed do: gradients are clipped as one, AdamW keeps
    the average where `train.ema` is set. `folder` is for the clips' records. UserError as `JointAdapter`.
    """

    def __init__(self, config: TrainConfig, task: str, seconds: float, folder: Path, device: str = "cpu") -> None:
        self.config, self.task, self.device, self.number = config, task, torch.device(device), 0
        components = Components.load(config)
        components.text.learn([CAPTION])
        adapter = JointAdapter(config, components)
        if config.train.activation_checkpointing:
            adapter.transformer.enable_gradient_checkpointing()
        self.objective = adapter.objective().to(self.device).train()
        self.attention = as_in_training(config, self.objective)
        groups = parameter_groups(self.objective, config.optimizer, lambda name: any(p in name for p in CROSS_MODAL))
        self.optimizer = build_optimizer(groups, config.optimizer, config.train.ema)
        latents = _latents(config, components, seconds, folder)
        tokens = 1  # in a unit of the bucket: without a token budget it counts nothing
        self.batches = JointBatches(config, latents, components.codecs, components.text.load(), tokens, 1)

    def step(self) -> dict[str, float]:
        """Take a step: seconds of its `PARTS`, of the process ("cpu"), its "loss", and the model's "flops"."""
        busy, marks = time.process_time(), [self._now()]
        batch = self.batch(self.number)
        marks.append(self._now())
        with self.attention():
            loss, flops = self._forward(batch)
            marks.append(self._now())
            loss.backward()
        marks.append(self._now())
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.train.max_grad_norm or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        marks.append(self._now())
        self.number += 1
        parts = {name: after - before for name, before, after in zip(PARTS, marks, marks[1:], strict=False)}
        return parts | {"cpu": time.process_time() - busy, "loss": loss.item(), "flops": flops}

    def gradients(self) -> tuple[float, dict[str, torch.Tensor]]:
        """Loss of the first step and its gradients by parameter; nothing moves."""
        with self.attention():
            loss, _ = self._forward(self.batch(0))
            loss.backward()
        found = {n: p.grad.cpu() for n, p in self.objective.named_parameters() if p.grad is not None}
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item(), found

    def batch(self, number: int) -> Any:
        """Make the micro-batch of a step, on the device."""
        ids = self.batches.plan.at(number, 0, 0)
        return self.batches.build(ids, [self.task] * len(ids), number).to(self.device)

    def _forward(self, batch: Any) -> tuple[torch.Tensor, float]:
        bf16 = self.config.train.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            output = self.objective(batch)
        return output.loss, sum(record.cost.flops for record in output.records)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def as_in_training(config: TrainConfig, objective: nn.Module) -> Callable[[], AbstractContextManager[Any]]:
    """Do what `ccl.training.run` does besides, where the checkout knows of it: freed memory is kept, blocks are
    compiled, and a step runs in the context that this makes, on its attention backend."""
    if find_spec("shared.utils.allocator") is None:
        return nullcontext
    from shared.nn.attention import use_backend
    from shared.nn.compiling import compile_blocks
    from shared.utils.allocator import keep_freed_memory

    keep_freed_memory()
    if config.train.compile:
        for model in [module for module in objective.modules() if getattr(module, "_repeated_blocks", None)]:
            compile_blocks(model, "train.compile")
    return partial(use_backend, config.train.attention, "train.attention", learns=True)


def _latents(config: TrainConfig, components: Components, seconds: float, folder: Path) -> LatentShards:
    """Make records of noise in the place of encoded clips, a few batches of them."""
    codecs, data = components.codecs, config.data
    frames, samples = max(1, round(seconds * data.fps)), max(1, round(seconds * data.sample_rate))
    height, width = (side // codecs.video.spatial_stride for side in data.size)
    video = codecs.video.latent_channels, len(codecs.video.clock(frames, data.fps)), height, width
    audio = len(codecs.audio.clock(samples)), codecs.audio.latent_channels
    facts = {"frames": frames, "samples": samples, "video": list(video), "audio": list(audio)}
    facts |= {"has_video": True, "has_audio": True}

    def records() -> Iterator[NewRecord]:
        for number in range(4 * (config.train.micro_batch or 1)):
            draw = generator(0, "benchmark", number)
            drawn = {"video": torch.randn(video, generator=draw), "audio": torch.randn(audio, generator=draw)}
            latents = {kind: value.to(getattr(torch, data.latents_dtype)) for kind, value in drawn.items()}
            yield {"latents": latents}, facts | {"id": f"clip{number}", "key": ""}

    shard = write_shard(folder / "00000.tar", records())
    places = {record.id: (shard, record) for record in shard.records}
    return LatentShards(places, dict.fromkeys(places, ClipTexts(CAPTION, CAPTION)))


def build(settings: dict[str, Any], folder: Path) -> TimedSteps:
    """Make the steps that "config" (a file), "overrides", "task", "seconds" and "device" describe."""
    config = TrainConfig.load(settings["config"], settings["overrides"])
    return TimedSteps(config, settings["task"], settings["seconds"], folder, settings["device"])


def main() -> None:
    """Answer each line on stdin by a line of JSON on stdout, whatever libraries print."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        steps = build(settings, Path(temporary))
        print(json.dumps({"ready": True}), file=answers)
        for line in sys.stdin:
            command, _, file = line.strip().partition(" ")
            if command == "gradients":
                loss, gradients = steps.gradients()
                save_file(gradients, file)
                print(json.dumps({"loss": loss}), file=answers)
            else:
                print(json.dumps(steps.step()), file=answers)


if __name__ == "__main__":
    run_main(main)
