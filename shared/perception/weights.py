"""Weights of the networks that score: of those that are defined here a safetensors file of the published names, of a
library's its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from shared.utils.errors import UserError
from shared.utils.folder_check import check_folder
from shared.utils.hub import first_line
from shared.utils.progress import quiet_loading
from shared.utils.weights_folder import read_header

Module = TypeVar("Module", bound=nn.Module)
#: What a batch norm counts while it trains; some files have it, and it changes nothing.
IDLE = "num_batches_tracked"


def load_weights(module: Module, path: Path, drop: tuple[str, ...] = (), name_of: Callable[[str], str] = str) -> Module:
    """Load a safetensors file, or the only one in a folder, into `module`; names that begin with one of `drop` are left
    out. `name_of` gives the file's name for one of the module, where they differ. UserError for another file, and for
    names or shapes that are not the module's."""
    file = weights_file(path)
    there = {name: header.shape for name, header in read_header(file).items()}
    names = {name_of(name): name for name in module.state_dict() if not name.endswith(IDLE)}
    wanted = {public: tuple(module.state_dict()[name].shape) for public, name in names.items()}
    surplus = [name for name in there if name not in wanted and not name.endswith(IDLE) and not name.startswith(drop)]
    if missing := [name for name in wanted if name not in there]:
        has = f"; it has {surplus[0]}" if surplus else ""
        told = f"{len(missing)} weights are missing, as {missing[0]}{has}"
        raise UserError(f"{file}: {told}; the published names are needed")
    if surplus:
        raise UserError(f"{file}: {len(surplus)} weights do not belong to {type(module).__name__}, as {surplus[0]}")
    for name, shape in wanted.items():
        if there[name] != shape:
            raise UserError(f"{file}: {name} is {list(there[name])}; {list(shape)} is needed")
    weights = load_file(file)
    module.load_state_dict({name: weights[public] for public, name in names.items()}, strict=False)
    return module.eval().requires_grad_(False)


@contextmanager
def reading(folder: Path, kind: Any, name: str, wanted: str) -> Iterator[None]:
    """Look at a folder of transformers before it is read in this context, as a model of class `kind`. UserError, which
    says what is `wanted`, where it holds no `name` or not all of it."""
    try:
        check_folder(kind, folder, f"{folder}: ")
        with quiet_loading():
            yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: no {name} ({first_line(error)}); {wanted}") from error


def weights_file(path: Path) -> Path:
    """Find the safetensors file that `path` is, or the only one in it. UserError for none, or several."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1 or files[0].suffix != ".safetensors":
        held = f"{len(files)} safetensors files" if path.is_dir() else "no safetensors file"
        raise UserError(f"{path}: {held}; give one file, converted as docs/score.md says")
    return files[0]
