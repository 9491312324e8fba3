"""Where a launcher (torchrun, deepspeed) has put a process that samples; a process without one is alone. No torch."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from shared.utils.errors import EveryRanksError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Launch:
    """Place of a process, `rank` of `size`, where neighbours make a sample `together`."""

    rank: int
    size: int
    together: int

    @classmethod
    def of(cls, together: int) -> "Launch":
        """Read the environment. UserError for processes that are no whole number of groups."""
        rank, size = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
        if size % together:
            start = f"start it with torchrun --nproc-per-node {together}"
            raise EveryRanksError(f"--context-parallel {together}: {start} or a multiple; this run has {size}")
        return cls(rank, size, together)

    @property
    def group(self) -> int:
        """Number of this process's group."""
        return self.rank // self.together

    @property
    def groups(self) -> int:
        """Count them."""
        return self.size // self.together

    @property
    def writes(self) -> bool:
        """Whether this process writes what its group makes."""
        return self.rank % self.together == 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be one run with the other processes, and part in good order."""
        if self.size == 1:
            yield
            return
        from shared.utils.distributed import session

        with session():
            yield

    def of_first(self, value: Value) -> Value:
        """Give every process that is `joined` the first one's value."""
        if self.size == 1:
            return value
        from shared.utils.distributed import gather

        first: Value = gather(value)[0]
        return first


def tell(line: str) -> None:
    """Say a line on stderr, on the first process alone."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
