"""Work on many items in several processes of this machine."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from shared.utils.errors import UserError
from shared.utils.signals import leave_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_pool(
    count: int, method: str | None = None, start: Callable[..., object] | None = None, arguments: Sequence[Any] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Open processes that begin with `start(*arguments)`. They end at once when the block fails, a signal stops it, or
    this process is killed. UserError if one of them is."""
    context = multiprocessing.get_context(method or start_method())
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(start, *arguments))
    try:
        yield pool
    except BaseException as error:
        for process in list((pool._processes or {}).values()):  # Python 3.14 has terminate_workers
            process.terminate()
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            text = "a process was killed; run again, with fewer --workers if memory is short"
            raise UserError(text) from None
        raise
    pool.shutdown()


def start_method() -> str:
    """Fork where that can be: a fresh process would import torch first, which takes seconds."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"


def spread(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results of `function` in the items' order, from `workers` processes of one thread each, or from this one.
    Raises what `function` raises, and UserError if a process is killed."""
    if (count := min(workers, len(items))) <= 1:
        yield from map(function, items)
        return
    with process_pool(count, start=_one_thread) as pool:
        yield from pool.map(function, items)


def _begin(start: Callable[..., object] | None, *arguments: Any) -> None:
    leave_to_parent()
    if start is not None:
        start(*arguments)


def _one_thread() -> None:
    """Compute with one thread: many threads in each of many processes wait for each other."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported from here on
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
