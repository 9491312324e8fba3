"""Solvers behind one interface: the levels that they tell, and steps equal to diffusers' own."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, FlowMatchEulerDiscreteScheduler
from small_cogvideox import noise

from mtv.cogvideox.solvers import DIFFUSION_STEPS, STEPS, Solver, checked_steps
from shared.nn.flow import u_grid
from shared.utils.errors import UserError

CPU = torch.device("cpu")


def draw() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(3)]


def test_each_scheduler_has_its_solver_and_its_number_of_steps():
    flow, diffusion = FlowMatchEulerDiscreteScheduler(), CogVideoXDDIMScheduler()
    assert [u for u, _ in Solver(flow, 4, CPU, draw()).levels] == u_grid(4).tolist()
    assert [u * 1000 for u, _ in Solver(diffusion, 4, CPU, draw()).levels] == diffusion.timesteps.tolist()
    assert (checked_steps(flow, None), checked_steps(diffusion, None)) == (STEPS, DIFFUSION_STEPS)
    assert checked_steps(flow, 3) == 3
    with pytest.raises(UserError, match="0 sampling steps; at least 1"):
        checked_steps(flow, 0)


def test_a_flow_arrives_at_the_clean_latents_of_a_perfect_velocity():
    clean, x = noise("clean", 1, 4, 3, 2, 2), noise("noise", 1, 4, 3, 2, 2)
    velocity, one = x - clean, Solver(FlowMatchEulerDiscreteScheduler(shift=3.0), 5, CPU, draw())
    assert [sigma for _, sigma in one.levels] == sorted((sigma for _, sigma in one.levels), reverse=True)
    for index in range(5):
        x = one.step(index, velocity, x)
    torch.testing.assert_close(x, clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
def test_a_diffusion_steps_as_its_scheduler_with_axes_in_the_other_order(kind):
    prediction, x = noise("prediction", 1, 4, 3, 2, 2), noise("noise", 1, 4, 3, 2, 2)
    one, own = Solver(kind(), 3, CPU, draw()), kind()
    own.set_timesteps(3)
    assert one.levels == [(t / 1000, t / 1000) for t in own.timesteps.tolist()]
    expected, last, generators = x.transpose(1, 2), None, draw()
    for index, time in enumerate(own.timesteps):
        x = one.step(index, prediction, x)
        given = (prediction.transpose(1, 2), time, expected)
        if kind is CogVideoXDPMScheduler:
            before = own.timesteps[index - 1] if index else None
            expected, last = own.step(given[0], last, time, before, expected, generator=generators, return_dict=False)
        else:
            expected = own.step(*given, return_dict=False)[0]
    assert torch.equal(x, expected.transpose(1, 2))
