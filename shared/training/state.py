"""Checkpoints of a run in OUTPUT/state, complete or absent whenever it is killed, and their config."""

import contextlib
import io
import json
import logging
import os
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from shared.training.consolidate import (
    ABOUT,
    StateFolder,
    check_files,
    check_sizes,
    latest_checkpoint,
    trained_weights,
)
from shared.training.optimizer import learning_rate
from shared.utils.config import FREE_KEYS, TrainConfig, changed_keys, dump_config, flatten
from shared.utils.distributed import World, any_rank, barrier, gather
from shared.utils.errors import EveryRanksError, UserError, system_refusal
from shared.utils.files import sync, sync_tree, write_atomically
from shared.utils.locks import LOCK_NAME, locked
from shared.utils.text_files import MOST_OF_OURS, is_count, parse_json, parse_yaml, read_text

_log = logging.getLogger(__name__)
EMA, CONFIG = "ema", "config.yaml"
#: What a run makes that belongs to its configuration alone, in the order in which they come.
BEGUN = "codecs", "losses.csv", "state", "checkpoint"
PENDING, VALIDATED = "pending.json", "validated"
#: Losses that are not in a table yet, by process: rows of stream, task, sigma bucket, their sum and number.
Pending = Sequence[Sequence[tuple[str, str, str, float, int]]]
_PENDING = TypeAdapter(Pending | None)


@contextmanager
def own_output(output: Path, world: World) -> Iterator[None]:
    """Keep other runs out of OUTPUT, by a lock that rank 0 takes for all. UserError on every rank if one is in it."""
    with ExitStack() as stack:
        problem = ""
        if world.is_main:
            lock = locked(output / LOCK_NAME, "trains in this folder", "let it end, or give another output")
            try:
                stack.enter_context(lock)
            except UserError as error:
                problem = str(error)
        _refuse_together(problem)
        yield


def claim_output(config: TrainConfig, world: World) -> Path:
    """Make OUTPUT this config's own: write config.yaml, or compare with the one there. UserError names the keys that
    differ; with other processes micro-batch and accumulation may, if a step has as many clips as before, and
    `train.steps` may be more than before, with which the last phase then ends. Where a run was refused before it began,
    all may."""
    output = check_own(config, world)
    barrier()  # every rank has compared before rank 0 writes
    if world.is_main:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / CONFIG, dump_config(config))
    barrier()
    return output


def check_own(config: TrainConfig, world: World) -> Path:
    """Compare as `claim_output`, whose errors it raises, and write nothing."""
    output = Path(config.output)
    file = output / CONFIG
    if file.exists() and any((output / name).exists() for name in BEGUN):
        before = flatten(_read_config(file))
        now = flatten(parse_yaml(dump_config(config), "the configuration"))
        latest = latest_checkpoint(output / "state", check_sizes, lambda line: None)
        free = FREE_KEYS
        if latest is not None:  # a token budget is of one micro-batch: then its size has to stay
            batch = "train.gradient_accumulation_steps", "train.micro_batch"
            free += batch if before.get("train.token_budget") is None else batch[:1]
        if prolongs(before, now):
            free += ("train.steps", "phases")
            if latest is not None and world.is_main:
                _tell_prolonged(output, before["train.steps"], latest.step, config)
        if changed := changed_keys(before, now, free):
            raise EveryRanksError(
                f"{output} holds a run of another configuration: {changed}; give another output, or the same values"
            )
        if latest is not None:
            _check_clips(latest, before, config, world)
    return output


def prolongs(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a flat configuration has more steps than another, and the same phases but for the end of the last."""

    def phases(flat: Mapping[str, Any]) -> list[dict[str, Any]]:
        listed = [dict(phase) for phase in flat.get("phases") or []]
        return [*listed[:-1], *({**last, "until": None} for last in listed[-1:])]

    ended = before.get("train.steps")
    return isinstance(ended, int) and ended < now["train.steps"] and phases(before) == phases(now)


def _tell_prolonged(output: Path, before: int, step: int, config: TrainConfig) -> None:
    """Say with which learning rate a run goes on that has more steps than it had `before`."""
    now = config.train.steps
    rates = learning_rate(before - 1, before, config.optimizer), learning_rate(step, now, config.optimizer)
    how = f"the learning rate goes on as the schedule of {now} steps has it, with {rates[1]:.3g} at step {step + 1}"
    _log.warning("%s: %d steps become %d; %s; that of %d ends at %.3g", output, before, now, how, before, rates[0])


def _read_config(file: Path) -> dict[str, Any]:
    advice = "delete it if this configuration is that of the run, and start again"
    try:
        content = parse_yaml(read_text(file), str(file))
        if not isinstance(content, dict) or not isinstance(content.get("train"), dict):
            raise UserError("it holds no configuration")
    except UserError as error:
        why = str(error).removeprefix(str(file)).lstrip(": ")
        raise EveryRanksError(f"{file} is damaged ({why}); {advice}") from None
    return content


def _read_pending(checkpoint: StateFolder) -> Pending | None:
    """Read what `RunState.save` was given besides; None if that was nothing. UserError for a damaged file."""
    file = checkpoint.folder / PENDING
    if not file.exists():
        return None
    content = parse_json(read_text(file), str(file), most=MOST_OF_OURS)
    try:
        return _PENDING.validate_python(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{file} is damaged (at {where or 'its start'}: {error.errors()[0]['msg']})") from None


def _refuse_together(problem: str) -> None:
    """Raise UserError on every rank if there is a problem on one."""
    if told := next(filter(None, gather(problem)), ""):
        raise EveryRanksError(told)


def _check_clips(latest: StateFolder, before: dict[str, Any], config: TrainConfig, world: World) -> None:
    """Refuse a step of more or fewer clips than those that led to `latest`, with the values that would be right. Where
    a token budget alone fills micro-batches, these are counted."""
    train, micro = config.train, before["train.micro_batch"] or 1
    world = world.of_groups(train.context_parallel)
    there = latest.clips or micro * before["train.gradient_accumulation_steps"] * latest.processes
    here = (train.micro_batch or 1) * train.gradient_accumulation_steps * world.size
    if here == there:
        return
    each, left = divmod(there, world.size)
    who = "processes" if train.context_parallel == 1 else f"groups of {train.context_parallel} processes"
    sizes = range(micro, 0, -1) if before.get("train.token_budget") is None else [micro]
    size = next((size for size in sizes if not left and each % size == 0), None)
    advice = f"start {latest.processes} processes, as before"
    if size is not None:
        advice = f"set train.micro_batch={size} and train.gradient_accumulation_steps={each // size}"
    if train.micro_batch is None:
        fits = f"set train.gradient_accumulation_steps={each}" if not left else advice
        what = f"{there} micro-batches of {train.token_budget} tokens, and this run's have {here}"
        raise EveryRanksError(f"{latest.folder} comes from steps of {what}: {fits}")
    raise EveryRanksError(
        f"{latest.folder} comes from steps of {there} clips, and this run's have {here} (micro_batch "
        f"{train.micro_batch} x accumulation {train.gradient_accumulation_steps} x {world.size} {who}): {advice}"
    )


class RunState:
    """The checkpoints of one run: folders `step00000040` in OUTPUT/state and a file `latest` that names one. DeepSpeed
    writes into a folder that does not count until it is complete and renamed."""

    def __init__(self, folder: Path, world: World, keep: int, together: int = 1) -> None:
        """Find the latest that is whole; every rank looks at its share. `together`: processes that share a sample.
        UserError as `latest_checkpoint`."""
        self.folder, self.world, self.keep, self.together = folder, world, keep, together
        tell = _log.warning if world.is_main else lambda line: None
        self._pending: Pending | None = None
        self.latest = latest = latest_checkpoint(folder, self._check, tell)
        #: Whether the latest is cut for another number of processes, which an engine must know before it is made.
        self.converts = latest is not None and latest.zero > 0 and latest.processes != world.size
        if world.is_main:
            self._sweep()

    def _check(self, checkpoint: StateFolder) -> None:
        problem = ""
        try:
            check_files(checkpoint, slice(self.world.rank, None, self.world.size))
            self._pending = _read_pending(checkpoint)
        except UserError as error:
            problem = str(error)
        _refuse_together(problem)

    def save(self, engine: Any, step: int, pending: list[Any] | None = None) -> None:
        """Write the state after `step` steps and delete all but the last `keep`; all ranks call it. `pending`: what a
        resumed run needs besides, of all ranks, as JSON. UserError where the disk is full."""
        tag, zero = f"step{step:08d}", engine.zero_optimization_stage()
        partial = self.folder / f"partial-{tag}"
        if self.world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        barrier()
        known = {}
        if zero == 0:  # a state dict of torch's numbers what is trained in this order
            names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
            known = {"trained": [names[id(p)] for group in engine.optimizer.param_groups for p in group["params"]]}
        try:
            engine.save_checkpoint(str(self.folder), tag=partial.name, client_state=known, save_latest=False)
            sync_tree(partial)
        except (OSError, RuntimeError) as error:
            if not (why := system_refusal(error, name_file=False)):
                raise
            raise UserError(f"{self.folder / tag} cannot be written: {why}") from None
        barrier()
        if self.world.is_main:
            clips = engine.train_batch_size() // self.together
            about = {"step": step, "clips": clips, "processes": self.world.size, "zero": zero}
            about |= {"files": {file.name: file.stat().st_size for file in sorted(partial.glob("*.pt"))}}
            write_atomically(partial / PENDING, json.dumps(pending))
            write_atomically(partial / ABOUT, json.dumps(about))
            self._keep(partial, tag)
        barrier()

    def _keep(self, partial: Path, tag: str) -> None:
        """Rename a complete checkpoint, name it as the latest, and delete those that are not kept."""
        shutil.rmtree(self.folder / tag, ignore_errors=True)
        os.replace(partial, self.folder / tag)
        sync(self.folder)
        write_atomically(self.folder / "latest", tag)
        self._forget([path for path in self.folder.glob("step*") if path.name > tag])  # of a run that was gone on with
        self._forget(self._older(tag))

    def _sweep(self) -> None:
        """Remove what a killed run left: states that are not complete, and those that it was about to delete."""
        self._forget([*self.folder.glob("partial-*"), *(self._older(self.latest.folder.name) if self.latest else [])])

    def _older(self, tag: str) -> list[Path]:
        """List the states that are too old to be kept when `tag` is the latest."""
        return sorted(path for path in self.folder.glob("step*") if path.name <= tag)[: -self.keep]

    @staticmethod
    def _forget(folders: Sequence[Path]) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def pending(self) -> Pending | None:
        """Give what `save` was given for the checkpoint that was resumed from; None if there is none."""
        return self._pending

    def validated(self, step: int) -> bool:
        """Whether the validation after `step` steps was made to its end; on all ranks what rank 0 reads."""
        file = self.folder / VALIDATED
        text = file.read_text(errors="replace").strip() if self.world.is_main and file.exists() else ""
        return any_rank(is_count(text) and int(text) >= step, self.world.device)

    def note_validated(self, step: int) -> None:
        """Keep that the validation after `step` steps is done; rank 0 calls it."""
        self.folder.mkdir(exist_ok=True)
        write_atomically(self.folder / VALIDATED, str(step))

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
