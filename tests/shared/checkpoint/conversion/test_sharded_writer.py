"""Files of weights: sizes, new tensors, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from public import MODEL, in_memory, shapes_of
from safetensors.torch import load_file
from torch import nn

from ccl.transformer import DualStreamTransformer
from shared.checkpoint.conversion.safetensors_reader import SourceWeights
from shared.checkpoint.conversion.sharded_writer import (
    FreshTensors,
    check_output,
    check_space,
    planned,
    size_of,
    write_tensors,
)
from shared.checkpoint.conversion.weight_map import WeightMap
from shared.utils.errors import UserError


def one_block() -> nn.Module:
    settings = {name: MODEL[name] | {"num_layers": 1} for name in ("video", "audio")}
    return DualStreamTransformer(**(MODEL | settings))


def test_new_tensors_are_the_models_own_kind() -> None:
    """As the model itself begins: W_o and outputs at zero, norms at one, every block with values of its own."""
    shapes = shapes_of(DualStreamTransformer(**MODEL))
    fresh = FreshTensors(one_block, seed=3)
    state = {name: fresh(name).clone() for name in sorted(shapes)}  # in an order that is not by block
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes
    assert not state["blocks.1.fusion.video.to_out.weight"].any() and not state["audio_stream.proj_out.weight"].any()
    assert state["blocks.0.fusion.audio.norm_q.weight"].eq(1).all()
    assert 0.01 < state["blocks.1.fusion.audio.context_tokens"].std() < 0.03
    name = "blocks.1.fusion.video.to_q.weight"
    assert not torch.equal(state["blocks.0.fusion.video.to_q.weight"], state[name])
    assert torch.equal(FreshTensors(one_block, seed=3)(name), state[name])
    assert not torch.equal(FreshTensors(one_block, seed=4)(name), state[name])
    before = torch.get_rng_state()
    FreshTensors(one_block, seed=3)(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_files_are_cut_and_read_again(tmp_path: Path) -> None:
    tensors = {f"blocks.{i}.weight": torch.randn(100, 100) for i in range(5)} | {"norm.weight": torch.randn(10)}
    mapping = WeightMap({name: tuple(value.shape) for name, value in tensors.items()} | {"twice": (10,), "new": (2,)})
    mapping.take(in_memory(tensors), {name: name for name in tensors} | {"twice": "norm.weight"})
    mapping.new(["new"], "nobody has it")
    mapping.check()
    plan = planned(mapping, torch.bfloat16, fp32=["norm"])
    assert size_of(plan.values()) == 5 * 20_000 + 40 + 20 + 4
    write_tensors(tmp_path, plan, mapping, "50KB", fresh=lambda name: torch.ones(2))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 3 and all(file.stat().st_size < 52_000 for file in files)
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == mapping.shapes.keys()
    found = {name: value for file in files for name, value in load_file(file).items()}
    assert torch.equal(found["norm.weight"], tensors["norm.weight"]) and found["new"].eq(1).all()
    assert torch.equal(found["twice"], tensors["norm.weight"].bfloat16())
    assert all(torch.equal(found[name], value.bfloat16()) for name, value in tensors.items() if "blocks" in name)
    assert SourceWeights.open(tmp_path).shapes == mapping.shapes


def test_kept_dtypes_are_the_sources() -> None:
    weights = SourceWeights("s", {"a": (2,)}, {"a": "F16"}, lambda _: torch.zeros(2).half())
    mapping = WeightMap({"a": (2,), "b": (2,)})
    mapping.take(weights, {"a": "a"})
    mapping.new(["b"], "")
    assert [value.dtype for value in planned(mapping, None).values()] == [torch.float16, torch.float32]


def test_nothing_is_overwritten_and_space_is_needed(tmp_path: Path) -> None:
    check_output(tmp_path)
    check_output(tmp_path / "new")
    (tmp_path / "x").write_text("kept")
    for path in (tmp_path, tmp_path / "x"):
        with pytest.raises(UserError, match="exists already"):
            check_output(path)
    check_space(tmp_path / "deep" / "new", 1000)
    with pytest.raises(UserError, match=r"new: needs 1000000000\.00 GB, and .* GB are free"):
        check_space(tmp_path / "deep" / "new", 10**18)
