"""How a guided prediction becomes the next latents [B, C, F, h, w]: flows, and CogVideoX's discrete diffusion."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from torch import Tensor

from shared.nn.flow import u_grid
from shared.utils.errors import UserError

DIFFUSION = (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)
STEPS, DIFFUSION_STEPS = 24, 50  # where nothing else is asked for; 50 is CogVideoX's own, and the paper's


class Solver:
    """A solver of diffusers at work in one window: with flow sigmas, given ours, or one of CogVideoX's diffusion.

    The prediction is the velocity of a flow. Of a diffusion it is what the scheduler's prediction_type says, epsilon or
    v: at one timestep guidance weighs the one as it would the other; u and sigma are timestep / 1000, as in
    `CogVideoXPipeline`. DPM-Solver++(2M) adds noise at every step; `generators`, one per sample, draw it. `levels` are
    (u, sigma) of each step: the time that callbacks are told, and the model's noise level.
    """

    def __init__(self, scheduler: Any, steps: int, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self.scheduler, self.generators, self.last = scheduler, list(generators), None
        if isinstance(scheduler, DIFFUSION):
            scheduler.set_timesteps(steps, device=device)
            self.levels = [(time / 1000, time / 1000) for time in scheduler.timesteps.tolist()]
        else:
            grid = u_grid(steps)
            scheduler.set_timesteps(sigmas=grid.numpy(), device=device)
            scheduler.set_begin_index(0)
            self.levels = [(u, float(scheduler.sigmas[index])) for index, u in enumerate(grid.tolist())]

    def level_after(self, index: int) -> float:
        """Noise level to which a step of a flow leads."""
        return float(self.scheduler.sigmas[index + 1])

    def step(self, index: int, prediction: Tensor, latents: Tensor) -> Tensor:
        """Take one step with the prediction at its level."""
        times = self.scheduler.timesteps
        if not isinstance(self.scheduler, DIFFUSION):
            return self.scheduler.step(prediction, times[index], latents, return_dict=False)[0]
        prediction, latents = prediction.transpose(1, 2), latents.transpose(1, 2)  # the noise is drawn as [F, C, h, w]
        if isinstance(self.scheduler, CogVideoXDPMScheduler):
            given = (prediction, self.last, times[index], times[index - 1] if index else None, latents)
            latents, self.last = self.scheduler.step(*given, generator=self.generators, return_dict=False)
        else:
            latents = self.scheduler.step(prediction, times[index], latents, return_dict=False)[0]
        return latents.transpose(1, 2)


def checked_steps(scheduler: Any, steps: int | None) -> int:
    """Say how many steps are taken. UserError for less than one, or more than a diffusion has timesteps."""
    diffusion = isinstance(scheduler, DIFFUSION)
    if steps is None:
        return DIFFUSION_STEPS if diffusion else STEPS
    if steps < 1:
        raise UserError(f"{steps} sampling steps; at least 1 is needed")
    if diffusion and steps > (most := scheduler.config.num_train_timesteps):
        raise UserError(f"{steps} sampling steps; this model's scheduler has {most} timesteps, give no more")
    return steps
