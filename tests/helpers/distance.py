"""How far two trainings ended from each other, in a measure that no processor's rounding upsets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def distances(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], start: Mapping[str, Tensor] | None = None
) -> tuple[float, float]:
    """Norm of found - wanted over the norm of wanted - start: the largest of a tensor, and that of all together.

    What did not move has to be equal. Without `start` the norm is that of `wanted`.
    """
    # Not element by element: where a gradient is near Adam's epsilon, rounding decides how far that one element goes.
    assert set(found) == set(wanted) and wanted
    apart = {name: float((found[name] - value).norm()) for name, value in wanted.items()}
    moved = {name: float((value - start[name] if start else value).norm()) for name, value in wanted.items()}
    assert not any(apart[name] for name in wanted if moved[name] == 0)
    largest = max(apart[name] / moved[name] for name in wanted if moved[name])
    return largest, sum(d**2 for d in apart.values()) ** 0.5 / sum(m**2 for m in moved.values()) ** 0.5
