"""Weights that others saved: names and shapes at once, tensors one by one. safetensors only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from shared.checkpoint.folder import PICKLES, WEIGHTS
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.weights_folder import FLOATS, index_map

if TYPE_CHECKING:  # what is wrong with a path is said before torch is loaded
    import torch


@dataclass(frozen=True, eq=False)
class SourceWeights:
    """Tensors of one checkpoint, which reports call `label`; `read` gives one by name. `dtypes`: safetensors' words."""

    label: str
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    read: Callable[[str], torch.Tensor]

    @classmethod
    def open(cls, source: Path, label: str | None = None) -> SourceWeights:
        """Open the `weight_files`. UserError: one is missing or damaged, quantised, or a name stands in two of them."""
        places: dict[str, Any] = {}
        shapes, dtypes = {}, {}
        for file in weight_files(source):
            try:
                handle = safe_open(file, framework="pt")
                for name in handle.keys():  # noqa: SIM118  it is no mapping
                    if name in places:
                        raise UserError(f"{source}: {name} stands in two files; the files of one model are needed")
                    part = handle.get_slice(name)
                    places[name], shapes[name], dtypes[name] = handle, tuple(part.get_shape()), part.get_dtype()
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file}: damaged ({error}); copy it again") from None
        if quantised := sorted(name for name, dtype in dtypes.items() if dtype not in FLOATS):
            what = f"{named(quantised)} of type {dtypes[quantised[0]]}; quantised weights cannot be converted"
            raise UserError(f"{source}: {what}, take those in {', '.join(FLOATS)}")
        return cls(label or source.name, shapes, dtypes, lambda name: places[name].get_tensor(name))


def weight_files(source: Path) -> list[Path]:
    """Find the files of one model: a file, or in a folder those of its index, the usual, or the only one; UserError."""
    if source.is_file():
        if source.suffix in PICKLES:
            raise _refused(source)
        if source.suffix != ".safetensors":
            raise UserError(f"{source}: a .safetensors file, or a folder with one, is needed")
        return [source]
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder")
    indices, files = (sorted(source.glob(pattern)) for pattern in ("*.safetensors.index.json", "*.safetensors"))
    for found, usual in ((indices, f"{WEIGHTS}.index.json"), (files, WEIGHTS)):
        chosen = [file for file in found if file.name == usual] or found
        if len(chosen) == 1:
            return _indexed(source, chosen[0]) if found is indices else chosen
    if files or indices:
        raise UserError(f"{source}: holds {', '.join(file.name for file in files or indices)}; name one of the files")
    if pickles := sorted(file for file in source.iterdir() if file.suffix in PICKLES):
        raise _refused(pickles[0])
    raise UserError(f"{source}: no .safetensors file in this folder")


def named(keys: list[str]) -> str:
    """Name the first of `keys` for an error of one line: 4 tensors (a, b, c ...)."""
    return f"{len(keys)} tensor{'s' * (len(keys) != 1)} ({', '.join(keys[:3])}{' ...' * (len(keys) > 3)})"


def _refused(pickle: Path) -> UserError:
    what = "a pickle can run anything when it is read, so it is not read here; turn it into safetensors first"
    command = f"scripts/convert.py to-safetensors --source {pickle.name} --output {pickle.stem}.safetensors"
    return UserError(f"{pickle}: {what}: {command}")


def _indexed(folder: Path, index: Path) -> list[Path]:
    entries = index_map(read_json(index), str(index))
    files = [folder / name for name in sorted(set(entries.values()))]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"{missing[0]}: missing, and {index.name} names it; copy the whole folder again")
    return files
