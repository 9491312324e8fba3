"""Numbers that are not finite, refused where they leave a part of the model, by the part's name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shared.utils.errors import UserError


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite. The sum tells in one pass, 20 times faster than a look at each value, unless
    it overflows itself: then each is looked at."""
    values = values.detach()
    if not (values.is_floating_point() or values.is_complex()) or values.is_meta or not values.numel():
        return True
    if values.element_size() == 1:  # fp8, which has no sum
        values = values.to(torch.bfloat16)
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def check_finite(parts: Mapping[str, Tensor], when: str) -> None:
    """Raise UserError naming the parts, the keys, whose values are not finite; `when` says where that was seen."""
    if bad := [part for part, values in parts.items() if not is_finite(values)]:
        advice = "take --dtype float32, smaller guidance scales, or other weights"
        raise UserError(f"{' and '.join(bad)}: NaN or infinity {when}; nothing is written; {advice}")


def check_weights(model: Any, where: str) -> None:
    """Raise UserError naming the first weight or buffer of `model`, loaded from `where`, that is not finite."""
    tensors = [*model.named_parameters(), *model.named_buffers()] if isinstance(model, nn.Module) else []
    check_tensors(dict(tensors), where)


def check_tensors(weights: Mapping[str, Tensor], where: str) -> None:
    """As `check_weights`, of weights by name."""
    for name, values in weights.items():
        if not is_finite(values):
            raise UserError(f"{where}: the weight {name} holds NaN or infinity; copy it again, or take an earlier one")
