"""Work on many items in several processes of this machine."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from shared.utils.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results of `function` in the items' order, from `workers` processes of one thread each, or from this one.
    Raises what `function` raises, and UserError if a process is killed."""
    if (count := min(workers, len(items))) <= 1:
        yield from map(function, items)
        return
    # a fresh process would import torch first, which takes seconds
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(count, multiprocessing.get_context(method), initializer=_one_thread) as pool:
        try:
            yield from pool.map(function, items)
        except BrokenProcessPool:
            raise UserError("a process was killed; run again, with fewer --workers if memory is short") from None


def _one_thread() -> None:
    """Compute with one thread: many threads in each of many processes wait for each other."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported from here on
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
