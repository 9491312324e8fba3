"""Checkpoints of a run in OUTPUT/state, complete or absent whenever it is killed, and their config."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from shared.config import TrainConfig, dump_config, flatten
from shared.errors import UserError
from shared.training.distributed import World, barrier

# Keys that change nothing about the weights a run arrives at.
FREE_KEYS = (
    "output",
    "data.latents",
    "validation.",
    "train.checkpoint_every",
    "train.keep",
    "train.log_every",
    "train.export",
    "train.shard_size",
)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` in one go: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def claim_output(config: TrainConfig, world: World) -> Path:
    """Make OUTPUT this config's own: write config.yaml, or compare with the one there.

    Raises `UserError` naming the keys in which a run already in OUTPUT differs.
    """
    output = Path(config.output)
    file = output / "config.yaml"
    if file.exists():
        before = flatten(yaml.safe_load(file.read_text()))
        now = flatten(yaml.safe_load(dump_config(config)))
        changed = [
            f"{key} ({before.get(key, 'unset')!r} there, {now.get(key, 'unset')!r} here)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(FREE_KEYS)
        ]
        if changed:
            raise UserError(
                f"{output} holds a run of another configuration: {', '.join(changed)}; "
                "give another output, or the same values"
            )
    barrier()  # every rank has compared before rank 0 writes
    if world.is_main:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(file, dump_config(config))
    barrier()
    return output


class RunState:
    """The checkpoints of one run: folders `step00000040` in OUTPUT/state and a file `latest` that names one.

    DeepSpeed writes into a folder that does not count until it is complete and renamed.
    """

    def __init__(self, folder: Path, world: World, keep: int) -> None:
        self.folder, self.world, self.keep = folder, world, keep

    def save(self, engine: Any, step: int) -> None:
        """Write the state after `step` steps and delete all but the last `keep`; all ranks call it."""
        tag, partial = f"step{step:08d}", f"partial-step{step:08d}"
        if self.world.is_main:
            shutil.rmtree(self.folder / partial, ignore_errors=True)
        barrier()
        engine.save_checkpoint(str(self.folder), tag=partial, save_latest=False)
        barrier()
        if self.world.is_main:
            about = {"step": step, "processes": self.world.size, "zero": engine.zero_optimization_stage()}
            write_atomically(self.folder / partial / "about.json", json.dumps(about))
            shutil.rmtree(self.folder / tag, ignore_errors=True)
            os.replace(self.folder / partial, self.folder / tag)
            write_atomically(self.folder / "latest", tag)
            self._prune(tag)
        barrier()

    def resume(self, engine: Any) -> int:
        """Load the latest checkpoint into `engine`, if there is one. Returns the number of steps done.

        Raises `UserError` if `latest` names a folder that is not there, or one that another number of
        processes wrote.
        """
        latest = self.folder / "latest"
        if not latest.exists():
            return 0
        tag = latest.read_text().strip()
        about_file = self.folder / tag / "about.json"
        if not about_file.exists():
            raise UserError(
                f"{latest} names {tag}, which is missing or incomplete; write the name of a complete "
                f"checkpoint folder into it, or delete {self.folder} to start again"
            )
        about = json.loads(about_file.read_text())
        if about["processes"] != self.world.size:
            raise UserError(
                f"{self.folder / tag} was written by {about['processes']} processes, this run has "
                f"{self.world.size}: start as many"
            )
        engine.load_checkpoint(str(self.folder), tag=tag)
        return int(about["step"])

    def _prune(self, newest: str) -> None:
        done = sorted(path for path in self.folder.glob("step*") if path.name <= newest)
        newer = [path for path in self.folder.glob("step*") if path.name > newest]
        for path in [*done[: -self.keep], *newer, *self.folder.glob("partial-*")]:
            shutil.rmtree(path, ignore_errors=True)
