"""Have a joint model name its parameters in the order that they had before its blocks were joined (`JointBlock`).

On PYTHONPATH of a recording (`record.py --old-order`): the norms of gradients are then summed in the old order, so that
trainings before and after can be equal to the bit. Nothing else depends on the order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: Imported by every training before it names any parameter, and after torch.
NAME = "shared.training.optimizer"
#: The parts as they followed one another: each stream, with its blocks between its ends; then what joins them.
ORDER = [
    *(
        rf"\b{part}"
        for stream in ("video", "audio")
        for part in (
            rf"{stream}_stream\.(scale_shift_table|patch_embedding|condition_embedder)",
            rf"blocks\.\d+\.{stream}\.",
            rf"{stream}_stream\.",
        )
    ),
    r"\bblocks\.\d+\.fusion\.video\.",
    r"\bblocks\.\d+\.fusion\.audio\.",
]


def place(name: str) -> int:
    """Where a parameter's part stood; those of other models after all of them, in their own order."""
    return next((place for place, part in enumerate(ORDER) if re.search(part, name)), len(ORDER))


def restore() -> None:
    """Sort the names by part. Within a part the order is still the old one, and `sorted` keeps it."""
    from torch import nn

    named = nn.Module.named_parameters

    def in_old_order(self: nn.Module, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        yield from sorted(named(self, *args, **kwargs), key=lambda pair: place(pair[0]))

    nn.Module.named_parameters = in_old_order  # type: ignore[method-assign]


class Finder(MetaPathFinder):
    """Finds the optimizer's module as ever, and restores the order once it has run."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == NAME else None
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_restore(module: ModuleType) -> None:
                run(module)
                restore()

            spec.loader.exec_module = run_and_restore  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
