"""What training computes and how fast: operations of a step, and the share of the device's peak that they are.

MFU (PaLM, arXiv 2204.02311, appendix B) counts what the model needs: a forward pass and a backward pass. HFU counts
what the device does, so also what activation checkpointing computes again; without it both are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

TERA = 1e12

#: Part of `torch.cuda.get_device_name` -> dense bf16 TFLOP/s with fp32 accumulation, from NVIDIA's data sheets and, for
#: GeForce, its architecture whitepapers (Ampere GA102, Ada, Blackwell). The first that fits counts: longer names first.
PEAKS = {
    "B200": 2250.0, "H200": 989.0, "H100 NVL": 835.0, "H100 PCIe": 756.0, "H100": 989.0, "H800": 989.0, "H20": 148.0,
    "A100": 312.0, "A800": 312.0, "RTX 6000 Ada": 364.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0, "A40": 149.7,
    "A30": 165.0, "A10G": 70.0, "A10": 125.0, "RTX 5090": 209.5, "RTX 4090": 165.2, "RTX 3090": 71.0,
}  # fmt: skip


@dataclass(frozen=True)
class StepCost:
    """What one rank did in some time, or what some samples take: tokens of all streams; operations, as `flops` those of
    the model, as `hardware_flops` with what is computed again."""

    tokens: int = 0
    flops: float = 0.0
    hardware_flops: float = 0.0

    def __add__(self, other: StepCost) -> StepCost:
        flops, hardware = self.flops + other.flops, self.hardware_flops + other.hardware_flops
        return StepCost(self.tokens + other.tokens, flops, hardware)


def step_cost(tokens: int, forward: float, trained: float = 1.0, recomputed: bool = False) -> StepCost:
    """Count a training step from its forward operations. The backward pass takes as many for the gradients of the
    activations, and as many again for those of the weights that learn: `trained` is their share. `recomputed`: with
    activation checkpointing the forward pass runs twice."""
    flops = forward * (2 + trained)
    return StepCost(tokens, flops, flops + (forward if recomputed else 0.0))


def trained_share(model: nn.Module) -> float:
    """How much of the model's weights learns, 0 to 1; ZeRO-3 leaves a parameter empty and notes its size."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, learns in sizes if learns) / max(1, sum(size for size, _ in sizes))


def peak_flops(device: torch.device, given_tflops: float | None = None) -> float | None:
    """Operations per second of `device` at best: as given, or of a GPU that is known; None for others and a CPU."""
    if given_tflops is not None:
        return given_tflops * TERA
    return known_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def known_peak(name: str) -> float | None:
    """By the name that the driver gives the GPU, such as "NVIDIA H100 80GB HBM3"."""
    words = f" {name.replace('-', ' ')} "
    if " Laptop " in words:  # slower than the card of the same name, by how much is its maker's choice
        return None
    return next((tflops * TERA for part, tflops in PEAKS.items() if f" {part} " in words), None)
