"""What `--dry-run` of the training scripts prints, once nothing was found wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ccl.analysis.memory_estimate import LatentSizes, MemoryUse, Parameters, states
from ccl.analysis.plan_report import table
from ccl.analysis.training_plan import GIB, gib, plan_training, setting_of
from ccl.training.dry_run import Checked, check_run, launched, room
from shared.utils.config import TrainConfig

WORDS, TOKENS = 64, 512  # of a text: of the embedded words, and of an encoder


def dry_run(config: TrainConfig, stages: list[Any], adapter: Any) -> str:
    """Check the `stages` of a configuration (itself, where it has none), and tell of each what it would take; "" in all
    processes but the first. UserError as `ccl.training.dry_run.check_run`."""
    checked = check_run(config, stages, adapter)
    if not launched().is_main:
        return ""
    told = [_summary(one) for one in checked]
    if len(told) > 1:
        told = [f"stage in {one.config.output}\n{text}" for one, text in zip(checked, told, strict=True)]
    return "\n\n".join([*told, "nothing was found wrong, and nothing was written"])


def _summary(checked: Checked) -> str:
    config, gpus = checked.config, checked.processes
    models = nn.ModuleList(filter(None, (checked.models.transformer, checked.models.control)))
    counted = Parameters.of(models)
    needs = room(checked, config.data.shards is None)
    lines = [
        f"{len(checked.latents):,} clips; {counted.all:,} parameters: {counted.trained:,} learn, {counted.frozen:,} "
        f"are frozen; {config.train.precision}, {gpus} processes",
    ]
    if config.model:
        sizes = [_sizes(checked, *shape) for shape in (_longest(checked), _mean(checked))]
        plans = [plan_training(config, checked.components, one, gpus) for one in dict.fromkeys(sizes)]
        rows, step = plans[0].rows, plans[-1]
        lines.append(
            f"a step: {step.clips} clips, about {step.tokens:,} tokens, {step.clip.flops * step.clips / 1e15:.3g} PFLOP"
        )
    else:
        rows = states(counted, setting_of(config, gpus))
        lines.append("activations of a CogVideoX are not counted")
    whole = MemoryUse("all", sum(row.gpu for row in rows), sum(row.host for row in rows))
    lines += ["", table([*rows, whole])]
    if torch.cuda.is_available() and whole.gpu > (there := torch.cuda.mem_get_info()[1]):
        lines.append(f"warning: more than the {there / GIB:.1f} GiB of this GPU")
    return "\n".join([*lines, f"disk: {', '.join(f'{what} {gib(size)} GiB' for what, size in needs.items())}"])


def _sizes(checked: Checked, frames: int, height: int, width: int, audio: int) -> LatentSizes:
    components, data = checked.components, checked.config.data
    text = WORDS if components.text.is_embedded else TOKENS
    stride, rate = components.codecs.video.temporal_stride, _audio_rate(components.codecs.audio)
    return LatentSizes(frames, height, width, audio, text, data.fps, stride, rate)


def _audio_rate(codec: Any) -> float:
    return float(codec.clock(codec.sample_rate).rate)


def _longest(checked: Checked) -> tuple[int, int, int, int]:
    return max(checked.latents, key=lambda one: one[0] * one[1] * one[2] + one[3])


def _mean(checked: Checked) -> tuple[int, int, int, int]:
    """Find the clip of the middle size."""
    return sorted(checked.latents, key=lambda one: one[0] * one[1] * one[2] + one[3])[len(checked.latents) // 2]
