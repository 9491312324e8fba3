"""A training step on made-up inputs, without data, launcher or DeepSpeed: what a model of any size takes on a device.

It does what `shared.training.trainer` has DeepSpeed do at stage 0 in one process, but for the clipping: fp32 weights
(frozen ones may be in bf16), products in bf16, AdamW without an average, blocks computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from ccl.flops import Tokens, task_flops
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.checkpoint.lora import add_lora
from shared.nn.parameter_names import part_of
from shared.training.flops import StepCost, peak_flops, step_cost, trained_share
from shared.training.optimizer import build_optimizer, parameter_groups
from shared.utils.config import Optimizer
from shared.utils.config_sections import Lora

#: What learns: all, or what joins the streams with adapters on the attention of frozen ones.
Learns = Literal["all", "adapters"]


def choose_learning(model: DualStreamTransformer, learns: Learns, rank: int = 32) -> None:
    """Freeze what does not learn of `model` and add the adapters, of `rank`; what learns is kept in fp32."""
    if learns == "adapters":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(part_of(name) == "fusion")
        add_lora(model, None, Lora(rank=rank), 0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


class Trial:
    """Steps of task t2av on the same `given` inputs; `products`: the type of matrix products, None for the weights'."""

    def __init__(
        self, model: DualStreamTransformer, given: tuple[StreamInput, StreamInput], products: torch.dtype | None
    ) -> None:
        self.model, self.given, self.products = model.train(), given, products
        model.enable_gradient_checkpointing()
        self.optimizer = build_optimizer(parameter_groups(model, Optimizer()), Optimizer(), ema=0)
        for parameter in model.parameters():  # as the forecast has them: there all the time
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    def loss(self) -> torch.Tensor:
        """Mean squares of what both streams predict, together."""
        kind = self.given[0].latents.device.type
        with torch.autocast(kind, self.products, enabled=self.products is not None):
            outputs = self.model(Task.T2AV.route, *self.given)
        return torch.stack([part.float().square().mean() for part in outputs]).sum()

    def step(self) -> float:
        """Take one step; returns the loss from before it."""
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return float(loss.detach())

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, gradients and optimizer; the latter's from the first step on."""
        held = [*self.model.parameters(), *(p.grad for p in self.model.parameters() if p.grad is not None)]
        state: Mapping[Any, Any] = self.optimizer.state
        return sum(t.nbytes for t in held) + sum(t.nbytes for of in state.values() for t in of.values() if t.ndim)

    def cost(self, tokens: Tokens) -> StepCost:
        """Count a step of one clip of `tokens`."""
        flops = task_flops(self.model, tokens, Task.T2AV)
        return step_cost(tokens.video + tokens.audio, flops, trained_share(self.model), recomputed=True)


def nominal_rate(device: torch.device) -> float | None:
    """Operations per second that the data sheet of a GPU promises in bf16; None for one that is not known, or a CPU."""
    return peak_flops(device)
