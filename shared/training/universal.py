"""Resume with another number of processes: DeepSpeed's universal checkpoint, with what DeepSpeed leaves out."""

from __future__ import annotations

import contextlib
import io
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from shared.training.consolidate import StateFolder, trained_weights

EMA = "ema"


def convert_to_universal(checkpoint: StateFolder, output: Path) -> None:
    """Write the universal form of a ZeRO checkpoint to the folder `output`; in one process.

    DeepSpeed's converter takes fp32 weights and Adam's two moments; the average of the weights is put beside them.
    """
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(output, ignore_errors=True)
    options = Namespace(
        input_folder=str(checkpoint.folder),
        output_folder=str(output),
        num_extract_workers=1,  # more of either would fork a process that holds a process group
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(options)
    (output.parent / "latest_universal").unlink()  # it stands beside `output`, and nothing of ours reads it
    with contextlib.suppress(KeyError):  # a run without an average
        for name, average in trained_weights(checkpoint, EMA):
            torch.save({"param": average.clone()}, output / "zero" / name / f"{EMA}.pt")


def load_universal(engine: Any, folder: Path) -> None:
    """Load what `convert_to_universal` wrote into an engine made with "load_universal"; all ranks call it.

    DeepSpeed's own loading (0.19) leaves three things wrong at stage 3: all groups get the first one's weight decay and
    `lr_scale`, all share one count of steps, and only Adam's state is read.
    """
    groups = [
        {key: value for key, value in group.items() if key != "params"} for group in engine.optimizer.param_groups
    ]
    engine.load_checkpoint(str(folder.parent), tag=folder.name)
    for group, own in zip(engine.optimizer.param_groups, groups, strict=True):
        group.update(own)
    if engine.zero_optimization_stage() == 3:
        _load_average(engine.optimizer, folder / "zero")
    for state in engine.optimizer.optimizer.state.values():
        state["step"] = state["step"].clone()


def _load_average(optimizer: Any, folder: Path) -> None:
    for group, master in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
        names = [optimizer.param_names[parameter] for parameter in group]
        if not all((folder / name / f"{EMA}.pt").exists() for name in names):
            return  # a run without an average
        own = [
            optimizer.load_hp_checkpoint_state(str(folder / name), EMA, param=parameter)
            for name, parameter in zip(names, group, strict=True)
        ]
        average, found = torch.zeros_like(master), torch.cat(own)
        average[: len(found)].copy_(found)
        optimizer.optimizer.state[master][EMA] = average
