"""AdamW that keeps a moving average of its weights; the learning rate; the parameter groups."""

import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from shared.utils.config import Optimizer


class AdamWEMA(torch.optim.AdamW):
    """AdamW whose state holds "ema" beside "exp_avg": fp32, shaped as the parameter, so that ZeRO partitions, saves,
    resumes and gathers the average with the rest of the state. After update n the decay is
    min(decay, (1 + n) / (10 + n)); the average starts as the weights after the first update."""

    def __init__(self, params: Iterable[Any], *, decay: float, **options: Any) -> None:
        super().__init__(params, fused=True, **options)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = super().step(closure)
        for param in chain.from_iterable(group["params"] for group in self.param_groups):
            if param.grad is not None:
                state = self.state[param]
                if "ema" not in state:
                    state["ema"] = param.detach().clone()
                updates = float(state["step"])
                state["ema"].lerp_(param, 1 - average_decay(self.decay, updates))
        return loss


def average_decay(decay: float, updates: float) -> float:
    """Decay of an average of weights at update n, from 1: less in the first, so that it does not stay at the start."""
    return min(decay, (1 + updates) / (10 + updates))


def build_optimizer(groups: list[dict[str, Any]], config: Optimizer, ema: float) -> torch.optim.Optimizer:
    """`AdamWEMA`, or AdamW where `ema` is 0, over `groups` as `parameter_groups` returns them."""
    options: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    return AdamWEMA(groups, decay=ema, **options) if ema else torch.optim.AdamW(groups, fused=True, **options)


def parameter_groups(
    module: nn.Module, config: Optimizer, cross_modal: Callable[[str], bool] = lambda name: False
) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and weight decay: at most four groups, in a fixed order. Those that
    `cross_modal` names learn at `cross_modal_lr_scale` times the rate (`lr_scale`). Vectors do not decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, param in module.named_parameters():
        if param.requires_grad:
            groups.setdefault((cross_modal(name), param.ndim > 1), []).append(param)
    scales, decays = (1.0, config.cross_modal_lr_scale), (0.0, config.weight_decay)
    return [
        {"params": groups[cross, matrix], "lr_scale": scales[cross], "weight_decay": decays[matrix]}
        for cross, matrix in sorted(groups)
    ]


def learning_rate(step: int, steps: int, config: Optimizer) -> float:
    """Rate of `step` (from 0): linear warm-up, `lr`, then, over the last `decay_share` of the steps, a cosine down to
    `min_lr_ratio` times `lr`."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    left = (steps - 1 - config.warmup) * config.decay_share
    progress = (step - (steps - 1 - left)) / max(1, left)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


def forget_gradients(engine: Any) -> None:
    """Zero the gradients that DeepSpeed 0.19 keeps from step to step in buffers of ZeRO-3 and offload; for after
    `engine.step`. A parameter of a stream that a step's tasks skip would be moved by an earlier step's once more."""
    optimizer = engine.optimizer
    kept = [getattr(optimizer, "grad_partitions_flat_buffer", None)]
    kept += getattr(optimizer, "accumulated_grads_in_cpu", {}).values()
    for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        kept += [master.grad for master in getattr(optimizer, name, []) if master is not None]
    for gradient in kept:
        if gradient is not None:
            gradient.zero_()


def full_weights(engine: Any, module: nn.Module, state_key: str | None) -> dict[str, Tensor]:
    """Gather the state dict of `module` in fp32 on the CPU: whole on rank 0, empty elsewhere; all ranks call it. At any
    ZeRO stage trainable parameters are the master weights (`state_key` None) or that entry of the optimizer's state
    ("ema"); frozen parameters and buffers are as they are."""
    from deepspeed import comm, zero
    from deepspeed.utils import safe_get_full_fp32_param as master_weights
    from deepspeed.utils import safe_get_full_optimizer_state as optimizer_state

    # DeepSpeed 0.19 links states to parameters once, after the first group's first step, when the other groups
    # have no state yet, and not at all after a resume: link again.
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    weights = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if not value.requires_grad:
            with zero.GatheredParameters([value] if hasattr(value, "ds_id") else []):
                full = value.detach().clone()
        elif hasattr(value, "ds_id") or hasattr(value, "_hp_mapping"):
            full = master_weights(value) if state_key is None else optimizer_state(value, state_key)
        else:
            full = value if state_key is None else engine.optimizer.state[value][state_key]
        if comm.get_rank() == 0:
            weights[name] = full.detach().to("cpu", torch.float32 if full.is_floating_point() else None).clone()
    return weights
