"""What a run writes down: losses.csv per stream, task and sigma bucket; throughput.csv; trackers; the progress line."""

import csv
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.nn.flow import sigma_bucket
from shared.training.flops import StepCost, peak_flops
from shared.training.trackers import check_trackers, open_trackers
from shared.utils.config import Train
from shared.utils.distributed import World, gather
from shared.utils.errors import UserError
from shared.utils.files import write_atomically
from shared.utils.progress import bar as progress_bar
from shared.utils.text_files import is_count

COLUMNS = ["step", "stream", "task", "sigma_bucket", "loss", "samples"]
SPEED_COLUMNS = ["step", "seconds", "samples", "tokens", "samples_per_second", "tokens_per_second", "mfu", "hfu"]
#: Columns of either table that hold words; all others hold numbers, or nothing.
WORDS = {"stream", "task", "sigma_bucket"}
NO_COST = StepCost()
_WORD, _NUMBER = re.compile(r"[\w.+-]+"), re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?")
_log = logging.getLogger(__name__)

#: (stream, task, sigma bucket), or the name of a curve -> sum of the losses, and how many there are.
Sums = dict[Any, tuple[float, int]]


@dataclass(frozen=True)
class LossRecord:
    """Losses of one stream in one task: `sigma` [n] in [0, 1] and `loss` [n], unweighted, one per sample; `cost`: what
    the training step of these samples takes; where two streams share a pass, one record has it; `learned` [n]: the loss
    that is learned, where places do not count alike."""

    stream: str
    task: str
    sigma: Tensor
    loss: Tensor
    cost: StepCost = NO_COST
    learned: Tensor | None = None


class RunLog:
    """Collects loss records and writes their means at `flush`, over all ranks, in steps counted from 1.

    losses.csv is a function of the configuration alone, throughput.csv one of the machine too: tokens and clips per
    second of wall time since the rows before (checkpoints and validation included), and MFU and HFU, 0 to 1
    (`shared.training.flops`), empty where the device's peak is unknown."""

    def __init__(self, output: Path, world: World, first_step: int, train: Train) -> None:
        """Drop what a killed run wrote after `first_step` steps. UserError for a tracker that cannot be had."""
        self.world = world
        self.losses, self.speeds = output / "losses.csv", output / "throughput.csv"
        self.held, self.sampled = output / "held_losses.csv", output / "samples"
        self.peak = peak_flops(world.device, train.peak_tflops)
        self.peak_missed = False
        check_trackers(train.report_to)
        if world.is_main:
            _truncate(self.losses, COLUMNS, first_step)
            _truncate(self.speeds, SPEED_COLUMNS, first_step)
            if self.held.exists():
                _truncate(self.held, COLUMNS, first_step)
            self.trackers = open_trackers(train.report_to, output, first_step)
            self.bar = progress_bar(total=train.steps, initial=first_step, unit="step", mininterval=1.0)
        self._begin()

    def add(self, records: Iterable[LossRecord], samples: int) -> None:
        """Add the records of one micro-batch of `samples` clips. They stay on their device until `flush`."""
        for record in records:
            sigma, loss = (value.detach().flatten() for value in (record.sigma, record.loss))
            self.records.append(replace(record, sigma=sigma, loss=loss))
            self.cost += record.cost
        self.samples += samples

    def step(self, grad_norm: float) -> None:
        """One optimizer step is done."""
        self.norms.append(grad_norm)
        if self.world.is_main:
            self.bar.update()

    def flush(self, step: int, rate: float) -> None:
        """Append the means since the last flush as rows of `step`; every rank calls it."""
        parts = gather((self._own(), self.samples, self.cost))
        totals = _summed((key, *of_key) for sums, _, _ in parts for key, of_key in sums.items())
        if self.world.is_main and totals:
            _append(self.losses, [[step, *row] for row in _rows(totals)])
            cost = sum((cost for _, _, cost in parts), NO_COST)
            self._show(step, totals, rate, self._speed(step, sum(samples for _, samples, _ in parts), cost))
        self._begin()

    def held_out(self, step: int, records: Sequence[LossRecord]) -> None:
        """Write the mean losses of clips that do not train, after `step` steps, to held_losses.csv and the trackers;
        rows of that step or a later one are exchanged. Every rank calls it."""
        parts = gather(_of_records(records))
        totals = _summed((key, *of_key) for sums in parts for key, of_key in sums.items())
        if self.world.is_main:
            _truncate(self.held, COLUMNS, step - 1 if self.held.exists() else 0)
            _append(self.held, [[step, *row] for row in _rows(totals)])
            means = {name: loss / count for name, (loss, count) in _by_name(totals, "held_out").items()}
            for tracker in self.trackers:
                tracker.add(means, step)

    def pending(self) -> list[Any]:
        """Gather what was added since the last flush, of all ranks, as JSON can hold it; every rank calls it."""
        return gather([[*key, *of_key] for key, of_key in self._own().items()])

    def restore(self, pending: Sequence[Any] | None) -> None:
        """Go on from what `pending` was when a run was stopped: this rank's own or, where there were others, all."""
        parts = pending or []
        if len(parts) == self.world.size:
            parts = parts[self.world.rank : self.world.rank + 1]
        elif not self.world.is_main:
            parts = []
        self.carried = {tuple(key): (total, count) for part in parts for *key, total, count in part}

    def show_samples(self, step: int) -> None:
        """Add the clips of the validation after `step` steps, OUTPUT/samples/stepN_*.mp4, to the trackers."""
        if self.world.is_main and (clips := sorted(self.sampled.glob(f"step{step:06d}_*.mp4"))):
            for tracker in self.trackers:
                tracker.show(clips, step)

    def close(self) -> None:
        if self.world.is_main:
            self.bar.close()
            for tracker in self.trackers:
                tracker.close()

    def _own(self) -> Sums:
        """Sum up what this rank was given since the last flush."""
        sums = (self.carried, _of_records(self.records))
        return _summed((key, *of_key) for part in sums for key, of_key in part.items())

    def _begin(self) -> None:
        self.records: list[LossRecord] = []
        self.carried = Sums()
        self.norms: list[float] = []
        self.cost, self.samples, self.since = NO_COST, 0, time.monotonic()

    def _speed(self, step: int, samples: int, cost: StepCost) -> dict[str, float]:
        """Write a row of throughput.csv; return what is known of it by name."""
        seconds = max(1e-9, time.monotonic() - self.since)
        speeds = {"samples_per_second": samples / seconds, "tokens_per_second": cost.tokens / seconds}
        if self.peak is not None and cost.flops:
            full = self.peak * seconds * self.world.size
            speeds |= {"mfu": cost.flops / full, "hfu": cost.hardware_flops / full}
        elif cost.flops and not self.peak_missed:
            self.peak_missed = True
            unknown = f"the peak of this device ({self.world.device.type}) is not known"
            self.bar.write(f"MFU is left out: {unknown}; set train.peak_tflops to have it", file=sys.stderr)
        shown = [f"{speeds[name]:.6g}" if name in speeds else "" for name in SPEED_COLUMNS[4:]]
        _append(self.speeds, [[step, f"{seconds:.3f}", samples, cost.tokens, *shown]])
        return speeds

    def _show(self, step: int, totals: Sums, rate: float, speed: dict[str, float]) -> None:
        """In the trackers and in the progress line."""
        means = {name: loss / count for name, (loss, count) in _by_name(totals, "loss").items()}
        norm = sum(self.norms) / len(self.norms) if self.norms else math.nan
        for tracker in self.trackers:
            tracker.add({**means, "lr": rate, "grad_norm": norm, **speed}, step)
        line = {name.removeprefix("loss/"): f"{means[name]:.4f}" for name in sorted(means) if name.count("/") == 1}
        line |= {"lr": f"{rate:.1e}", "norm": f"{norm:.2f}", "clips/s": f"{speed['samples_per_second']:.1f}"}
        if speed["tokens_per_second"]:
            line["tokens/s"] = f"{speed['tokens_per_second']:.0f}"
        if "mfu" in speed:
            line["MFU"] = f"{100 * speed['mfu']:.1f} %"
        self.bar.set_postfix(line, refresh=False)


def _of_records(records: Iterable[LossRecord]) -> Sums:
    return _summed(
        ((record.stream, record.task, sigma_bucket(sigma)), loss, 1)
        for record in records
        for sigma, loss in zip(record.sigma.flatten().tolist(), record.loss.flatten().tolist(), strict=True)
    )


def _rows(totals: Sums) -> list[list[object]]:
    """Rows of losses.csv without the step."""
    return [[*key, f"{loss / count:.9g}", count] for key, (loss, count) in sorted(totals.items())]


def _by_name(totals: Sums, name: str) -> Sums:
    """Sum up by stream and task, and by stream, as curves are called: NAME/video/t2av, NAME/video."""
    return _summed(
        (curve, *of_key)
        for (stream, task, _), of_key in totals.items()
        for curve in (f"{name}/{stream}/{task}", f"{name}/{stream}")
    )


def _summed(parts: Iterable[tuple[Any, float, int]]) -> Sums:
    """Sum the losses of each key, and how many there are."""
    sums: Sums = {}
    for key, loss, count in parts:
        total, number = sums.get(key, (0.0, 0))
        sums[key] = (total + loss, number + count)
    return sums


def _append(file: Path, rows: list[list[object]]) -> None:
    with open(file, "a", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)
        out.flush()
        os.fsync(out.fileno())


def _is_row(cells: list[str], columns: list[str]) -> bool:
    if len(cells) != len(columns) or not is_count(cells[0]):
        return False
    pairs = zip(cells, columns, strict=True)
    return all(_WORD.fullmatch(cell) if name in WORDS else not cell or _NUMBER.fullmatch(cell) for cell, name in pairs)


def _truncate(file: Path, columns: list[str], first_step: int) -> None:
    """Cut a table back to the rows of `first_step` steps. UserError for what is no row of such a table."""
    head, kept = ",".join(columns), []
    text = file.read_text(encoding="utf-8", errors="replace") if first_step and file.exists() else ""
    for number, line in enumerate(text.split("\n")[:-1], start=1):  # what has no end of line, a killed run left so
        cells = line.split(",")
        if number > 1 and _is_row(cells, columns):
            kept += [f"{line}\n"] if int(cells[0]) <= first_step else []
        elif number > 1 or line != head:
            advice = "mend that line, or delete the file to begin another"
            raise UserError(f"{file}, line {number}: {line[:40]!r} is no row of {head}; {advice}")
    if first_step and not kept:
        _log.warning("%s has no rows of the first %d steps; it goes on from there", file, first_step)
    write_atomically(file, "".join([f"{head}\n", *kept]))
