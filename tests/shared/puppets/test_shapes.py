"""Distances are signed and those of the shape; a ring widens up to its reach."""

from __future__ import annotations

import numpy as np
import pytest

from shared.puppets.shapes import RING_RADII, RING_SPEED, box_distance, capsule, decay, ellipse_distance, ring


@pytest.mark.parametrize(
    ("x", "y", "expected"), [(0.0, 0.0, -0.2), (0.3, 0.0, 0.0), (0.5, 0.0, 0.2), (0.0, 0.5, 0.3), (0.0, -0.2, 0.0)]
)
def test_a_box(x: float, y: float, expected: float) -> None:
    assert box_distance(np.array(x), np.array(y), 0.3, 0.2) == pytest.approx(expected)


def test_a_box_has_round_corners_and_an_ellipse_has_none() -> None:
    corner = np.array(0.3), np.array(0.2)
    assert box_distance(*corner, 0.3, 0.2) == pytest.approx(0.04 * (2**0.5 - 1))
    assert ellipse_distance(*corner, 0.3, 0.2) > 0.05
    assert ellipse_distance(np.array(0.4), np.array(0.0), 0.3, 0.2) == pytest.approx(0.1)
    assert capsule((0.0, 0.0), (1.0, 0.0), 0.1)(np.array(0.5), np.array(0.4)) == pytest.approx(0.3)


def test_a_ring_is_violet_where_it_has_come_to() -> None:
    radius = RING_RADII[0] + RING_SPEED * 0.1
    assert ring(np.array(radius), np.array(0.0), 0.1) == pytest.approx(1.0)
    assert ring(np.array(0.0), np.array(0.0), 0.1) < 0.01
    assert ring(np.array(0.0), np.array(RING_RADII[1]), 5.0) == pytest.approx(1.0)
    assert decay(np.array([0.0, 1.0, 1.5]), (1.0,), 0.5) == pytest.approx([0.0, 1.0, np.exp(-1)])
