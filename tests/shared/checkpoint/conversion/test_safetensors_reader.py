"""Which files are read, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, weight_files
from shared.checkpoint.folder import WEIGHTS
from shared.utils.errors import UserError


def save(path: Path, *names: str, dtype: torch.dtype = torch.float32) -> None:
    save_file({name: torch.full((2, 3), float(i), dtype=dtype) for i, name in enumerate(names)}, path)


def test_shards_are_read_tensor_by_tensor(tmp_path: Path) -> None:
    save(tmp_path / "b.safetensors", "x", "y")
    save(tmp_path / "a.safetensors", "z", dtype=torch.bfloat16)
    index = {"weight_map": {"x": "b.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}
    (tmp_path / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    weights = SourceWeights.open(tmp_path)
    assert weights.shapes == {"x": (2, 3), "y": (2, 3), "z": (2, 3)} and weights.dtypes["z"] == "BF16"
    assert weights.read("y").eq(1).all() and weights.label == tmp_path.name
    save(tmp_path / "a.safetensors", "z", "x")
    with pytest.raises(UserError, match="x stands in two files"):
        SourceWeights.open(tmp_path)
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(UserError, match=r"a\.safetensors: missing, and diffusion_pytorch_model\.safetensors\.index"):
        SourceWeights.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": ["a.safetensors"]}, "has no weight_map"),
        ({"weight_map": {"x": "../a.safetensors"}}, r"has x in '\.\./a\.safetensors'; a safetensors file beside it"),
        ({"weight_map": {"x": "/etc/passwd"}}, "a safetensors file beside it is needed"),
        ({"weight_map": {"x": "a.bin"}}, "a safetensors file beside it is needed"),
        ({"weight_map": {"x": 5}}, "has x in 5; a safetensors file beside it is needed"),
        ({"weight_map": {"x": "b.safetensors"}}, r"b\.safetensors: missing, and diffusion_pytorch_model"),
        ([], "holds no JSON object"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: object, said: str) -> None:
    save(tmp_path / "a.safetensors", "x")
    (tmp_path / f"{WEIGHTS}.index.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"(index\.json.*)?{said}"):
        SourceWeights.open(tmp_path)


def test_one_file_must_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \.safetensors file in this folder"):
        weight_files(tmp_path)
    save(tmp_path / "only.safetensors", "x")
    assert weight_files(tmp_path) == weight_files(tmp_path / "only.safetensors") == [tmp_path / "only.safetensors"]
    save(tmp_path / "other.safetensors", "x")
    with pytest.raises(UserError, match=r"holds only\.safetensors, other\.safetensors; name one"):
        weight_files(tmp_path)
    save(tmp_path / WEIGHTS, "x")
    assert weight_files(tmp_path) == [tmp_path / WEIGHTS]
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        weight_files(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_pickle_is_not_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"wan{suffix}"
    file.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    for source in (file, tmp_path):
        with pytest.raises(UserError, match=rf"to-safetensors --source wan\{suffix} --output wan\.safetensors"):
            SourceWeights.open(source)


def test_damaged_and_quantised_files(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save(file, "x", "y", dtype=torch.float8_e4m3fn)
    with pytest.raises(UserError, match=r"2 tensors \(x, y\) of type F8_E4M3; quantised"):
        SourceWeights.open(file)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match=r"x\.safetensors: damaged"):
        SourceWeights.open(file)
