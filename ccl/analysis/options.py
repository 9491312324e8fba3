"""Options of the probes: which clips and numbers of a joint checkpoint are measured."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from shared.utils import cli
from shared.utils.cli import option, some_of
from shared.utils.portable import portable
from shared.utils.ranges import Batch, Count, Pair, Seconds, Seed, Steps

PROBES = ("loss", "text", "gain", "leakage", "attention", "model")
EVERY = (*PROBES, "restore", "steps", "long")
BY_TRUTH = {"leakage", "attention", "restore"}


class ProbeOptions(cli.Options):
    """What probe.py is asked to measure."""

    checkpoint: Path = option(metavar="DIR")
    manifest: Path = option(help="held-out clips", metavar="FILE")
    output: Path = option(help="the numbers, a .json", metavar="FILE", writes="file")
    clips: Count = option(64, "the first so many clips")
    probes: Annotated[tuple[str, ...], BeforeValidator(some_of(EVERY))] = option(
        PROBES, f"some of {','.join(EVERY)}; default: all but restore, steps and long"
    )
    teacher: Path | None = option(None, "for the probe steps: what a distilled checkpoint learned from", metavar="DIR")
    against: Path | None = option(None, "the checkpoint of the towers before joint training: forgetting", metavar="DIR")
    pictures: Path | None = option(
        None, "attention maps of the first clips as png files", metavar="DIR", writes="folder"
    )
    levels: Steps = option(8, "noise levels of the loss")
    sampled: Pair = option(16, "clips that leakage, restore, steps and long sample")
    steps: Steps = option(16, "solver steps of leakage and restore, and of the teacher's samples")
    seconds: Seconds = option(60.0, "of the clips of long")
    batch: Batch = option(16, "clips at a time")
    seed: Seed = option(0, "of the noise")
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pictures is not None and "attention" not in self.probes:
            raise ValueError("--pictures shows attention; give --probes attention with it, or leave it out")
        if self.against is not None and "loss" not in self.probes:
            raise ValueError("--against compares losses; give --probes loss with it, or leave it out")
        if ("steps" in self.probes) != (self.teacher is not None):
            raise ValueError("--probes steps measures distances to --teacher; give both, or none of them")
        if self.output.suffix != ".json" or self.output.is_dir():
            raise ValueError(f"--output {self.output}: the name of a file is needed, and must end in .json")
        return self

    def settings(self) -> dict[str, Any]:
        """Collect what the file of numbers says of these options."""
        files = {name: getattr(self, name) for name in ("checkpoint", "manifest", "against", "teacher")}
        named = {name: None if file is None else portable(file) for name, file in files.items()}
        numbers = ("probes", "seed", "batch", "steps", "sampled", "seconds")
        return named | {name: getattr(self, name) for name in numbers}
