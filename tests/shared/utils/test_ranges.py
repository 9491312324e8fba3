"""Numbers out of their range are refused with it."""

from __future__ import annotations

import math

import pytest

from shared.utils.errors import UserError
from shared.utils.ranges import check_range


@pytest.mark.parametrize("value", [0, 11, 1.5, True, "3", None, math.nan, math.inf])
def test_what_is_no_whole_number_in_the_range_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^layers is .*; a whole number from 1 to 10 is needed$"):
        check_range("layers", value, 1, 10)


def test_what_lies_in_the_range_is_allowed() -> None:
    check_range("layers", 1, 1, 10)
    check_range("scale", 0.5, 0, 1, whole=False)
    with pytest.raises(UserError, match=r"^scale is nan; a number from 0 to 1 is needed$"):
        check_range("scale", math.nan, 0, 1, whole=False)
