"""Options of scripts/benchmark.py: what is measured, and at which size. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from shared.utils import cli
from shared.utils.cli import option
from shared.utils.ranges import Batch, Count, Depth, Seconds, Steps, Width, Workers

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ..."
TASKS = ("t2av", "a2v", "v2a", "t2v", "t2a")
SIZES = [(31, 484, 157), (61, 900, 314)]  # 5 and 10 s of video at 24 fps, stride 4, with 31.25 audio tokens per second


def three_numbers(text: Any) -> Any:
    """Take "F,S,A" apart. ValueError for any other text."""
    parts = str(text).split(",")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"{text!r} is not F,S,A: three whole numbers above 0, such as 31,484,157")
    return tuple(map(int, parts))


class Reported(cli.Options):
    """What every command has: a file for its numbers."""

    json_file: Path | None = option(
        None, "the numbers as a .json beside the table", name="json", metavar="FILE", writes="file"
    )


class Cca(Reported):
    """Gathered against dense cross-modal context attention."""

    sizes: list[Annotated[tuple[Count, Count, Count], BeforeValidator(three_numbers)]] = option(
        SIZES, "frames, tokens of each, audio tokens (default: 31,484,157 61,900,314)", metavar="F,S,A"
    )
    heads: Depth = option(2, "of the attention")
    head_dim: int = option(48, "width of a head; even, for rotary positions", ge=2, le=4096, multiple_of=2)
    context_tokens: Width = option(16, "LCT")
    backward: bool = option(False, "measure forward and backward together")
    repeats: Steps = option(3, "the fastest of so many runs counts")
    device: str = option("auto", DEVICE)


class Shards(Reported):
    """Samples per second read from latent shards."""

    records: Count = option(10_000, "of at most 64 KB each")
    workers: Workers = option(2, "processes that read, each its own part")
    folder: Path | None = option(None, "where the shards are made and deleted; default: a temporary folder")


class Train(Reported):
    """Whole training steps of a recipe on made-up clips, in one process without a launcher."""

    config: Path = option(ROOT / "configs/train/puppets.yaml", "a recipe (default: that of the shipped checkpoint)")
    overrides: list[str] = option(
        [], "override one key of it; init is assets/puppets (other models: init=null, codecs=assets/puppets)",
        name="set", metavar="KEY=VALUE", repeat=True,
    )  # fmt: skip
    overrides_here: list[str] = option(
        [], "with --against-checkout: the same, for this checkout alone", name="set-here", metavar="KEY=VALUE",
        repeat=True,
    )  # fmt: skip
    task: Literal["t2av", "a2v", "v2a", "t2v", "t2a"] = option("t2av", "of all clips")
    batch: Batch = option(8, "clips of a step")
    seconds: Seconds = option(2.0, "of a clip")
    repeats: Steps = option(10, "steps that are timed, after two that are not; of each checkout")
    against_checkout: Path | None = option(
        None, "a folder with another checkout of this repository: steps of both in turns", metavar="DIR"
    )
    device: str = option("auto", DEVICE)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.overrides_here and self.against_checkout is None:
            raise ValueError("--set-here sets this checkout apart from another; give --against-checkout, or --set")
        there = self.against_checkout
        if there is not None and not (there / "ccl" / "training" / "objective.py").is_file():
            raise ValueError(f"--against-checkout {there}: no checkout of this repository; name its topmost folder")
        return self

    @property
    def settings(self) -> list[str]:
        """Overrides of both checkouts."""
        return [f"init={ROOT / 'assets/puppets'}", f"train.micro_batch={self.batch}", *self.overrides]
