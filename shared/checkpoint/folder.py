"""The one checkpoint folder: a diffusers pipeline folder, safetensors only, with a card; all or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from safetensors import SafetensorError, safe_open

from shared.utils.errors import UserError

if TYPE_CHECKING:  # checking a folder needs neither of them, and they take seconds to import
    import torch
    from diffusers import DiffusionPipeline

Pipeline = TypeVar("Pipeline", bound="DiffusionPipeline")
INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
#: Packages whose classes an index may name: loading imports what it names, so others are refused unseen.
OURS = ("ccl", "mtv", "shared")
TRUSTED = (*OURS, "diffusers", "transformers")
#: Classes with a model in a folder inside their own.
INNER = {"LTX2AudioCodec": "vocoder"}
#: What joint sampling needs.
JOINT = ("transformer", "video_codec", "audio_codec", "text_encoder", "scheduler", "audio_scheduler")


class CheckpointMixin:
    """`from_pretrained` for pipelines of our folders; stands before `DiffusionPipeline` among a class's bases.

    diffusers loads a component only if its module is imported already, and a folder may name modules that its pipeline
    does not know: the other pipeline's, or another codec's. They are imported here, ours alone, after a look at the
    whole folder.
    """

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """A pipeline from a folder (or a hub id). Raises UserError as `check_checkpoint`."""
        if Path(folder).is_dir():
            for kind in check_checkpoint(folder).values():
                if isinstance(kind, list) and kind[0] and kind[0].partition(".")[0] in OURS:
                    import_module(kind[0])
        pipeline: Self = super().from_pretrained(folder, **options)  # type: ignore[misc]
        return pipeline


def save_checkpoint(pipeline: DiffusionPipeline, folder: str | Path, card: str, shard_size: str = "5GB") -> None:
    """Write `pipeline` and its model card to `folder`; one already there is replaced once all is written.

    Weights that would exceed `shard_size` ("14MB") are cut into several files.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial, safe_serialization=True, max_shard_size=shard_size)
    (partial / "README.md").write_text(card, encoding="utf-8")
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():  # otherwise a kill between the two renames left `old` as the only one
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    kind: type[Pipeline],
    folder: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> Pipeline:
    """A pipeline from a checkpoint folder, on `device`, in `dtype` (None: float32); files are checked first.

    Raises:
        UserError: see `check_checkpoint`.
    """
    import torch

    check_checkpoint(folder)
    pipeline = kind.from_pretrained(
        str(folder), dtype=dtype or torch.float32, local_files_only=True, use_safetensors=True
    )
    return pipeline.to(device)


def check_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The folder's index, after a look at every file that it promises. Nothing is imported.

    Raises:
        UserError: no folder, no index, a class from a package not in `TRUSTED`, a component without config
            or weights, or a file that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"checkpoint {folder}: no such folder; one that holds {INDEX} is needed")
    if not (folder / INDEX).is_file():
        raise UserError(f"checkpoint {folder}: {INDEX} is missing, so this is no checkpoint folder")
    index = _read_json(folder, INDEX)
    components = {name: kind for name, kind in index.items() if name[0] != "_" and isinstance(kind, list)}
    for name, kind in components.items():
        if kind == [None, None]:
            continue
        if len(kind) != 2 or not all(isinstance(part, str) for part in kind):
            raise UserError(f"checkpoint {folder}: {INDEX} has {name} = {kind}; [module, class] is expected")
        if kind[0].partition(".")[0] not in TRUSTED:
            raise UserError(
                f"checkpoint {folder}: {INDEX} takes {name} from module {kind[0]!r}, which is not trusted; "
                f"classes of {', '.join(TRUSTED)} are loaded"
            )
        _check_component(folder, name, weights="scheduler" not in name)
        if inner := INNER.get(kind[1]):
            _check_component(folder, f"{name}/{inner}", weights=True)
    return index


def check_joint(found: Mapping[str, Any], where: str = "") -> None:
    """Raises UserError unless `found`, an index or components by name, has all that joint sampling needs."""
    missing = [name for name in JOINT if found.get(name) in (None, [None, None])]
    if not missing:
        return
    advice = "copy the whole folder again"
    if all(name.startswith("audio_") for name in missing):
        advice = "a model of the video alone: scripts/sample_mtv.py drives one that has control, by speech and sounds"
    raise UserError(f"{where}no {' and no '.join(missing)}; {advice}")


def _check_component(folder: Path, name: str, weights: bool) -> None:
    config = f"{name}/{'config.json' if weights else 'scheduler_config.json'}"
    _require(folder, config)
    _read_json(folder, config)
    if not weights:
        return
    files = {file.name for file in (folder / name).glob("*.safetensors")}
    for shards in (folder / name).glob("*.safetensors.index.json"):
        files |= set(_read_json(folder, f"{name}/{shards.name}").get("weight_map", {}).values())
    for file in sorted(files or {WEIGHTS}):
        _require(folder, f"{name}/{file}")
        try:
            with safe_open(folder / name / file, framework="np") as handle:
                handle.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"checkpoint {folder}: {name}/{file} is damaged ({error}); copy the whole folder again"
            ) from None


def _require(folder: Path, file: str) -> None:
    if not (folder / file).is_file():
        raise UserError(f"checkpoint {folder}: {file} is missing; copy the whole folder again")


def _read_json(folder: Path, file: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {folder}: {file} is damaged ({error}); copy the whole folder again") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {folder}: {file} holds no JSON object; copy the whole folder again")
    return content
