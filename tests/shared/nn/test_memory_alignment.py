"""Weights that were loaded lie where those that were made do."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file

from shared.nn.memory_alignment import AlignedModelMixin


class Odd(AlignedModelMixin, ModelMixin, ConfigMixin):
    """Weights of sizes that leave whatever follows them in a file at odd places."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(n, n + 1) for n in (1, 3, 5, 7))


def test_loaded_weights_lie_on_boundaries_and_are_the_saved_ones(tmp_path: Path) -> None:
    saved = Odd()
    saved.save_pretrained(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    assert any(value.data_ptr() % 64 for value in load_file(file).values()), "otherwise nothing is tested"
    loaded = Odd.from_pretrained(tmp_path)
    assert all(weight.data_ptr() % 64 == 0 for weight in loaded.parameters())
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in loaded.state_dict().items())
