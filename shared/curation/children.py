"""Work in child processes that may hang or die: what was worked on then is named, and the others go on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NamedTuple, TypeVar

from shared.utils.parallel import start_method
from shared.utils.signals import leave_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(NamedTuple):
    """Why there is no result of an item: its process hung or died."""

    cause: str
    reason: str


class _Child(Generic[Item]):
    """A process, this end of the pipe to it, and what it works on until when."""

    def __init__(self, function: Callable[[Item], object]) -> None:
        context = multiprocessing.get_context(start_method())
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, function), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        other.close()
        self.item: Item | None = None
        self.until = float("inf")

    def give(self, item: Item, seconds: float) -> None:
        self.item, self.until = item, time.monotonic() + seconds
        with suppress(BrokenPipeError):  # it has died meanwhile: the pipe's end is told when it is read
            self.pipe.send(item)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def supervised(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, limit: Callable[[Item], float]
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Items with what `function` makes of them, as they are done, by so many child processes of one thread each. One
    that works longer than the seconds `limit` of its item is killed; a new one takes its place. `function` must not
    raise: what it raises ends its process."""
    waiting = iter(items)
    children: list[_Child[Item]] = []
    try:
        for item in waiting:
            children.append(child := _Child[Item](function))
            child.give(item, limit(item))
            if len(children) == workers:
                break
        while busy := [child for child in children if child.item is not None]:
            pause = max(0.0, min(child.until for child in busy) - time.monotonic())
            wait([child.pipe for child in busy], None if pause == float("inf") else pause)
            for child in busy:
                answer = _answer(child, limit)
                if answer is None:
                    continue
                done = child.item
                assert done is not None
                child.item, child.until = None, float("inf")
                if isinstance(answer, Lost):
                    child.end()
                    children.remove(child)
                for item in waiting:
                    if isinstance(answer, Lost):
                        children.append(child := _Child[Item](function))
                    child.give(item, limit(item))
                    break
                yield done, answer
    finally:
        for child in children:
            child.end()


def _answer(child: _Child[Item], limit: Callable[[Item], float]) -> Any:
    """Read what a child made, or why there is nothing; None while it works."""
    if child.pipe.poll():
        try:
            return child.pipe.recv()
        except (EOFError, ConnectionResetError):
            child.process.join(5)
            code = child.process.exitcode or 0
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            return Lost("crashed", f"its process {how}")
    if time.monotonic() >= child.until:
        assert child.item is not None
        return Lost("timeout", f"took longer than {limit(child.item):g} s and was stopped")
    return None


def one_thread() -> None:
    """Let this process work on one core."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported from here on
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _serve(pipe: Connection, function: Callable[[Any], object]) -> None:
    """Answer what comes through the pipe until its other end is closed."""
    leave_to_parent()
    one_thread()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(function(item))
