"""Compiled blocks: torch's compiler makes one kernel of what stands between two matrix products."""

import shutil
import warnings
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn

from shared.utils.errors import UserError

#: Forms of one block that may be compiled: tasks, lengths, sizes. Beyond, torch would run the block as it is.
MOST_FORMS = 64
_COMPLEX = "Torchinductor does not support code generation for complex operators"  # the rotation's angles, of any input


def compile_blocks(model: nn.Module, option: str) -> None:
    """Let the repeated blocks of diffusers' model be compiled when they first run: a form of them at a time, minutes
    each on a CPU. UserError, which names `option`, where the model has none or a compiler is missing."""
    names = getattr(model, "_repeated_blocks", None)
    if not names:
        raise UserError(f"{option}: {type(model).__name__} names no blocks to compile; leave it out")
    on_gpu = next(model.parameters()).device.type == "cuda" or torch.cuda.is_available()
    if on_gpu and find_spec("triton") is None:
        raise UserError(f"{option}: on a GPU the package triton is needed, which is not installed")
    if not on_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise UserError(f"{option}: on a CPU a C++ compiler is needed, such as g++, and none was found")
    torch._dynamo.config.recompile_limit = max(MOST_FORMS, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # it would run blocks as they are, and only warn
    warnings.filterwarnings("ignore", _COMPLEX)
    cast(Any, model).compile_repeated_blocks()
