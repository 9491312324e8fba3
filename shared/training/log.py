"""What a run writes down: losses.csv per stream, task and sigma bucket; TensorBoard; the progress line."""

from __future__ import annotations

import csv
import io
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from shared.training.distributed import World, gather
from shared.training.state import write_atomically

COLUMNS = ["step", "stream", "task", "sigma_bucket", "loss", "samples"]
BUCKETS = 5


@dataclass(frozen=True)
class LossRecord:
    """Losses of one stream in one task: `sigma` [n] in [0, 1] and `loss` [n], unweighted, one per sample."""

    stream: str
    task: str
    sigma: Tensor
    loss: Tensor


def sigma_bucket(sigma: float) -> str:
    """ "0.4-0.6" for sigma 0.5; the last bucket holds 1.0."""
    index = min(BUCKETS - 1, int(sigma * BUCKETS))
    return f"{index / BUCKETS:.1f}-{(index + 1) / BUCKETS:.1f}"


class RunLog:
    """Collects loss records and writes their means at `flush`, over all ranks, in steps counted from 1."""

    def __init__(self, output: Path, world: World, first_step: int, steps: int) -> None:
        """Drops what a killed run wrote after `first_step` steps."""
        self.world = world
        self.file = output / "losses.csv"
        self.pending: list[LossRecord] = []
        self.norms: list[float] = []
        self.samples, self.since = 0, time.monotonic()
        if world.is_main:
            self._truncate(first_step)
            self.board = SummaryWriter(str(output / "tensorboard"), purge_step=first_step + 1)
            self.bar = tqdm(total=steps, initial=first_step, unit="step", dynamic_ncols=True, mininterval=1.0)

    def add(self, records: Iterable[LossRecord], samples: int) -> None:
        """Records of one micro-batch of `samples` clips. They stay on their device until `flush`."""
        self.pending += [
            LossRecord(r.stream, r.task, r.sigma.detach().flatten(), r.loss.detach().flatten()) for r in records
        ]
        self.samples += samples

    def step(self, grad_norm: float) -> None:
        """One optimizer step is done."""
        self.norms.append(grad_norm)
        if self.world.is_main:
            self.bar.update()

    def flush(self, step: int, rate: float) -> None:
        """Append the means since the last flush as rows of `step`; every rank calls it."""
        totals: dict[tuple[str, str, str], tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        parts = gather((self._sums(), self.samples))
        for sums, _ in parts:
            for key, (loss, count) in sums.items():
                totals[key] = (totals[key][0] + loss, totals[key][1] + count)
        if self.world.is_main and totals:
            self._append(step, dict(sorted(totals.items())))
            self._board(step, totals, rate, sum(samples for _, samples in parts))
        self.pending, self.norms = [], []
        self.samples, self.since = 0, time.monotonic()

    def close(self) -> None:
        if self.world.is_main:
            self.bar.close()
            self.board.close()

    def _sums(self) -> dict[tuple[str, str, str], tuple[float, int]]:
        sums: dict[tuple[str, str, str], tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        for record in self.pending:
            for sigma, loss in zip(record.sigma.tolist(), record.loss.tolist(), strict=True):
                key = (record.stream, record.task, sigma_bucket(sigma))
                sums[key] = (sums[key][0] + loss, sums[key][1] + 1)
        return dict(sums)

    def _append(self, step: int, totals: dict[tuple[str, str, str], tuple[float, int]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for key, (loss, count) in totals.items():
            writer.writerow([step, *key, f"{loss / count:.9g}", count])
        with open(self.file, "a") as file:
            file.write(text.getvalue())

    def _board(
        self, step: int, totals: dict[tuple[str, str, str], tuple[float, int]], rate: float, samples: int
    ) -> None:
        means: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        for (stream, task, _), (loss, count) in totals.items():
            for name in (f"loss/{stream}/{task}", f"loss/{stream}"):
                means[name] = (means[name][0] + loss, means[name][1] + count)
        for name, (loss, count) in means.items():
            self.board.add_scalar(name, loss / count, step)
        speed = samples / max(1e-9, time.monotonic() - self.since)
        norm = sum(self.norms) / len(self.norms) if self.norms else math.nan
        for name, value in [("lr", rate), ("grad_norm", norm), ("samples_per_second", speed)]:
            self.board.add_scalar(name, value, step)
        shown = {
            name.removeprefix("loss/"): f"{means[name][0] / means[name][1]:.4f}"
            for name in sorted(means)
            if name.count("/") == 1
        }
        self.bar.set_postfix(
            {**shown, "lr": f"{rate:.1e}", "norm": f"{norm:.2f}", "clips/s": f"{speed:.1f}"}, refresh=False
        )

    def _truncate(self, first_step: int) -> None:
        lines = self.file.read_text().splitlines(keepends=True)[1:] if first_step and self.file.exists() else []
        # A killed run's last line may be cut short; it is a line of a step that will be done again.
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",", 1)[0]) <= first_step]
        write_atomically(self.file, ",".join(COLUMNS) + "\n" + "".join(kept))
