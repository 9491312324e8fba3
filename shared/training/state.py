"""Checkpoints of a run in OUTPUT/state, complete or absent whenever it is killed, and their config."""

import contextlib
import io
import json
import logging
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import yaml

from shared.training.consolidate import ABOUT, StateFolder, latest_checkpoint, trained_weights
from shared.utils.config import FREE_KEYS, TrainConfig, changed_keys, dump_config, flatten
from shared.utils.distributed import World, barrier
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

_log = logging.getLogger(__name__)
EMA = "ema"


def claim_output(config: TrainConfig, world: World) -> Path:
    """Make OUTPUT this config's own: write config.yaml, or compare with the one there. UserError names the keys that
    differ; with other processes micro-batch and accumulation may, if a step has as many clips as before."""
    output = Path(config.output)
    file = output / "config.yaml"
    if file.exists():
        before = flatten(yaml.safe_load(file.read_text()))
        now = flatten(yaml.safe_load(dump_config(config)))
        latest = latest_checkpoint(output / "state")
        free = FREE_KEYS
        if latest is not None:  # a token budget is of one micro-batch: then its size has to stay
            batch = "train.gradient_accumulation_steps", "train.micro_batch"
            free += batch if before.get("train.token_budget") is None else batch[:1]
        if changed := changed_keys(before, now, free):
            raise UserError(
                f"{output} holds a run of another configuration: {changed}; give another output, or the same values"
            )
        if latest is not None:
            _check_clips(latest, before, config, world)
    barrier()  # every rank has compared before rank 0 writes
    if world.is_main:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(file, dump_config(config))
    barrier()
    return output


def _check_clips(latest: StateFolder, before: dict[str, Any], config: TrainConfig, world: World) -> None:
    """Refuse a step of more or fewer clips than those that led to `latest`, with the values that would be right."""
    train, micro = config.train, before["train.micro_batch"]
    there = latest.clips or micro * before["train.gradient_accumulation_steps"] * latest.processes
    here = train.micro_batch * train.gradient_accumulation_steps * world.size
    if here == there:
        return
    each, left = divmod(there, world.size)
    sizes = range(micro, 0, -1) if before.get("train.token_budget") is None else [micro]
    size = next((size for size in sizes if not left and each % size == 0), None)
    advice = f"start {latest.processes} processes, as before"
    if size is not None:
        advice = f"set train.micro_batch={size} and train.gradient_accumulation_steps={each // size}"
    raise UserError(
        f"{latest.folder} comes from steps of {there} clips, and this run's have {here} (micro_batch "
        f"{train.micro_batch} x accumulation {train.gradient_accumulation_steps} x {world.size} processes): {advice}"
    )


class RunState:
    """The checkpoints of one run: folders `step00000040` in OUTPUT/state and a file `latest` that names one. DeepSpeed
    writes into a folder that does not count until it is complete and renamed."""

    def __init__(self, folder: Path, world: World, keep: int) -> None:
        """UserError as `latest_checkpoint`."""
        self.folder, self.world, self.keep = folder, world, keep
        self.latest = latest = latest_checkpoint(folder)
        #: Whether the latest is cut for another number of processes, which an engine must know before it is made.
        self.converts = latest is not None and latest.zero > 0 and latest.processes != world.size

    def save(self, engine: Any, step: int) -> None:
        """Write the state after `step` steps and delete all but the last `keep`; all ranks call it."""
        tag, partial, zero = f"step{step:08d}", f"partial-step{step:08d}", engine.zero_optimization_stage()
        if self.world.is_main:
            shutil.rmtree(self.folder / partial, ignore_errors=True)
        barrier()
        known = {}
        if zero == 0:  # a state dict of torch's numbers what is trained in this order
            names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
            known = {"trained": [names[id(p)] for group in engine.optimizer.param_groups for p in group["params"]]}
        engine.save_checkpoint(str(self.folder), tag=partial, client_state=known, save_latest=False)
        barrier()
        if self.world.is_main:
            about = {"step": step, "clips": engine.train_batch_size(), "processes": self.world.size, "zero": zero}
            write_atomically(self.folder / partial / ABOUT, json.dumps(about))
            shutil.rmtree(self.folder / tag, ignore_errors=True)
            os.replace(self.folder / partial, self.folder / tag)
            write_atomically(self.folder / "latest", tag)
            states = sorted(self.folder.glob("step*"))
            done = states.index(self.folder / tag) + 1  # what is newer is of a run that was gone on with from before
            for path in [*states[: max(0, done - self.keep)], *states[done:], *self.folder.glob("partial-*")]:
                shutil.rmtree(path, ignore_errors=True)
        barrier()

    def resume(self, engine: Any) -> int:
        """Load the latest checkpoint into `engine`, if there was one; return the number of steps done. Where it
        `converts`, to DeepSpeed's universal checkpoint, `engine` was made with "load_universal"."""
        latest = self.latest
        if latest is None:
            return 0
        if not self.converts:
            engine.load_checkpoint(str(self.folder), tag=latest.folder.name)
            return latest.step
        universal = self.folder / f"partial-universal-{latest.folder.name}"
        if self.world.is_main:
            there, here = latest.processes, self.world.size
            _log.warning("%s was written by %d processes; converted for %d", latest.folder, there, here)
            _convert_to_universal(latest, universal)
        barrier()
        _load_universal(engine, universal)
        barrier()  # every rank has read it
        if self.world.is_main:
            shutil.rmtree(universal)
        return latest.step


def _convert_to_universal(checkpoint: StateFolder, output: Path) -> None:
    """Write the universal form of a ZeRO checkpoint to the folder `output`; in one process. DeepSpeed's converter takes
    fp32 weights and Adam's two moments; the average of the weights is put beside them."""
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(output, ignore_errors=True)
    options = Namespace(  # more workers of either kind would fork a process that holds a process group
        input_folder=str(checkpoint.folder), output_folder=str(output), num_extract_workers=1, num_merge_workers=1,
        keep_temp_folder=False, strict=True, inject_missing_state=True,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(options)
    (output.parent / "latest_universal").unlink()  # it stands beside `output`, and nothing of ours reads it
    with contextlib.suppress(KeyError):  # a run without an average
        for name, average in trained_weights(checkpoint, EMA):
            torch.save({"param": average.clone()}, output / "zero" / name / f"{EMA}.pt")


def _load_universal(engine: Any, folder: Path) -> None:
    """Load what `_convert_to_universal` wrote into an engine made with "load_universal"; all ranks call it. Loading by
    DeepSpeed alone (0.19) leaves three things wrong at stage 3: all groups get the first one's weight decay and
    `lr_scale`, all share one count of steps, and only Adam's state is read."""
    groups = [{**group} for group in engine.optimizer.param_groups]
    engine.load_checkpoint(str(folder.parent), tag=folder.name)
    for group, own in zip(engine.optimizer.param_groups, groups, strict=True):
        group.update(own, params=group["params"])
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        for parameters, master in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
            folders = [(folder / "zero" / optimizer.param_names[parameter], parameter) for parameter in parameters]
            if all((own / f"{EMA}.pt").exists() for own, _ in folders):
                loaded = torch.cat([optimizer.load_hp_checkpoint_state(str(own), EMA, param=p) for own, p in folders])
                average = optimizer.optimizer.state[master][EMA] = torch.zeros_like(master)
                average[: len(loaded)].copy_(loaded)
    for state in optimizer.optimizer.state.values():
        state["step"] = state["step"].clone()
