"""The training loop: a module that returns its loss, on DeepSpeed, with exact resume."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from shared.training.log import LossRecord, RunLog
from shared.training.optimizer import build_optimizer, forget_gradients, full_weights, learning_rate
from shared.training.state import RunState, claim_output
from shared.training.weights import StateDict
from shared.utils.config import TrainConfig
from shared.utils.distributed import World, any_rank, barrier, gather, highest
from shared.utils.environment import computes_bf16
from shared.utils.errors import EveryRanksError, UserError
from shared.utils.signals import Stopped, StopRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepOutput:
    """`loss`: a scalar whose mean over ranks and accumulation steps is the loss of the global batch."""

    loss: Tensor
    records: list[LossRecord]


class MicroBatch(Protocol):
    """One micro-batch of one rank: n clips, their names and tasks."""

    @property
    def ids(self) -> list[str]: ...

    @property
    def tasks(self) -> list[str]: ...

    def to(self, device: torch.device) -> MicroBatch: ...


@dataclass(eq=False)
class Trainer:
    """Trains `module` as `config` says, from the last checkpoint in `config.output` if there is one.

    `module(batch)` returns a `StepOutput`. `batch_at(step, micro, rank)` is a pure function (steps from 0; with
    `train.context_parallel` the rank is that of a group), as must be all randomness in the module (keyed by seed, step
    and clip): that makes a resumed run equal to the bit. `on_validate(step, weights)` and `on_export(weights)` run on
    rank 0 alone, with the whole state dict in fp32 on the CPU: the average where `train.ema` keeps one, the weights
    themselves otherwise. `held_out(rank, size)` yields, at each validation on every rank, as many batches and whether
    each counts; their losses, by the weights in training, go to held_losses.csv.
    """

    config: TrainConfig
    world: World
    module: nn.Module
    param_groups: list[dict[str, Any]]
    batch_at: Callable[[int, int, int], MicroBatch]
    on_validate: Callable[[int, StateDict], None] | None = None
    on_export: Callable[[StateDict], None] | None = None
    held_out: Callable[[int, int], Iterable[tuple[MicroBatch, bool]]] | None = None

    def run(self) -> None:
        """Train to the last step and export. UserError: OUTPUT holds another run; a loss or gradient is not finite.
        `Stopped`, once the state is saved, if one of the processes got a signal that asks to stop."""
        output = claim_output(self.config, self.world)
        train = self.config.train
        state = RunState(output / "state", self.world, train.keep_checkpoints, train.context_parallel)
        engine = self._engine(convert=state.converts)
        try:
            first = state.resume(engine)
            log = RunLog(output, self.world, first, self.config.train)
            with contextlib.closing(log), StopRequest().listening() as stop:
                log.restore(state.pending())
                if first and self._validates(first) and not state.validated(first):  # the run ended before it had
                    self._validate(engine, log, state, stop, first)
                for step in range(first, self.config.train.steps):
                    self._step(engine, log, step)
                    self._after(engine, log, state, stop, step)
                if self.on_export is not None:
                    self._call(engine, stop, self.on_export)
                self._stop_if_asked(engine, log, state, stop, self.config.train.steps, saved=True)
        finally:
            engine.destroy()
            del engine
            gc.collect()

    def _engine(self, convert: bool) -> Any:
        import deepspeed

        train, zero = self.config.train, self.config.deepspeed.get("zero_optimization", {})
        if train.activation_checkpointing:
            models = [m for m in self.module.modules() if getattr(m, "_supports_gradient_checkpointing", False)]
            for model in models:
                cast(Any, model).enable_gradient_checkpointing()
            if not models:
                key = "train.activation_checkpointing"
                raise UserError(f"{key}: this model has no blocks that can be computed again; set false")
        settings = {
            **self.config.deepspeed,
            "train_micro_batch_size_per_gpu": train.micro_batch or 1,
            "gradient_accumulation_steps": train.gradient_accumulation_steps,
            "gradient_clipping": train.max_grad_norm,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "checkpoint": {"load_universal": convert},
        }
        if "offload_optimizer" in zero:
            # Otherwise a parameter that the last micro-step of a step does not use loses what the others gave it.
            settings["managed_gradient_accumulation"] = False
        if train.precision == "bf16":
            if self.world.is_main and self.world.device.type == "cpu" and not computes_bf16():
                _log.warning(
                    "train.precision: this processor has no products in bf16; fp32 is several times as fast here"
                )
            settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
            if zero.get("stage", 0) < 3:
                settings["torch_autocast"]["lower_precision_safe_modules"] = []  # reduce gradients in fp32
        self._place(settings, zero.get("stage", 0) == 3)
        optimizer = build_optimizer(self.param_groups, self.config.optimizer, train.ema)
        engine, *_ = deepspeed.initialize(model=_LossOnly(self.module), optimizer=optimizer, config=settings)
        engine.train()
        return engine

    def _place(self, settings: dict[str, Any], in_parts: bool) -> None:
        """Put the module on the device: whole, or under ZeRO-3 parameter by parameter, each cut before the next one
        comes, so that the whole need not fit."""
        if not in_parts:
            self.module.to(self.world.device)
            return
        from deepspeed import zero

        zero.Init(module=self.module, config_dict_or_path=settings)
        for buffer in self.module.buffers():
            buffer.data = buffer.data.to(self.world.device)

    def _step(self, engine: Any, log: RunLog, step: int) -> None:
        """One optimizer step. Losses are checked before the weights move, the gradients' norm just after."""
        rate = self._rate(step)
        for group in engine.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        clips: list[str] = []
        together = self.config.train.context_parallel  # each has the gradients of its part, and DeepSpeed averages
        plain: Tensor | None = None
        for micro in range(self.config.train.gradient_accumulation_steps):
            batch = self.batch_at(step, micro, self.world.of_groups(together).rank).to(self.world.device)
            loss = engine(batch)
            clips += _named(batch, batch.tasks)
            value = loss.item()
            bad = [] if math.isfinite(value) else [r.task for r in engine.module.records if not r.loss.isfinite().all()]
            self._refuse_non_finite(value, "loss", step, _named(batch, bad) or clips)
            engine.backward(loss if together == 1 else loss * together)
            if self.world.rank % together == 0:  # the others have the same clips
                log.add(engine.module.records, len(batch.ids))
            last = micro + 1 == self.config.train.gradient_accumulation_steps
            if last and not engine.zero_optimization():  # stage 0: whole gradients, of which DeepSpeed tells no norm
                plain = torch.nn.utils.get_total_norm([p.grad for p in self.module.parameters() if p.grad is not None])
            if last or engine.managed_gradient_accumulation():
                engine.step()
        forget_gradients(engine)
        norm = float(engine.get_global_grad_norm() if plain is None else plain)
        self._refuse_non_finite(norm, "gradient norm", step, clips)
        log.step(norm)

    def _after(self, engine: Any, log: RunLog, state: RunState, stop: StopRequest, step: int) -> None:
        """Log, checkpoint and validate after `step`, where they are due; stop where that is asked for."""
        train, done = self.config.train, step + 1
        checkpoint = done == train.steps or done % train.checkpoint_every == 0
        if checkpoint or done % train.log_every == 0:
            log.flush(done, self._rate(step))
        if checkpoint:
            state.save(engine, done)
        self._stop_if_asked(engine, log, state, stop, done, checkpoint)
        if self._validates(done):
            self._validate(engine, log, state, stop, done)
            log.show_samples(done)
            self._stop_if_asked(engine, log, state, stop, done, checkpoint)

    def _validates(self, done: int) -> bool:
        every = self.config.validation.every
        return bool(self.on_validate is not None and every and (done == self.config.train.steps or done % every == 0))

    def _validate(self, engine: Any, log: RunLog, state: RunState, stop: StopRequest, done: int) -> None:
        assert self.on_validate is not None, "it is asked before"
        self._measure_held_out(engine, log, done)
        if self._call(engine, stop, partial(self.on_validate, done)):
            state.note_validated(done)

    def _measure_held_out(self, engine: Any, log: RunLog, done: int) -> None:
        """Log the losses of clips that do not train; weights, gradients and random numbers stay as they are."""
        if self.held_out is None:
            return
        together = self.config.train.context_parallel
        groups, records = self.world.of_groups(together), list[LossRecord]()
        engine.eval()
        with torch.no_grad():
            for batch, counts in self.held_out(groups.rank, groups.size):
                engine(batch.to(self.world.device))
                if counts and self.world.rank % together == 0:
                    records += engine.module.records
        engine.train()
        log.held_out(done, records)

    def _call(self, engine: Any, stop: StopRequest, callback: Callable[[StateDict], None]) -> bool:
        """Call back on rank 0 while the others wait; a signal ends that at once, as it may take long. Whether rank 0
        came to its end."""
        weights = full_weights(engine, self.module, "ema" if self.config.train.ema else None)
        ended = False
        if self.world.is_main:
            with contextlib.suppress(Stopped), stop.at_once():
                callback(weights)
                ended = True
        barrier()
        return ended

    def _stop_if_asked(
        self, engine: Any, log: RunLog, state: RunState, stop: StopRequest, done: int, saved: bool
    ) -> None:
        """Save and raise `Stopped` on every rank if one of them got a signal."""
        if number := highest(stop.number, self.world.device):
            if not saved:
                state.save(engine, done, log.pending())
            kept = f"{self.config.output}/state has the state after step {done}: the same command goes on from it"
            raise Stopped(number, kept)

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.config.train.steps, self.config.optimizer) * self.config.phase_at(step).lr_scale

    def _refuse_non_finite(self, value: float, what: str, step: int, clips: list[str]) -> None:
        """Stop every rank if `value` is NaN or infinite on any."""
        bad = not math.isfinite(value)
        if any_rank(bad, self.world.device):
            named = (clip for part in gather(clips if bad else []) for clip in part)
            guilty = ", ".join(dict.fromkeys(named))
            raise EveryRanksError(
                f"the {what} is not finite at step {step + 1}, in {guilty}; the last checkpoint in "
                f"{self.config.output}/state is good: lower optimizer.lr or look at these clips"
            )


class _LossOnly(nn.Module):
    """DeepSpeed hooks onto the tensors that a module returns: this returns the loss and keeps the records.

    ZeRO-3 (DeepSpeed 0.19) gathers a module's parameters around its forward. One that is read elsewhere (a modulation
    table, a context token) it drops with the module that ran then, which may be before the backward pass; so all of
    them, which are small, become this module's."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.records: list[LossRecord] = []

    def forward(self, batch: MicroBatch) -> Tensor:
        from deepspeed import zero

        output: StepOutput = self.module(batch)
        self.records = output.records
        for module in self.module.modules():
            for parameter in getattr(module, "_external_params", {}).values():
                zero.register_external_parameter(self, parameter)
        return output.loss


def _named(batch: MicroBatch, tasks: list[str]) -> list[str]:
    """Name the clips of these tasks."""
    return [f"{clip} ({task})" for clip, task in zip(batch.ids, batch.tasks, strict=True) if task in tasks]
