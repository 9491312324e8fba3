from __future__ import annotations

import os
import signal
import time

import pytest

from shared.curation.children import Lost, supervised


def work(item: int) -> int:
    if item == 3:
        time.sleep(60)
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 7:
        os._exit(3)
    return item * item


def test_one_that_hangs_and_ones_that_die_are_named_and_the_others_go_on() -> None:
    for workers in (1, 3):
        done = dict(supervised(work, range(10), workers, lambda item: 0.5 if item == 3 else 30.0))
        assert {item: done[item] for item in (3, 5, 7)} == {
            3: Lost("timeout", "took longer than 0.5 s and was stopped"),
            5: Lost("crashed", "its process was ended by SIGKILL"),
            7: Lost("crashed", "its process ended with code 3"),
        }
        assert {item: done[item] for item in done if item not in (3, 5, 7)} == {n: n * n for n in (0, 1, 2, 4, 6, 8, 9)}


def test_nothing_to_do_is_done_at_once() -> None:
    assert list(supervised(work, [], 2, lambda item: 1.0)) == []


def test_children_end_with_who_reads_them() -> None:
    results = supervised(pid, range(4), 2, lambda item: 30.0)
    _, process = next(results)
    results.close()
    assert isinstance(process, int)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def pid(item: int) -> int:
    return os.getpid()
