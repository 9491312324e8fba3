from __future__ import annotations

import numpy as np

from shared.perception.stretches import stretches


def test_stretches() -> None:
    active = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], bool)
    assert stretches(active) == [(1, 3), (4, 5), (8, 9)]
    assert stretches(active, pause=1) == [(1, 5), (8, 9)]
    assert stretches(active, pause=9, longest=3) == [(1, 4), (4, 6), (6, 9)]
    assert stretches(np.zeros(4, bool)) == stretches(np.zeros(0, bool)) == []
