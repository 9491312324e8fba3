"""Whole weights out of a run's DeepSpeed checkpoint, of any ZeRO stage and number of processes, in one process.

DeepSpeed's files are pickles. They are read with `weights_only`, so that a file from elsewhere can run no code.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.utils.errors import UserError

if TYPE_CHECKING:  # what is wrong with a folder is said before torch is loaded
    from torch import Tensor

ABOUT = "about.json"
PREFIX = "module."
"""Under which the trainer's engine holds the module that it trains."""


@dataclass(frozen=True)
class StateFolder:
    """A complete checkpoint: after `step` steps of `clips` clips, written by `processes` at ZeRO stage `zero`."""

    folder: Path
    step: int
    processes: int
    zero: int
    clips: int | None = None  # unknown of what was written before this was


def latest_checkpoint(state: Path) -> StateFolder | None:
    """Find the checkpoint that OUTPUT/state names as its latest; None if there is none yet.

    Raises `UserError` if the folder that it names is not there or not complete.
    """
    latest = state / "latest"
    if not latest.exists():
        return None
    tag = latest.read_text().strip()
    try:
        return read_about(state / tag)
    except FileNotFoundError:
        raise UserError(
            f"{latest} names {tag}, which is missing or incomplete; write the name of a complete checkpoint folder "
            f"into it, or delete {state} to start again"
        ) from None


def find_state(run: Path, step: int | None) -> StateFolder:
    """Find the state of `run` after `step` steps, or the latest. UserError if there is none."""
    state = run / "state"
    steps = sorted(int(file.parent.name.removeprefix("step")) for file in state.glob(f"step*/{ABOUT}"))
    if not steps:
        raise UserError(
            f"--run {run}: no complete state in {state}; the first comes after train.checkpoint_every steps"
        )
    if step is None:
        return latest_checkpoint(state) or read_about(state / f"step{steps[-1]:08d}")
    if step not in steps:
        raise UserError(f"--step {step}: {state} has {', '.join(map(str, steps))}")
    return read_about(state / f"step{step:08d}")


def read_about(folder: Path) -> StateFolder:
    """Read what a checkpoint folder says of itself. Raises FileNotFoundError, or `UserError` if it is damaged."""
    file = folder / ABOUT
    try:
        about = json.loads(file.read_text())
        zero, clips = int(about["zero"]), about.get("clips")
        if zero not in range(4):
            raise ValueError(f"ZeRO stage {zero}")
        return StateFolder(folder, int(about["step"]), int(about["processes"]), zero, clips and int(clips))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); copy the whole folder again") from None


def whole_weights(checkpoint: StateFolder, state_key: str | None = None) -> dict[str, Tensor]:
    """Read the module's state dict to the CPU, as `shared.training.optimizer.full_weights` has it from an engine.

    Trained parameters are the fp32 master weights (`state_key` None) or that entry of the optimizer's state ("ema");
    frozen parameters and buffers are as they are. Raises `UserError` if a file is missing, damaged or of another kind.
    """
    trained = {0: _trained_whole, 1: _trained_flat, 2: _trained_flat, 3: _trained_partitioned}[checkpoint.zero]
    try:
        weights = dict(_untrained(checkpoint))
        weights.update(trained(checkpoint, state_key))
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"checkpoint {checkpoint.folder}: its files are not what a run writes ({error!r})") from None
    return {
        name.removeprefix(PREFIX): value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }


def trained_weights(checkpoint: StateFolder, state_key: str) -> Iterator[tuple[str, Tensor]]:
    """(DeepSpeed's name, tensor) of every trained parameter of a ZeRO checkpoint, one after the other."""
    return (_trained_partitioned if checkpoint.zero == 3 else _trained_flat)(checkpoint, state_key)


def _trained_whole(checkpoint: StateFolder, state_key: str | None) -> Iterator[tuple[str, Tensor]]:
    """Stage 0: torch's own state dict, by number."""
    saved = _model_state(checkpoint, 0)
    for index, name in enumerate(saved["trained"]):
        yield name, saved["module"][name] if state_key is None else saved["optimizer"]["state"][index][state_key]


def _trained_flat(checkpoint: StateFolder, state_key: str | None) -> Iterator[tuple[str, Tensor]]:
    """Stages 1 and 2: each group is one vector, cut into equal parts; a parameter may lie in several."""
    import torch

    parts = [_optimizer_state(checkpoint, rank) for rank in range(checkpoint.processes)]
    for group, shapes in enumerate(_model_state(checkpoint, 0)["param_shapes"]):
        for name, shape in shapes.items():
            pieces = []
            for part in parts:
                place = part["param_slice_mappings"][group].get(name)
                if place is not None:
                    flat = (
                        part["single_partition_of_fp32_groups"][group]
                        if state_key is None
                        else part["base_optimizer_state"]["state"][group][state_key]
                    )
                    pieces.append(flat.narrow(0, place.start, place.numel))
            yield name, torch.cat(pieces).view(shape)


def _trained_partitioned(checkpoint: StateFolder, state_key: str | None) -> Iterator[tuple[str, Tensor]]:
    """Stage 3: each parameter is cut into equal parts, the last one padded; each group holds them end to end."""
    parts = [_optimizer_state(checkpoint, rank) for rank in range(checkpoint.processes)]
    for group, shapes in enumerate(_model_state(checkpoint, 0)["param_shapes"]):
        flats = [
            part["fp32_flat_groups"][group]
            if state_key is None
            else part["optimizer_state_dict"]["state"][group][state_key]
            for part in parts
        ]
        offset = 0
        for name, shape in shapes.items():
            length = math.ceil(shape.numel() / checkpoint.processes)
            yield name, _joined([flat.narrow(0, offset, length) for flat in flats], shape)
            offset += length


def _untrained(checkpoint: StateFolder) -> Iterator[tuple[str, Tensor]]:
    """Buffers and frozen parameters; below stage 3 what is trained too, which the caller replaces."""
    saved = _model_state(checkpoint, 0)
    if checkpoint.zero < 3:
        yield from saved["module"].items()
        return
    for name in saved["buffer_names"]:
        yield name, saved["module"][name]
    parts = [_model_state(checkpoint, rank)["frozen_param_fragments"] for rank in range(checkpoint.processes)]
    for name, shape in saved["frozen_param_shapes"].items():
        yield name, _joined([part[name].flatten() for part in parts], shape)


def _joined(parts: list[Tensor], shape: Any) -> Tensor:
    import torch

    return torch.cat(parts)[: shape.numel()].view(shape)


def _model_state(checkpoint: StateFolder, rank: int) -> dict[str, Any]:
    name = f"zero_pp_rank_{rank}_mp_rank_00" if checkpoint.zero == 3 else "mp_rank_00"
    return _load(checkpoint.folder / f"{name}_model_states.pt")


def _optimizer_state(checkpoint: StateFolder, rank: int) -> dict[str, Any]:
    state: dict[str, Any] = _load(checkpoint.folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")[
        "optimizer_state_dict"
    ]
    return state


def _load(file: Path) -> dict[str, Any]:
    import torch
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; copy the whole folder again") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{file} is damaged, or no file of a run's checkpoint ({first}); copy it again") from None
    return loaded
