"""What the files of a folder of weights say, without reading a tensor: bounds of numbers, headers, indices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from shared.utils.errors import UserError
from shared.utils.weights_folder import LARGEST, Header, check_numbers, read_config, read_headers


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_layers": 10**9}, "config has num_layers = 1000000000; at most 1048576 can be"),
        ({"a": {"dims": [1, -(10**7)]}}, r"a\.dims\.1 = -10000000; at most"),
        ({"scale": float("nan")}, "scale = nan; a finite number"),
        ({"scale": float("inf")}, "scale = inf; a finite number"),
        ({"num_heads": 0}, "num_heads = 0; a count cannot be that"),
        ({"conv_stride": [2, 0]}, r"conv_stride\.1 = 0; a count cannot be that"),
        ({"hidden_size": -4}, "hidden_size = -4; a count cannot be that"),
        ({"num_layers": -1}, "num_layers = -1; a count cannot be that"),
        ({"rope_theta": float("inf")}, "rope_theta = inf; a finite number"),
        ({"dims": [1] * 5000}, "list of 5000 in dims; at most 4096"),
    ],
)
def test_what_a_config_counts_has_bounds(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_numbers(config, "config")


def test_what_configs_hold_is_allowed() -> None:
    allowed = {"pad_token_id": None, "floor_db": -70, "num_decoder_layers": 0, "vocab_size": LARGEST}
    check_numbers(allowed, "config")
    with pytest.raises(UserError, match="vocab_size"):
        check_numbers(allowed | {"vocab_size": LARGEST + 1}, "config")
    check_numbers(
        {"rope_parameters": {"rope_theta": 5e9}, "vision_feature_layer": -2, "a": {"vision_feature_layer": [-2, -1]}},
        "config",
    )
    check_numbers(
        {"mean": -4.26, "is_decoder": False, "latents_mean": [-0.5, 1], "eps": 1e-12, "names": ["a"]}, "config"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights in two files with their index."""
    save_file({"a": torch.ones(2, 3)}, tmp_path / "one.safetensors")
    save_file({"b": torch.ones(4, dtype=torch.int64)}, tmp_path / "two.safetensors")
    written(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    return tmp_path


def written(folder: Path, entries: Any) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": entries}))
    return folder


def test_headers_of_an_index(folder: Path) -> None:
    found = {"a": Header("F32", (2, 3), "one.safetensors"), "b": Header("I64", (4,), "two.safetensors")}
    assert read_headers(folder) == found


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({}, "has no weight_map"),
        (["a"], "has no weight_map"),
        ({"a": "../one.safetensors"}, "has a in '../one.safetensors'; a safetensors file beside it is needed"),
        ({"a": "/etc/passwd"}, "has a in '/etc/passwd'"),
        ({"a": "pytorch_model.bin"}, "has a in 'pytorch_model.bin'"),
        ({"a": 5}, "has a in 5;"),
        ({"a": "one.safetensors", "b": "three.safetensors"}, "three.safetensors is missing"),
        ({"a": "two.safetensors", "b": "two.safetensors"}, "has a in two.safetensors, and it is in none"),
        ({"a": "one.safetensors"}, ""),
        ({"b": "one.safetensors"}, "has a in no file, and it is in one.safetensors"),
    ],
)
def test_an_index_names_what_lies_beside_it(folder: Path, entries: Any, said: str) -> None:
    written(folder, entries)
    if not said:
        assert list(read_headers(folder)) == ["a"]
        return
    with pytest.raises(UserError, match=said):
        read_headers(folder)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "torchao"}}))
    with pytest.raises(UserError, match="has a quantization_config; take weights in F64, F32"):
        read_config(tmp_path, "")
