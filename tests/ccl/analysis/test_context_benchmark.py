"""The benchmark of CCA: both forms agree, and their memory grows as it should."""

from __future__ import annotations

import pytest
import torch

from ccl.analysis import context_benchmark as context


def options(**changes) -> context.CcaOptions:
    known = {
        "sizes": [(5, 4, 27)], "heads": 2, "head_dim": 24, "context_tokens": 3, "backward": False, "repeats": 1,
        "device": "cpu",
    }  # fmt: skip
    return context.CcaOptions(**(known | changes))


@pytest.mark.parametrize("direction", context.DIRECTIONS)
@pytest.mark.parametrize("size", [(5, 4, 27), (9, 3, 8), (13, 2, 70)])
def test_gathered_and_dense_are_the_same_function(direction, size):
    case = context.Case(direction, size, options())
    torch.testing.assert_close(case.gathered(), case.dense(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("direction", context.DIRECTIONS)
def test_gathered_memory_follows_the_tokens_and_dense_memory_the_pairs(direction):
    held = [context.measure(direction, (f, 4, 5 * f), options()) for f in (16, 64)]
    gathered, dense = ([form[i][1] for form in held] for i in (0, 1))
    assert gathered[1] < 4.4 * gathered[0]
    assert dense[1] / dense[0] > 1.3 * gathered[1] / gathered[0]
