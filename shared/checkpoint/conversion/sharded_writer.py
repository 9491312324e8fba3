"""A checkpoint's weights to the disk, one file at a time; a folder appears whole or not at all."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.checkpoint.conversion.weight_map import SourceTensor, WeightMap
from shared.checkpoint.folder import WEIGHTS
from shared.utils.errors import UserError
from shared.utils.finite import check_tensors
from shared.utils.progress import bar as progress_bar
from shared.utils.rng import derive

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_BLOCK = re.compile(r"\.(\d+)\.")


class FreshTensors:
    """New tensors of a model whose blocks are all alike, as the model itself makes them.
    `build` makes it with one block. Each block, and what is outside, has its own seed; one is kept: ask in order."""

    def __init__(self, build: Callable[[], nn.Module], seed: int) -> None:
        self.build, self.seed = build, seed
        self._kept: tuple[int, dict[str, Tensor]] = (-2, {})

    def __call__(self, name: str) -> Tensor:
        """Make the fresh tensor of this name."""
        if self._kept[0] != (block := block_of(name)):
            self._kept = (-2, {})  # two at once would take twice the memory
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(self.seed, "weights", block))
                self._kept = (block, self.build().state_dict())
        return self._kept[1][_BLOCK.sub(".0.", name, count=1)]


def block_of(name: str) -> int:
    """Find the number of the block that a tensor is in, the first number of its name; -1 outside the blocks."""
    return int(match[1]) if (match := _BLOCK.search(name)) else -1


def planned(mapping: WeightMap, dtype: torch.dtype | None, fp32: Iterable[str] = ()) -> dict[str, Tensor]:
    """Tensors without values of what `write_tensors` will write, block by block. `dtype` None keeps what the sources
    have, and makes new tensors float32. Names that hold one of `fp32` are float32."""
    tensors = {}
    for name in sorted(mapping.shapes, key=block_of):
        origin, kind = mapping.origins[name], dtype or torch.float32
        if any(part in name for part in fp32):
            kind = torch.float32
        elif dtype is None and isinstance(origin, SourceTensor):
            kind = DTYPES[origin.weights.dtypes[origin.name]]
        tensors[name] = torch.empty(mapping.shapes[name], dtype=kind, device="meta")
    return tensors


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def write_tensors(
    folder: Path, plan: Mapping[str, Tensor], mapping: WeightMap, shard_size: str,
    fresh: Callable[[str], Tensor] | None = None, stem: str = WEIGHTS,
) -> None:  # fmt: skip
    """Write the tensors of `plan` to `folder` as diffusers has them, in files `stem` of at most `shard_size` ("5GB").
    One file's tensors are in memory at a time. `fresh` makes those that the mapping calls new. UserError for a weight
    of a source that is not finite."""
    pattern = stem.replace(".", "{suffix}.")  # huggingface_hub fills in "-00001-of-00002"
    split = split_torch_state_dict_into_shards(dict(plan), filename_pattern=pattern, max_shard_size=shard_size)
    with progress_bar(total=size_of(plan.values()), unit="B", unit_scale=True, desc=folder.name) as bar:
        for file, names in split.filename_to_tensors.items():
            part = {}
            for name in names:
                origin = mapping.origins[name]
                if isinstance(origin, SourceTensor):
                    value = origin.weights.read(origin.name)
                else:
                    assert fresh is not None, "a mapping with new tensors needs their maker"
                    value = fresh(name)
                part[name] = value.detach().to(plan[name].dtype, copy=True).contiguous()
                if isinstance(origin, SourceTensor):
                    check_tensors({origin.name: part[name]}, origin.weights.label)
                bar.update(size_of([part[name]]))
            save_file(part, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / f"{stem}.index.json").write_text(text, encoding="utf-8")


def check_output(path: Path) -> None:
    """Refuse to write over anything. Raises UserError."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"--output {path}: exists already; remove it or choose another place")


def check_space(path: Path, needed: int) -> None:
    """Raise UserError unless the disk that will hold `path` has `needed` bytes free."""
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    if (free := shutil.disk_usage(there).free) < needed:
        raise UserError(f"--output {path}: needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free there")
