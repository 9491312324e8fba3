"""Weights from a safetensors file: whole, of the published names and shapes, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shared.perception.weights import load_weights
from shared.utils.errors import UserError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def state() -> dict[str, torch.Tensor]:
    return {name: value.clone() + 1 for name, value in network().state_dict().items()}


def test_a_file_or_the_only_one_of_a_folder(tmp_path: Path) -> None:
    weights = state()
    save_file(weights, tmp_path / "a.safetensors")
    for path in (tmp_path, tmp_path / "a.safetensors"):
        loaded = load_weights(network(), path)
        assert torch.equal(loaded.state_dict()["0.weight"], weights["0.weight"]) and not loaded.training
    without = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    save_file(without | {"pproc.x": torch.zeros(1)}, tmp_path / "a.safetensors")
    load_weights(network(), tmp_path, ("pproc.",))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"0.bias": None}, "1 weights are missing, as 0.bias; the published"),
        ({"0.bias": None, "0.b": torch.zeros(3)}, "1 weights are missing, as 0.bias; it has 0.b; the"),
        ({"more": torch.zeros(3)}, "1 weights do not belong to Sequential, as more"),
        ({"0.bias": torch.zeros(4)}, r"0.bias is \[4\]; \[3\] is needed"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, change: dict[str, torch.Tensor | None], reason: str) -> None:
    weights = {name: value for name, value in (state() | change).items() if value is not None}
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=reason):
        load_weights(network(), tmp_path)


def test_no_file_or_two(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 safetensors files; give one file"):
        load_weights(network(), tmp_path)
    with pytest.raises(UserError, match="no safetensors file"):
        load_weights(network(), tmp_path / "a.pt")
