"""Training steps on made-up inputs: what learns, what it holds and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ccl.analysis.gpu_model import case, random_inputs, random_model, training_bytes
from ccl.analysis.timing import peak_bytes
from ccl.training.trial import Trial, choose_learning, nominal_rate
from shared.nn.parameter_names import part_of

CPU = torch.device("cpu")


def trial(learns: str, **changes: object) -> tuple[Trial, object]:
    of = replace(case("adapters", tiny=True), **changes)
    model = random_model(of.config, of.weights, CPU)
    choose_learning(model, learns, rank=4)
    return Trial(model, random_inputs(model, of, torch.float32), of.products), of


@pytest.mark.parametrize("learns", ["all", "adapters"])
def test_steps_lower_the_loss_of_what_learns_alone(learns) -> None:
    steps, _ = trial(learns)
    before = {name: value.clone() for name, value in steps.model.named_parameters()}
    losses = [steps.step() for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    moved = {name for name, value in steps.model.named_parameters() if not torch.equal(value, before[name])}
    learning = {name for name, value in steps.model.named_parameters() if value.requires_grad}
    assert moved <= learning and len(moved) > 0.5 * len(learning)
    if learns == "adapters":
        assert {part_of(name) for name in learning if "lora" not in name} == {"fusion"}
        assert any(".attn1." in name for name in learning if "lora" in name)


def test_frozen_weights_stay_in_bf16_and_what_learns_is_in_fp32() -> None:
    steps, _ = trial("adapters", weights=torch.bfloat16, products=torch.bfloat16)
    assert {p.dtype for p in steps.model.parameters() if p.requires_grad} == {torch.float32}
    linear = [p for n, p in steps.model.named_parameters() if n.endswith("base_layer.weight") and "fusion" not in n]
    assert linear and {p.dtype for p in linear} == {torch.bfloat16}
    assert steps.step() > steps.step()


@pytest.mark.parametrize("learns", ["all", "adapters"])
def test_what_is_held_is_what_was_forecast(learns) -> None:
    of = case("adapters", tiny=True)
    model = random_model(of.config, of.weights, CPU)
    choose_learning(model, learns)
    steps = Trial(model, random_inputs(model, of, torch.float32), of.products)
    steps.step()
    assert steps.state_bytes + peak_bytes(steps.step) == pytest.approx(training_bytes(of, learns), rel=0.03)


def test_frozen_weights_cost_less_and_recomputing_more() -> None:
    (whole, of), (part, _) = trial("all"), trial("adapters")
    cost, cheaper = whole.cost(of.tokens), part.cost(of.tokens)
    assert cost.hardware_flops == pytest.approx(cost.flops * 4 / 3)
    assert 2 / 3 < cheaper.flops / cost.flops < 1 and cost.tokens == of.tokens.video + of.tokens.audio


def test_a_cpu_has_no_data_sheet() -> None:
    assert nominal_rate(CPU) is None
