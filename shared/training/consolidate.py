"""Whole weights out of a run's DeepSpeed checkpoint, of any ZeRO stage and number of processes, in one process.
DeepSpeed's files are pickles. They are read with `weights_only`, so that a file from elsewhere can run no code."""

from __future__ import annotations

import logging
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.text_files import read_text

if TYPE_CHECKING:  # what is wrong with a folder is said before torch is loaded
    from torch import Tensor

ABOUT = "about.json"
_log = logging.getLogger(__name__)
STATE_NAME = re.compile(r"step\d+")


class StateFolder(NamedTuple):
    """A complete checkpoint: after `step` steps of `clips` clips, written by `processes` at ZeRO stage `zero`."""

    folder: Path
    step: int
    processes: int
    zero: int
    clips: int | None = None  # unknown of what was written before this was
    files: Mapping[str, int] = MappingProxyType({})  # bytes by name, likewise


def latest_checkpoint(
    state: Path, check: Callable[[StateFolder], None] | None = None, tell: Callable[[str], None] | None = None
) -> StateFolder | None:
    """Find the checkpoint that OUTPUT/state names as its latest or, where that is not whole, the newest one before it
    that is; `tell` is given what is wrong with each that is passed over. `check`: `check_files`, or less. None if there
    never was one, UserError if none is whole."""
    latest = state / "latest"
    if not latest.exists():
        return None
    wrong, tag = list[str](), ""
    there = sorted((path for path in state.glob("step*") if STATE_NAME.fullmatch(path.name)), reverse=True)
    try:
        tag = read_text(latest).strip()
    except UserError as error:
        wrong.append(str(error))
    if not STATE_NAME.fullmatch(tag) and not wrong:
        wrong.append(f"{latest} names no checkpoint ({tag[:20]!r})")
    elif not wrong and state / tag not in there:
        wrong.append(f"{latest} names {tag}, which is missing or incomplete")
    # what is newer than the one that it names is of a run that was gone on with from that
    for folder in (path for path in there if path.name <= tag or not STATE_NAME.fullmatch(tag)):
        try:
            (check or check_files)(found := _complete(folder))
        except UserError as error:
            wrong.append(str(error))
            continue
        for line in wrong:
            (tell or _log.warning)(f"{line}; the last one before that is whole is {folder.name}")
        return found
    raise UserError(f"{'; '.join(wrong)}; none there is whole: copy one again, or delete {state} to start anew")


def check_sizes(checkpoint: StateFolder) -> None:
    """Compare the files of a checkpoint with what it says of them. UserError for one that is missing or cut short."""
    for name, size in checkpoint.files.items():
        file = checkpoint.folder / name
        there = file.stat().st_size if file.is_file() else None
        if there != size:
            raise UserError(f"{file} is damaged ({'missing' if there is None else f'{there} bytes of {size}'})")


def check_files(checkpoint: StateFolder, share: slice = slice(None)) -> None:
    """Read the files of a checkpoint, or a share of them, and compare their checksums. UserError for a damaged one."""
    check_sizes(checkpoint)
    for file in sorted(checkpoint.folder.glob("*.pt"))[share]:
        try:
            with zipfile.ZipFile(file) as archive:  # which is what torch.save writes
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError) as error:
            broken = str(error)
        if broken is not None:
            raise UserError(f"{file} is damaged ({broken})")


def _complete(folder: Path) -> StateFolder:
    try:
        return read_about(folder)
    except FileNotFoundError:
        raise UserError(f"{folder} is incomplete: it has no {ABOUT}") from None


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
    if not file.exists():
        raise FileNotFoundError(file)
    about = read_json(file, advice="copy the whole folder again")
    try:
        zero, clips, files = int(about["zero"]), about.get("clips"), dict(about.get("files", {}))
        if f"step{int(about['step']):08d}" != folder.name:
            raise ValueError(f"step {about['step']} in {folder.name}")
        if zero not in range(4):
            raise ValueError(f"ZeRO stage {zero}")
        return StateFolder(folder, int(about["step"]), int(about["processes"]), zero, clips and int(clips), files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error}); copy the whole folder again") from None


def whole_weights(checkpoint: StateFolder, state_key: str | None = None) -> dict[str, Tensor]:
    """Read the module's state dict to the CPU, as `shared.training.optimizer.full_weights` has it from an engine, with
    the same `state_key`. UserError if a file is missing, damaged or of another kind."""
    import torch

    try:
        saved = _load(checkpoint, "model")
        weights: dict[str, Tensor] = dict(saved["module"])
        if checkpoint.zero == 3:
            weights = {name: weights[name] for name in saved["buffer_names"]}
            parts = [_load(checkpoint, "model", rank)["frozen_param_fragments"] for rank in range(checkpoint.processes)]
            for name, shape in saved["frozen_param_shapes"].items():
                flat = torch.cat([part[name].flatten() for part in parts])
                weights[name] = flat[: shape.numel()].view(shape)
        weights.update(trained_weights(checkpoint, state_key))
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"checkpoint {checkpoint.folder}: its files are not what a run writes ({error!r})") from None
    full = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    return {name.removeprefix("module."): value for name, value in full.items()}  # as the trainer's engine has it


def trained_weights(checkpoint: StateFolder, state_key: str | None) -> Iterator[tuple[str, Tensor]]:
    """(DeepSpeed's name, tensor) of every trained parameter, one after the other; `state_key` as above."""
    import torch

    saved, zero = _load(checkpoint, "model"), checkpoint.zero
    if zero == 0:  # torch's own state dict, by number
        for index, name in enumerate(saved["trained"]):
            yield name, saved["module"][name] if state_key is None else saved["optimizer"]["state"][index][state_key]
        return
    parts = [_load(checkpoint, "optim", rank)["optimizer_state_dict"] for rank in range(checkpoint.processes)]
    masters = "fp32_flat_groups" if zero == 3 else "single_partition_of_fp32_groups"
    states = "optimizer_state_dict" if zero == 3 else "base_optimizer_state"
    for group, shapes in enumerate(saved["param_shapes"]):
        flats = [part[states]["state"][group][state_key] if state_key else part[masters][group] for part in parts]
        offset = 0
        for name, shape in shapes.items():
            if zero == 3:  # each parameter is cut into equal parts, the last one padded; a group has them end to end
                length = math.ceil(shape.numel() / checkpoint.processes)
                pieces = [flat.narrow(0, offset, length) for flat in flats]
                offset += length
            else:  # each group is one vector, cut into equal parts; a parameter may lie in several
                places = [part["param_slice_mappings"][group].get(name) for part in parts]
                pieces = [flat.narrow(0, at.start, at.numel) for flat, at in zip(flats, places, strict=True) if at]
            yield name, torch.cat(pieces)[: shape.numel()].view(shape)


def _load(checkpoint: StateFolder, kind: Literal["model", "optim"], rank: int = 0) -> dict[str, Any]:
    import torch
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    name = "mp_rank_00" if kind == "model" and checkpoint.zero < 3 else f"zero_pp_rank_{rank}_mp_rank_00"
    file = checkpoint.folder / f"{name}_{kind}_states.pt"
    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; copy the whole folder again") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{file} is damaged, or no file of a run's checkpoint ({first}); copy it again") from None
    return loaded
