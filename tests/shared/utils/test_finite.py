"""Numbers that are not finite are found, in every precision, and told by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared.utils.errors import UserError
from shared.utils.finite import check_finite, check_weights, is_finite

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_value_among_many_is_found(dtype: torch.dtype) -> None:
    values = torch.ones(33, 7).to(dtype)
    assert is_finite(values)
    for bad in (math.nan,) if dtype is torch.float8_e4m3fn else (math.nan, math.inf, -math.inf):  # e4m3fn has no other
        poisoned = values.to(torch.float64)
        poisoned[20, 3] = bad
        assert not is_finite(poisoned.to(dtype))


def test_a_sum_that_overflows_is_no_fault() -> None:
    assert is_finite(torch.full((100,), 60_000.0, dtype=torch.float16))
    assert is_finite(torch.full((4,), 3e38)) and is_finite(torch.tensor([3e38, 3e38, -3e38]))
    assert not is_finite(torch.tensor([math.inf, -math.inf]))


def test_what_has_no_infinity_is_finite() -> None:
    assert all(map(is_finite, (torch.ones(2, dtype=torch.int64), torch.empty(0), torch.ones(2, device="meta"))))


def test_errors_name_the_part_and_the_weight() -> None:
    bad = torch.tensor([math.nan])
    with pytest.raises(UserError, match=r"^audio DiT and audio codec: NaN or infinity at step 3; nothing is written"):
        check_finite({"audio DiT": bad, "video DiT": torch.ones(1), "audio codec": bad}, "at step 3")
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    check_weights(model, "here")
    model[1].running_var[1] = math.inf  # a buffer
    with pytest.raises(UserError, match=r"^here: the weight 1\.running_var holds NaN or infinity"):
        check_weights(model, "here")
