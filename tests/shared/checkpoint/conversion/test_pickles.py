"""Pickles of weights become safetensors; anything else in one is refused, not run."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from shared.checkpoint.conversion.pickles import to_safetensors
from shared.utils.errors import UserError


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_written_and_others_named(tmp_path: Path, zipped: bool) -> None:
    x = torch.randn(3, 4)
    content = {"state_dict": {"x": x, "tied": x, "row": x[1], "turned": x.t(), "step": 7}, "epoch": 2}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    tensors, others = to_safetensors(tmp_path / "w.pth", tmp_path / "out" / "w.safetensors")
    found = load_file(tmp_path / "out" / "w.safetensors")
    assert others == ["step"] and found.keys() == tensors.keys()
    for name, value in {"x": x, "tied": x, "row": x[1], "turned": x.t()}.items():
        assert torch.equal(found[name], value)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["w.safetensors"]


def test_nothing_else_is_run(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1), "y": Harmful(str(tmp_path / "made"))}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds more than weights"):
        to_safetensors(tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert not (tmp_path / "made").exists() and not (tmp_path / "w.safetensors").exists()


def test_what_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 2}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"holds no tensors by name \(epoch\)"):
        to_safetensors(tmp_path / "w.pt", tmp_path / "w.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds a list"):
        to_safetensors(tmp_path / "w.pt", tmp_path / "w.safetensors")
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"w\.pt: "):
        to_safetensors(tmp_path / "w.pt", tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"one of \.pth, \.pt"):
        to_safetensors(tmp_path / "w.json", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"it is not read \(Trying to load unsupported GLOBAL os\.system.*\)$"),
        (pickle.dumps([1]), r"it is not read \(Unsupported operand 149\)$"),
        (b"PK\3\4" + bytes(30), r"cannot be read \("),
        (b"\x80\x02X\xff\xff\xff\x7f", r"(cannot be|not) read"),
    ],
)
def test_what_is_no_pickle_of_weights_is_refused_with_what_it_holds(tmp_path: Path, content: bytes, said: str) -> None:
    """And not with torch's advice to read it all the same."""
    (tmp_path / "w.pth").write_bytes(content)
    with warnings.catch_warnings(), pytest.raises(UserError, match=said) as told:
        warnings.simplefilter("error")
        to_safetensors(tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert "weights_only" not in str(told.value)


def test_a_causal_mask_may_be_infinite_and_nothing_else(tmp_path: Path) -> None:
    mask = torch.nn.Transformer.generate_square_subsequent_mask(3)
    torch.save({"mask": mask, "x": torch.ones(2, 2)}, tmp_path / "w.pth")
    to_safetensors(tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert torch.equal(load_file(tmp_path / "w.safetensors")["mask"], mask)
    for wrong in (-mask, mask.T.contiguous(), mask[:2], mask + torch.eye(3), torch.full((3, 3), -torch.inf)):
        torch.save({"mask": wrong}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"the weight mask holds NaN or infinity"):
            to_safetensors(tmp_path / "w.pth", tmp_path / "no.safetensors")
