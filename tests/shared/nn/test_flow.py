"""The flow: path, target, shift, and randomness keyed by names."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from shared.nn.flow import draw_chosen, draw_noise, draw_u, noisy, shift, u_grid, velocity


def test_path_runs_from_data_to_noise_along_the_target():
    clean, noise = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(noisy(clean, noise, torch.tensor(0.0)), clean)
    assert torch.equal(noisy(clean, noise, torch.tensor(1.0)), noise)
    step = (noisy(clean, noise, torch.tensor(0.75)) - noisy(clean, noise, torch.tensor(0.25))) / 0.5
    torch.testing.assert_close(step, velocity(clean, noise))


@pytest.mark.parametrize("amount", [1.0, 3.0, 5.0])
def test_shift_keeps_the_ends_and_the_order(amount):
    sigma = shift(torch.linspace(0, 1, 11), amount)
    assert sigma[0] == 0 and sigma[-1] == 1 and (sigma.diff() > 0).all()
    assert sigma[5] == pytest.approx(amount / (amount + 1))


def test_the_solver_shifts_our_grid_as_training_does():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=u_grid(8).numpy())
    torch.testing.assert_close(scheduler.sigmas[:-1], shift(u_grid(8), 3.0).float())
    assert scheduler.sigmas[-1] == 0


def test_u_grid_ends_before_zero():
    torch.testing.assert_close(u_grid(4), torch.tensor([1.0, 0.75, 0.5, 0.25]).double())
    assert u_grid(1).tolist() == [1.0]


def test_draws_belong_to_the_sample_not_to_its_place():
    assert torch.equal(draw_u(1, 5, ["a", "b", "c"])[[2, 0]], draw_u(1, 5, ["c", "a"]))
    together, apart = draw_noise(1, 5, ["a", "b"], (2, 3), "video"), draw_noise(1, 5, ["b"], (2, 3), "video")
    assert torch.equal(together[1:], apart)


def test_draws_differ_by_seed_step_stream_and_name():
    base = draw_noise(1, 5, ["a"], (4,), "video")
    for other in (draw_noise(2, 5, ["a"], (4,), "video"), draw_noise(1, 6, ["a"], (4,), "video"),
                  draw_noise(1, 5, ["a"], (4,), "audio"), draw_noise(1, 5, ["b"], (4,), "video")):  # fmt: skip
        assert not torch.allclose(base, other)
    assert draw_u(1, 5, ["a"]) != draw_u(1, 5, ["a"], name="u audio")


def test_so_many_are_chosen_each_by_itself():
    ids = [str(i) for i in range(2000)]
    chosen = draw_chosen(0.2, 0, 0, ids, "high")
    assert chosen.float().mean() == pytest.approx(0.2, abs=0.03)
    assert torch.equal(chosen[[7, 3]], draw_chosen(0.2, 0, 0, ["7", "3"], "high"))
    assert not draw_chosen(0.0, 0, 0, ids, "high").any() and draw_chosen(1.0, 0, 0, ids, "high").all()


def test_u_is_logit_normal():
    logits = torch.logit(draw_u(0, 0, [str(i) for i in range(2000)], mean=0.5, std=2.0))
    assert logits.mean() == pytest.approx(0.5, abs=0.2) and logits.std() == pytest.approx(2.0, abs=0.15)
