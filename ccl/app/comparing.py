"""Two clips of the same text and seed, by two checkpoints or settings, to be seen in step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccl.app.jobs import Job
from ccl.app.making import JointRequest
from ccl.app.players import MadeClip
from shared.utils.errors import UserError

if TYPE_CHECKING:
    from ccl.app.shelf import Shelf

SIDES = ("A", "B")


class Comparison:
    """`values`: options of scripts/sample_joint.py that both have; `sides`: those that each has of its own. UserError
    as `JointRequest`, with the side; and for two sides that are the same."""

    def __init__(
        self, values: Mapping[str, Any], sides: Sequence[Mapping[str, Any]], seed: int, folder: Path
    ) -> None:  # fmt: skip
        if sides[0] == sides[1]:
            raise UserError("A and B are the same; choose another checkpoint, or change a setting")
        self.requests = []
        for side, own in zip(SIDES, sides, strict=True):
            try:
                self.requests.append(JointRequest({**values, **own}, [seed], folder, side))
            except UserError as error:
                raise UserError(f"{side}: {error}") from error

    def make(self, job: Job, shelf: Shelf, told: Sequence[str]) -> list[MadeClip]:
        """Make both, one after the other; `told` stands below each."""
        made: list[MadeClip] = []
        for index, (side, request) in enumerate(zip(SIDES, self.requests, strict=True)):
            caption = f"{side}: {told[index]}, seed {{seed}}"
            made += request.make(job, shelf, made, caption, index / 2, 1 / 2)
        return made
