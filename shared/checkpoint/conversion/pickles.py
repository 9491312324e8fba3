"""Pickled weights (.pth, .pt, .bin) to safetensors, through torch's reader of weights alone."""

import math
import re
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import save_file
from torch import Tensor

from shared.checkpoint.conversion.sharded_writer import check_space, size_of
from shared.checkpoint.folder import PICKLES
from shared.utils.errors import UserError
from shared.utils.files import replacing
from shared.utils.finite import check_tensors
from shared.utils.hub import first_line

_UNKNOWN = re.compile(r"(Unsupported (global|class|operand)|Trying to load unsupported GLOBAL)[^\n]*?(?= was not|$|\n)")
READ = (*PICKLES, ".model")  # the last is SyncNet's; in a model's folder a file of that name is a tokenizer's
#: Under which of these a training checkpoint keeps its weights.
NESTED = ("state_dict", "model_state_dict", "model", "module")


def to_safetensors(source: Path, output: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Write a pickle's tensors, nested ones too, to the file `output`; return them, and the entries that are none.
    `torch.load(weights_only=True)` refuses and does not run all else. UserError: no pickle of tensors, one that
    is not finite and no causal mask, or no space."""
    if source.suffix not in READ:
        raise UserError(f"{source}: one of {', '.join(READ)} is turned into safetensors")
    content = _read(source)
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((content[name] for name in NESTED if isinstance(content.get(name), dict)), None)
        if inner is None:
            raise UserError(f"{source}: holds no tensors by name ({', '.join(map(str, list(content)[:3]))})")
        content = inner
    if not isinstance(content, dict):
        raise UserError(f"{source}: holds a {type(content).__name__}; tensors by name are needed")
    tensors = {str(name): value.contiguous() for name, value in content.items() if isinstance(value, Tensor)}
    check_tensors({name: value for name, value in tensors.items() if not _is_causal_mask(value)}, str(source))
    check_space(output, size_of(tensors.values()))
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as partial:
        save_file(_apart(tensors), partial, metadata={"format": "pt"})
    return tensors, [str(name) for name, value in content.items() if not isinstance(value, Tensor)]


def _read(source: Path) -> Any:
    try:  # older files, which are no zip files, cannot be mapped
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(source, map_location="cpu", weights_only=True, mmap=is_zipfile(source))
    except UnpicklingError as error:  # torch advises to read it all the same, and names what it holds further on
        reason = _UNKNOWN.search(str(error))
        why = f" ({reason[0]})" if reason else ""
        raise UserError(f"{source}: holds more than weights, or is none; it is not read{why}") from None
    except Exception as error:  # a damaged pickle raises whatever its reader runs into
        raise UserError(f"{source}: cannot be read ({first_line(error)})") from None


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors where two share memory, which a file cannot."""
    first: dict[int, str] = {}
    owners = {name: first.setdefault(tensor.untyped_storage().data_ptr(), name) for name, tensor in tensors.items()}
    return {name: tensor if owners[name] == name else tensor.clone() for name, tensor in tensors.items()}


def _is_causal_mask(values: Tensor) -> bool:
    """Whether it is -inf above its diagonal and else 0, which attention adds (ImageBind's file has one)."""
    if values.ndim != 2 or len(set(values.shape)) > 1 or not values.numel() or values[0, -1] != -math.inf:
        return False
    return torch.equal(values, torch.full_like(values, -math.inf).triu(1))
