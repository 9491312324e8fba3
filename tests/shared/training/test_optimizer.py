from __future__ import annotations

import pytest
import torch

from shared.training.optimizer import AdamWEMA, learning_rate, parameter_groups
from shared.utils.config import Optimizer


def test_rate_warms_up_then_falls_to_its_floor():
    config = Optimizer(lr=1.0, warmup=10, min_lr_ratio=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[55] == pytest.approx(0.54, abs=0.02)


def test_the_rate_may_stay_until_the_last_steps():
    config = Optimizer(lr=0.2, warmup=10, min_lr_ratio=0.1, decay_share=0.25)
    rates = [learning_rate(step, 111, config) for step in range(111)]
    assert rates[10:86] == [0.2] * 76 and rates[85] > rates[86] > rates[-1] == pytest.approx(0.02)
    assert rates[98] == pytest.approx(0.11, abs=0.01)  # half way down


def test_ema_follows_its_warmed_up_recursion_and_leaves_adamw_alone():
    a, b = (torch.nn.Parameter(torch.tensor([[1.0, -2.0]])) for _ in range(2))
    ours = AdamWEMA([a], lr=0.1, betas=(0.9, 0.99), weight_decay=0.01, decay=0.5)
    theirs = torch.optim.AdamW([b], 0.1, (0.9, 0.99), weight_decay=0.01)
    average = None
    for step in range(1, 21):
        for param, optimizer in ((a, ours), (b, theirs)):
            param.grad = torch.full_like(param, float(step))
            optimizer.step()
        decay = min(0.5, (1 + step) / (10 + step))
        average = a.detach().clone() if average is None else decay * average + (1 - decay) * a.detach()
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(ours.state[a]["ema"], average)


def test_groups_split_by_rate_and_decay():
    module = torch.nn.ModuleDict({"cca": torch.nn.Linear(2, 2), "ffn": torch.nn.Linear(2, 2)})
    module["frozen"] = torch.nn.Linear(2, 2).requires_grad_(False)
    groups = parameter_groups(module, Optimizer(cross_modal_lr_scale=10, weight_decay=0.3), lambda n: "cca" in n)
    found = [(group["lr_scale"], group["weight_decay"], [tuple(p.shape) for p in group["params"]]) for group in groups]
    assert found == [(1.0, 0.0, [(2,)]), (1.0, 0.3, [(2, 2)]), (10.0, 0.0, [(2,)]), (10.0, 0.3, [(2, 2)])]
