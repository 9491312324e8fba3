"""The work of `children.supervised` by Ray: on the cores of this machine, or of a cluster whose machines share the
folders of the films and of the data set.

Ray's actors, and not Ray Data: a clip that hangs or kills its process must be named and the others go on, and a finding
must be in the ledger as soon as it is made. Paths go from one process to another, never frames.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

from shared.curation.children import Item, Lost, Result, one_thread
from shared.utils.errors import UserError

INSTALL = "pip install --constraint constraints.txt 'ccl[ray]'"
OBJECTS = 100 * 2**20
"""Bytes of Ray's store, which would take a third of the memory: what goes through it is small."""


class _Worker:
    """Runs in a process of Ray."""

    def __init__(self) -> None:
        one_thread()

    def ready(self) -> None:
        """Answer as soon as the process has begun."""

    def work(self, function: Callable[[Any], object], item: Any) -> object:
        return function(item)


class _Task(NamedTuple):
    """What an actor works on until when; None: it is asked whether it is ready. `is_new`: it has not worked yet."""

    actor: Any
    item: Any
    until: float
    is_new: bool = False


_idle: list[Any] = []
"""Actors that wait for the next stage: to begin one takes seconds."""


def on_ray(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, limit: Callable[[Item], float]
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Do as `supervised` does, by so many actors of one core each. The time of an item begins when its process has."""
    waiting = iter(items)
    if (first := next(waiting, None)) is None:
        return
    waiting = chain([first], waiting)
    ray = _started(workers)
    kind = ray.remote(num_cpus=1)(_Worker)
    running: dict[Any, _Task] = {}

    def begin() -> None:
        is_new = not _idle
        actor = kind.remote() if is_new else _idle.pop()
        running[actor.ready.remote()] = _Task(actor, None, float("inf"), is_new)

    try:
        for _ in range(workers):
            begin()
        while running:
            pause = max(0.0, min(task.until for task in running.values()) - time.monotonic())
            done, _ = ray.wait(list(running), timeout=None if pause == float("inf") else pause)
            late = [ref for ref, task in running.items() if time.monotonic() >= task.until and ref not in done]
            for ref in (*done, *late):
                actor, item, _, is_new = running.pop(ref)
                answer = _answer(ray, ref, limit(item) if ref in late else None)
                if is_new and isinstance(answer, Lost):
                    raise UserError(f"--executor ray: a worker does not start: {answer.reason}")
                if isinstance(answer, Lost):
                    ray.kill(actor)
                    begin()
                elif (following := next(waiting, None)) is not None:
                    until = time.monotonic() + limit(following)
                    running[actor.work.remote(function, following)] = _Task(actor, following, until)
                else:
                    _idle.append(actor)
                if item is not None:
                    yield item, answer
    finally:
        for task in running.values():
            ray.kill(task.actor)


def library() -> Any:
    """Import Ray. UserError with the command that installs it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 of its own: beside a training its processes stand still
    try:
        return import_module("ray")
    except ImportError:
        raise UserError(f"--executor ray needs the package ray, which is not installed; run {INSTALL}") from None


def _started(workers: int) -> Any:
    """Join the cluster that RAY_ADDRESS names, or begin one on this machine."""
    ray = library()
    if not ray.is_initialized():
        _idle.clear()
        address = os.environ.get("RAY_ADDRESS", "local")
        here = {"num_cpus": workers, "object_store_memory": OBJECTS, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **(here if address == "local" else {}))
    return ray


def _answer(ray: Any, ref: Any, late: float | None) -> Any:
    if late is not None:
        return Lost("timeout", f"took longer than {late:g} s and was stopped")
    try:
        return ray.get(ref)
    except ray.exceptions.RayActorError as error:
        return Lost("crashed", f"its process ended: {' '.join(str(error).split())[:200]}")
