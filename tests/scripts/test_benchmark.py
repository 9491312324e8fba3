"""scripts/benchmark.py at tiny sizes: both forms agree, the table is there, memory does not grow with F·A."""

from __future__ import annotations

import pytest
import torch

from scripts import benchmark
from shared.errors import UserError


def options(**changes) -> benchmark.CcaOptions:
    known = {
        "sizes": [(5, 4, 27)], "heads": 2, "head_dim": 24, "context_tokens": 3, "backward": False, "repeats": 1,
        "device": "cpu",
    }  # fmt: skip
    return benchmark.CcaOptions(**(known | changes))


@pytest.mark.parametrize("direction", benchmark.DIRECTIONS)
@pytest.mark.parametrize("size", [(5, 4, 27), (9, 3, 8), (13, 2, 70)])
def test_gathered_and_dense_are_the_same_function(direction, size):
    case = benchmark.Case.build(direction, size, options())
    torch.testing.assert_close(case.gathered(), case.dense(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("direction", benchmark.DIRECTIONS)
def test_gathered_memory_follows_the_tokens_and_dense_memory_the_pairs(direction):
    held = [benchmark.measure(direction, (f, 4, 5 * f), options()) for f in (16, 64)]
    gathered, dense = ([form[i][1] for form in held] for i in (0, 1))
    assert gathered[1] < 4.4 * gathered[0]
    assert dense[1] / dense[0] > 1.3 * gathered[1] / gathered[0]


def test_the_command_prints_both_tables(capsys):
    benchmark.main(["cca", "--sizes", "5,4,27", "3,2,9", "--heads", "1", "--head-dim", "12", "--repeats", "1",
                    "--device", "cpu", "--backward"])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert sum("audio to video" in line for line in lines) == sum("video to audio" in line for line in lines) == 6
    assert lines[0].startswith("CCA, forward and backward, batch 1, 1 heads x 12")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "5,4"], "'5,4' is not F,S,A"),
        (["--sizes", "5,4,0"], "'5,4,0'"),
        (["--heads", "0"], "--heads is 0"),
        (["--head-dim", "7"], "--head-dim is 7"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        benchmark.main(["cca", *arguments])
