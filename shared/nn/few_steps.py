"""Models that sample in few steps: what the config of a transformer says of it, and what its samplers heed.

Such a model predicts the average velocity from one noise level to a lower one (docs/training.md, "Few steps"), by which
one step of Euler's method jumps from the one to the other. Guidance is in its weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from shared.nn.flow import shift, u_grid
from shared.utils.errors import UserError
from shared.utils.ranges import check_range

STREAMS = ("video", "audio")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FewSteps:
    """What `distilled` of a transformer's config holds: solver steps where a call says none, the shifts of both
    streams' noise levels, and by task the scales of the guidance that was learned (none: the data were)."""

    steps: int
    shifts: tuple[float, float]
    guidance: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, transformer: Any) -> Self | None:
        """Read that of a transformer; None for one that is not made for few steps. UserError if it is damaged."""
        held = dict(transformer.config).get("distilled")
        if not held:
            return None
        try:
            few = cls(held["steps"], tuple(held["shifts"]), {task: dict(of) for task, of in held["guidance"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"transformer/config.json: distilled is damaged ({error!r}); copy the folder again"
            ) from None
        check_range("transformer/config.json: distilled.steps", few.steps, 1, 10_000)
        for amount in few.shifts:
            check_range("transformer/config.json: distilled.shifts", amount, 1e-6, 1000, whole=False)
        if len(few.shifts) != len(STREAMS):
            raise UserError("transformer/config.json: distilled.shifts are of video and audio; copy the folder again")
        return few

    def as_config(self) -> dict[str, Any]:
        """Make what `of` reads."""
        return {"steps": self.steps, "shifts": list(self.shifts), "guidance": self.guidance}

    def check(self, task: str, schedulers: Mapping[str, Any], negative: str = "") -> None:
        """Look at what a call asks for, with the solver of each stream that it makes. UserError for a solver that does
        not jump by the velocity as it is. A task that was not trained for few steps, and a negative text where nothing
        is guided by it, are told in a warning."""
        for stream, solver in schedulers.items():
            kind = type(solver).__name__
            if not isinstance(solver, FlowMatchEulerDiscreteScheduler) or solver.config.stochastic_sampling:
                how = " with stochastic_sampling" * isinstance(solver, FlowMatchEulerDiscreteScheduler)
                need = "this model is distilled for few steps and needs FlowMatchEulerDiscreteScheduler"
                raise UserError(f"the {stream}'s solver is {kind}{how}; {need}" + " without it" * bool(how))
        if task not in self.guidance:
            warn(f"task {task}: this model was distilled for few steps of {', '.join(self.guidance)} alone")
        if negative:
            warn("the negative prompt has no effect: this model is distilled, and no guidance leads away from a text")

    def check_grid(self, stream: str, solver: Any) -> None:
        """Warn if the noise levels that a solver has been set are not those that the stream was trained for."""
        amount = self.shifts[STREAMS.index(stream)]
        trained = shift(u_grid(len(solver.timesteps)), amount).float()
        if not torch.allclose(solver.sigmas[:-1].cpu(), trained, atol=1e-4):
            levels = ", ".join(f"{level:.3f}" for level in solver.sigmas[:-1].tolist())
            warn(f"the {stream}'s noise levels {levels} are not those of shift {amount:g} that it was distilled with")


@lru_cache(maxsize=64)
def warn(line: str) -> None:
    """Log a warning once in a process, however many batches are sampled."""
    _log.warning(line)


def warn_of_guidance(asked: str) -> None:
    """Tell that guidance is asked for of a model that has it in its weights."""
    warn(
        f"guidance {asked}: this model is distilled, its guidance is in its weights; more of it is not what it learned"
    )
