"""Options of scripts/app.py, and a user's fields of the page as those of the sampling scripts. No torch, no Gradio."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from shared.checkpoint.loading import few_step_checkpoint, file_and_scale, shipped_checkpoint
from shared.checkpoint.offload import Level
from shared.utils.cli import Options, TrustOptions, option, parse
from shared.utils.errors import UserError

Port = Annotated[int, Field(ge=1, le=65_535)]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Kind = TypeVar("Kind", bound=Options)


class AppOptions(TrustOptions):
    """Options of scripts/app.py."""

    checkpoint: list[Path] = option(
        [folder for folder in (few_step_checkpoint(), shipped_checkpoint()) if folder.is_dir()],
        "checkpoint folders to choose among; default: the shipped assets/puppets_few and assets/puppets", metavar="DIR",
    )  # fmt: skip
    lora: list[str] = option(
        [], "adapters that training with lora wrote, at a scale, default 1: each checkpoint is offered with each of "
        "them too; any number", metavar="DIR[=SCALE]", repeat=True,
    )  # fmt: skip
    host: str = option("127.0.0.1", "address to listen at; default: 127.0.0.1, which this machine alone reaches")
    port: Port = option(7860, "port to listen at")
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")
    dtype: Literal["float32", "bfloat16"] = option("float32", "of the models")
    memory: Level = option("fast", "fast (default), balanced or low (docs/memory.md)")

    @model_validator(mode="after")
    def _different(self) -> AppOptions:
        names = [label(path) for path in self.checkpoint]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"--checkpoint: two folders end in {twice}; give each once, or rename one")
        for text in self.lora:
            file_and_scale(text)
        adapters = [label(Path(text)) for text in self.lora]
        if twice := next((name for name in adapters if adapters.count(name) > 1), None):
            raise ValueError(f"--lora: two folders end in {twice}; give each once, or rename one")
        return self

    def of_model(self, checkpoint: Path, lora: str | None = None) -> dict[str, Any]:
        """Options of a sampling script that say which model, and where."""
        return {
            "checkpoint": checkpoint, "lora": lora, "device": self.device, "dtype": self.dtype, "memory": self.memory,
            "trust_package": self.trust_package,
        }  # fmt: skip


def label(path: Path) -> str:
    """Name of a checkpoint among others: the last two parts of its path."""
    return "/".join(path.resolve().parts[-2:])


def asked(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Read a user's fields as the options of a sampling script, by the same checks; fields that are empty have that
    script's default. UserError as there."""
    words = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                words.append(flag)
            elif one is not None and one is not False and one != "":
                words.append(f"{flag}={one:.12g}" if isinstance(one, float) else f"{flag}={one}")
    return parse(kind, None, words)


@contextmanager
def plainly(files: Iterable[str | Path | None] = ()) -> Iterator[None]:
    """Tell a UserError in the words of the page: fields without the dashes of options, and `files` by name."""
    try:
        yield
    except UserError as error:
        raise UserError(plain(str(error), files)) from error


def plain(text: str, files: Iterable[str | Path | None] = ()) -> str:
    """Put a message for a command line into the words of the page."""
    for file in sorted(filter(None, map(str, files)), key=len, reverse=True):
        text = text.replace(f"{file}/", "").replace(file, Path(file).name)  # what lies in it, and itself
    return re.sub(r"(?<!\S)--([a-z])", r"\1", text.removesuffix(" (see --help)"))
