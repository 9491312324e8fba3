"""A clip on its way from a film to the data set, and what a stage finds about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.curation.config import DemixConfig

Verdict = Literal["keep", "drop", "fail"]
Figures = Mapping[str, Any]
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """What a stage says of a clip: keep it, drop it by a rule, or that the stage failed. `cause` is the rule in a word
    or two, which reports count by, `reason` a sentence with numbers, `figures` JSON."""

    verdict: Verdict = "keep"
    cause: str = ""
    reason: str = ""
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A span of a film, seconds on its timeline; `key`: hash of the film's content and of the span. A film itself is a
    record of its whole length. `figures`: what each stage found, by its name."""

    key: str
    source: Path
    source_key: str
    start: float
    end: float
    licence: str = ""
    figures: Mapping[str, Figures] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Kept(NamedTuple):
    """A clip that every stage has kept, what they found, and whether it is held out."""

    record: Record
    figures: Mapping[str, Figures]
    is_held_out: bool


class Demix(Protocol):
    """Takes a mix [channels, N] apart into tracks by name, with the demixer of that name and its checkpoints."""

    def __call__(
        self, name: str, checkpoints: Sequence[Path], device: str, mix: Audio, rate: int
    ) -> Mapping[str, Audio]: ...


class Tools(NamedTuple):
    """What this package does not know by itself: `template` writes the text of looks, numbers of speakers, a scene."""

    demix: Demix
    template: Callable[[Sequence[str], Sequence[int], str], str]


class Context(NamedTuple):
    """What every stage is given beside the record; files go below `output`."""

    config: DemixConfig
    output: Path
    tools: Tools


class Loads(NamedTuple):
    """What each process of a stage loads, and how many of them may, if not all."""

    files: tuple[Path, ...]
    processes: int | None = None


def loads_nothing(config: DemixConfig) -> Loads | None:
    """Say that a stage loads no files of the user's."""
    return None


class Stage(NamedTuple):
    """A step of the builder: a function of a record alone. `reads`: stages whose figures or files it needs; `writes`:
    it writes files, which its figures name in `files`; `version`: another number makes earlier findings void, and so
    does other content of the files that it `loads`."""

    name: str
    run: Callable[[Record, Context], Finding]
    reads: tuple[str, ...] = ()
    writes: bool = False
    version: int = 1
    loads: Callable[[DemixConfig], Loads | None] = loads_nothing


def span_key(source_key: str, start: float, end: float) -> str:
    """Key of a span of a film, to the microsecond."""
    return hashlib.sha256(f"{source_key} {start:.6f} {end:.6f}".encode()).hexdigest()[:20]
