"""Options about the model: the shipped checkpoint, adapters and their scales."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.loading import LoraOption, ModelOptions, shipped_checkpoint
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_the_shipped_checkpoint_is_whole_and_the_default() -> None:
    check_checkpoint(shipped_checkpoint())
    assert parse(ModelOptions, None, []).checkpoint == shipped_checkpoint()


def test_adapters_have_a_file_and_a_scale(tmp_path: Path) -> None:
    file = tmp_path / "style=2" / "pytorch_lora_weights.safetensors"
    file.parent.mkdir()
    layer = "transformer.blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.zeros(2, 4), f"{layer}.lora_B.weight": torch.zeros(4, 2)}, file)
    whole, scaled = parse(ModelOptions, None, ["--lora", str(file.parent), "--lora", f"{file}=-0.5"]).adapters()
    assert (whole, scaled) == (LoraOption(file, 1.0), LoraOption(file, -0.5))
    for words, said in (
        (["--lora", f"{file}=much"], "'much' is no scale"),
        (["--lora", f"{file}=nan"], "'nan' is no scale"),
        (["--lora", str(tmp_path / "none")], "none: no such file or folder"),
        (["--fuse-lora"], "--fuse-lora: there is nothing to fuse"),
    ):
        with pytest.raises(UserError, match=said):
            parse(ModelOptions, None, words)
