"""Work in several processes: its order, its threads, and what becomes of its errors."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from shared.utils.errors import UserError
from shared.utils.parallel import spread

started: list[int] = []


def start() -> None:
    started.append(os.getpid())


def square(number: int) -> tuple[int, int, bool, int]:
    return number**2, os.getpid(), started == [os.getpid()], torch.get_num_threads()


def refuse(number: int) -> int:
    if number == 2:
        raise UserError(f"{number}: not this one")
    return number


def die(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_from_processes_that_have_started(workers: int) -> None:
    started.clear()
    torch.set_num_threads(2)
    squares, processes, ready, threads = zip(*spread(square, range(12), workers, start), strict=True)
    assert squares == tuple(number**2 for number in range(12)) and all(ready)
    assert (set(processes) == {os.getpid()}) == (workers == 1)
    assert set(threads) == {2 if workers == 1 else 1}


def test_no_item_needs_no_process() -> None:
    assert list(spread(square, [], 4)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_an_item_is_raised(workers: int) -> None:
    with pytest.raises(UserError, match="2: not this one"):
        list(spread(refuse, range(4), workers))


def test_a_killed_process_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="a process was killed; run again, with fewer --workers"):
        list(spread(die, range(4), 2))
