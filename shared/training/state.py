"""Checkpoints of a run in OUTPUT/state, complete or absent whenever it is killed, and their config."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from shared.training.consolidate import ABOUT, StateFolder, latest_checkpoint
from shared.training.universal import convert_to_universal, load_universal
from shared.utils.config import TrainConfig, dump_config, flatten
from shared.utils.distributed import World, barrier
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

_log = logging.getLogger(__name__)
# Keys that change nothing about the weights a run arrives at.
FREE_KEYS = (
    "train.activation_checkpointing",
    "output",
    "data.latents",
    "validation.",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.log_every",
    "train.export_dtype",
    "train.shard_size",
    "train.report_to",
    "train.peak_tflops",
)


def claim_output(config: TrainConfig, world: World) -> Path:
    """Make OUTPUT this config's own: write config.yaml, or compare with the one there.

    Raises `UserError` naming the keys in which a run already in OUTPUT differs. With another number of processes the
    micro-batch and the accumulation may differ if a step has as many clips as before.
    """
    output = Path(config.output)
    file = output / "config.yaml"
    if file.exists():
        before = flatten(yaml.safe_load(file.read_text()))
        now = flatten(yaml.safe_load(dump_config(config)))
        latest = latest_checkpoint(output / "state")
        free = (*FREE_KEYS, *(_batch_keys(before) if latest is not None else ()))
        changed = [
            f"{key} ({before.get(key, 'unset')!r} there, {now.get(key, 'unset')!r} here)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(free)
        ]
        if changed:
            raise UserError(
                f"{output} holds a run of another configuration: {', '.join(changed)}; "
                "give another output, or the same values"
            )
        if latest is not None:
            _check_clips(latest, before, config, world)
    barrier()  # every rank has compared before rank 0 writes
    if world.is_main:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(file, dump_config(config))
    barrier()
    return output


def _batch_keys(before: dict[str, Any]) -> tuple[str, ...]:
    """List what may follow the number of processes. A token budget is of one micro-batch: then its size has to stay."""
    return ("train.gradient_accumulation_steps",) + (
        ("train.micro_batch",) if before.get("train.token_budget") is None else ()
    )


def _check_clips(latest: StateFolder, before: dict[str, Any], config: TrainConfig, world: World) -> None:
    """Refuse a step of more or fewer clips than those that led to `latest`, with the values that would be right."""
    train, micro = config.train, before["train.micro_batch"]
    there = latest.clips or micro * before["train.gradient_accumulation_steps"] * latest.processes
    here = train.micro_batch * train.gradient_accumulation_steps * world.size
    if here == there:
        return
    each, left = divmod(there, world.size)
    sizes = range(1, micro + 1) if "train.micro_batch" in _batch_keys(before) else [micro]
    fitting = [size for size in sizes if not left and each % size == 0]
    advice = (
        f"set train.micro_batch={fitting[-1]} and train.gradient_accumulation_steps={each // fitting[-1]}"
        if fitting
        else f"start {latest.processes} processes, as before"
    )
    raise UserError(
        f"{latest.folder} comes from steps of {there} clips, and this run's have {here} (micro_batch "
        f"{train.micro_batch} x accumulation {train.gradient_accumulation_steps} x {world.size} processes): {advice}"
    )


class RunState:
    """The checkpoints of one run: folders `step00000040` in OUTPUT/state and a file `latest` that names one.

    DeepSpeed writes into a folder that does not count until it is complete and renamed.
    """

    def __init__(self, folder: Path, world: World, keep: int) -> None:
        self.folder, self.world, self.keep = folder, world, keep

    @property
    def converts(self) -> bool:
        """Whether the latest checkpoint is cut for another number of processes. An engine must know before it is made.

        Without ZeRO (stage 0) nothing is cut. Raises `UserError` as `latest_checkpoint`.
        """
        latest = latest_checkpoint(self.folder)
        return latest is not None and latest.zero > 0 and latest.processes != self.world.size

    def save(self, engine: Any, step: int) -> None:
        """Write the state after `step` steps and delete all but the last `keep`; all ranks call it."""
        tag, partial = f"step{step:08d}", f"partial-step{step:08d}"
        if self.world.is_main:
            shutil.rmtree(self.folder / partial, ignore_errors=True)
        barrier()
        known = {"trained": trained_names(engine)} if engine.zero_optimization_stage() == 0 else {}
        engine.save_checkpoint(str(self.folder), tag=partial, client_state=known, save_latest=False)
        barrier()
        if self.world.is_main:
            about = {
                "step": step,
                "clips": engine.train_batch_size(),
                "processes": self.world.size,
                "zero": engine.zero_optimization_stage(),
            }
            write_atomically(self.folder / partial / ABOUT, json.dumps(about))
            shutil.rmtree(self.folder / tag, ignore_errors=True)
            os.replace(self.folder / partial, self.folder / tag)
            write_atomically(self.folder / "latest", tag)
            self._prune(tag)
        barrier()

    def resume(self, engine: Any) -> int:
        """Load the latest checkpoint into `engine`, if there is one. Returns the number of steps done.

        What another number of processes wrote is converted to DeepSpeed's universal checkpoint first; `engine` must
        have been made with "load_universal" then (`converts`). Raises `UserError` as `latest_checkpoint`.
        """
        latest = latest_checkpoint(self.folder)
        if latest is None:
            return 0
        if not self.converts:
            engine.load_checkpoint(str(self.folder), tag=latest.folder.name)
            return latest.step
        universal = self.folder / f"partial-universal-{latest.folder.name}"
        if self.world.is_main:
            _log.warning(
                "%s was written by %d processes; converted for %d", latest.folder, latest.processes, self.world.size
            )
            convert_to_universal(latest, universal)
        barrier()
        load_universal(engine, universal)
        barrier()  # every rank has read it
        if self.world.is_main:
            shutil.rmtree(universal)
        return latest.step

    def _prune(self, newest: str) -> None:
        done = sorted(path for path in self.folder.glob("step*") if path.name <= newest)
        newer = [path for path in self.folder.glob("step*") if path.name > newest]
        for path in [*done[: -self.keep], *newer, *self.folder.glob("partial-*")]:
            shutil.rmtree(path, ignore_errors=True)


def trained_names(engine: Any) -> list[str]:
    """List the names of what the optimizer trains, in its order, which is how a state dict of torch's numbers them."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    return [names[id(parameter)] for group in engine.optimizer.param_groups for parameter in group["params"]]
