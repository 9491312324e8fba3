"""Operations of a training step, and the peaks of GPUs by name."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shared.training.flops import StepCost, known_peak, peak_flops, step_cost


@pytest.mark.parametrize("trained", [True, False])
def test_a_step_costs_what_torch_counts(trained):
    """A layer inside a network: its input has a gradient too."""
    layer, x = torch.nn.Linear(32, 48, bias=False), torch.randn(10, 32, requires_grad=True)
    layer.requires_grad_(trained)
    with FlopCounterMode(display=False) as counted:
        layer(x).sum().backward()
    found = step_cost(10, 2 * 10 * 32 * 48, trained=float(trained))
    assert found.flops == found.hardware_flops == counted.get_total_flops()


def test_recomputation_counts_for_the_hardware_alone():
    found = step_cost(7, 100.0, recomputed=True)
    assert found == StepCost(7, 300.0, 400.0) and found + found == StepCost(14, 600.0, 800.0)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA H20", 148),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA A10G", 70),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_known_gpus_have_their_peak(name, tflops):
    assert known_peak(name) == (None if tflops is None else tflops * 1e12)


def test_a_given_peak_counts_and_a_cpu_has_none():
    cpu = torch.device("cpu")
    assert peak_flops(cpu) is None and peak_flops(cpu, 1.5) == 1.5e12
