"""Where a run's curves can be watched: TensorBoard, Weights & Biases if it is installed. Rank 0 alone has them."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.files import write_atomically
from shared.utils.text_files import parse_yaml, read_text


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError if one of `train.report_to` cannot be had here; every process asks, before anything is done."""
    if "wandb" in names:
        try:
            importlib.import_module("wandb")
        except ImportError:
            raise UserError(
                "train.report_to: wandb needs the package wandb, which is not installed; install it, or leave it out"
            ) from None


class TensorBoard:
    """Files in OUTPUT/tensorboard. What a killed run wrote after `first_step` is purged."""

    def __init__(self, output: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(output / "tensorboard"), purge_step=first_step + 1)

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases, named as OUTPUT; project, entity and mode are those of the environment (WANDB_...).

    Its id is kept in OUTPUT/wandb_id, so that a resumed run goes on in the same curves; steps that a killed run had
    logged already are not taken twice there."""

    def __init__(self, output: Path, first_step: int) -> None:
        wandb: Any = importlib.import_module("wandb")
        kept = output / "wandb_id"
        run_id = read_text(kept).strip() if kept.exists() else None
        settings = parse_yaml(read_text(file := output / "config.yaml"), str(file))
        self.run = wandb.init(id=run_id, resume="allow", name=output.name, dir=str(output), config=settings)
        write_atomically(kept, f"{self.run.id}\n")

    def add(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


def open_trackers(names: Sequence[str], output: Path, first_step: int) -> list[TensorBoard | WandB]:
    """Open the trackers of a run in `output` that goes on after `first_step` steps. They take values by name
    ("loss/video/t2av") after a step, counted from 1."""
    makers: dict[str, type[TensorBoard] | type[WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}
    return [makers[name](output, first_step) for name in dict.fromkeys(names)]
