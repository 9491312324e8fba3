"""The one checkpoint folder: a diffusers pipeline folder, safetensors only, with a model card; written all or nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open

from shared.errors import UserError

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)
INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_checkpoint(pipeline: DiffusionPipeline, folder: str | Path, card: str) -> None:
    """Write `pipeline` and its model card to `folder`; a folder already there is replaced only once all is written."""
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial, safe_serialization=True)
    (partial / "README.md").write_text(card)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def check_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The folder's index, after a look at every file that it promises.

    Raises:
        UserError: no folder, no index, a component without its config or weights, or weights that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"checkpoint {folder}: no such folder")
    try:
        index = json.loads((folder / INDEX).read_text())
    except OSError:
        raise UserError(f"checkpoint {folder}: {INDEX} is missing, so this is no checkpoint folder") from None
    except ValueError as error:
        raise UserError(f"checkpoint {folder}: {INDEX} is not JSON ({error})") from None
    for name, kind in index.items():
        if name.startswith("_") or not isinstance(kind, list) or kind[0] is None:
            continue
        _check_component(folder / name, weights="scheduler" not in name)
    return index


def _check_component(folder: Path, weights: bool) -> None:
    config = folder / ("config.json" if weights else "scheduler_config.json")
    if not config.is_file():
        raise UserError(f"checkpoint {folder.parent}: {folder.name}/{config.name} is missing; copy the whole folder again")
    if not weights:
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"checkpoint {folder.parent}: {folder.name}/{WEIGHTS} is missing; copy the whole folder again")
    for file in files:
        try:
            with safe_open(file, framework="pt") as handle:
                handle.keys()
        except SafetensorError as error:
            raise UserError(f"checkpoint {folder.parent}: {folder.name}/{file.name} is damaged ({error})") from None


def load_checkpoint(
    kind: type[Pipeline], folder: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Pipeline:
    """A pipeline from a checkpoint folder, on `device`; every file is checked first.

    Raises:
        UserError: see `check_checkpoint`.
    """
    check_checkpoint(folder)
    pipeline = kind.from_pretrained(str(folder), torch_dtype=dtype, local_files_only=True, use_safetensors=True)
    return pipeline.to(device)
