"""What takes turns is compared round by round, and memory is counted as torch allocates it."""

from __future__ import annotations

import gc
import time

import pytest
import torch

from ccl.analysis import timing


def test_every_round_runs_each_form_once_and_the_order_turns():
    order: list[str] = []
    forms = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = timing.in_turns(forms, repeats=4, warmup=1)
    assert "".join(order) == "ba" + "abba" * 2
    assert [len(times) for times in seconds.values()] == [4, 4] and gc.isenabled()


def test_a_form_that_fails_leaves_the_collector_on():
    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        timing.in_turns({"fails": fails}, repeats=1)
    assert gc.isenabled()


def test_seconds_are_those_of_the_call():
    slept = timing.in_turns({"long": lambda: time.sleep(0.02), "short": lambda: None}, repeats=2)
    assert min(slept["long"]) >= 0.02 > max(slept["short"])


def test_a_paired_ratio_is_not_moved_by_a_machine_that_slows_down():
    theirs = [1.0, 2.0, 4.0, 8.0, 16.0]
    found = timing.paired_ratio([0.5 * value for value in theirs], theirs)
    assert found == (0.5, 0.5, 0.5, 5)
    wide = timing.paired_ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert wide.low < wide.median == 2.0 < wide.high
    with pytest.raises(ValueError):
        timing.paired_ratio([1.0], [1.0, 2.0])


def test_spread_is_median_and_quartiles():
    assert timing.Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == (3.0, 2.0, 4.0, 5)
    assert timing.Spread.of([0.004]).text(1e-3) == "4 (4 to 4)"


def test_peak_bytes_count_what_lives_at_once():
    def run() -> None:
        for _ in range(3):
            torch.zeros(timing.MIB, dtype=torch.uint8)

    assert timing.MIB <= timing.peak_bytes(run) < 2 * timing.MIB


def test_rates_and_the_machine():
    assert timing.matmul_rate([(64, 32, 16), (8, 8, 8)], torch.float32, repeats=2) > 0
    assert timing.copy_rate(size=1 << 16, repeats=2) > 0
    facts = timing.machine()
    assert facts["threads"] == torch.get_num_threads() and facts["torch"] == torch.__version__ and facts["processor"]
