"""Adapters written in a layout that others read: diffusers', Wan's original names, musubi's, PEFT's, or ours."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shared.checkpoint.lora_file import FILE, METADATA, PEFT_FILE, lora_file, read_header, shapes
from shared.checkpoint.lora_layout import Layout, group_tensors, layer_name, layout_of
from shared.checkpoint.lora_weights import (
    Adapter,
    find_places,
    peft_settings,
    peft_weights,
    read_adapters,
    told_changes,
)
from shared.utils.errors import UserError
from shared.utils.files import replacing, replacing_folder
from shared.utils.finite import check_tensors

Parts = Mapping[str, Mapping[str, Adapter]]


def convert_lora(source: Path, layout: Layout, output: Path, dtype: torch.dtype | None = None) -> list[str]:
    """Write the adapters at `source`, of any layout, in another: a folder, or of original and musubi a file. Returns
    what to say of it. UserError: no adapters, or layers that the layout has no names for; nothing is written then."""
    file = lora_file(source)
    settings, sizes = read_header(file), shapes(file)
    places = find_places(sizes, None, str(file))
    weights = load_file(file)
    check_tensors(weights, f"lora {file}")
    parts = read_adapters(weights, settings, places.layers, str(file))
    ranks = sorted({one.rank for part in parts.values() for one in part.values()})
    layers = f"{len(places.layers)} layers of rank {', '.join(map(str, ranks))}"
    said = [f"{file}: {layers}, layout {layout_of(group_tensors(sizes, str(file)))}"]
    if left := told_changes(weights, places.left):
        said.append(left)
    write_lora(parts, layout, output, str(file), dtype)
    return [*said, f"written to {output}, layout {layout}"]


def write_lora(parts: Parts, layout: Layout, output: Path, where: str, dtype: torch.dtype | None = None) -> None:
    """Write adapters by component and layer; a folder or a file as `convert_lora` has it."""
    if layout == "peft":
        return _write_peft(parts, output, where, dtype)
    tensors, header = lora_tensors(parts, layout, where, dtype)
    output.parent.mkdir(parents=True, exist_ok=True)
    if layout in ("original", "musubi"):
        with replacing(output) as partial:
            save_file(tensors, partial, metadata=header)
    else:
        with replacing_folder(output) as folder:
            save_file(tensors, folder / FILE, metadata=header)


def _write_peft(parts: Parts, output: Path, where: str, dtype: torch.dtype | None) -> None:
    """PEFT's adapter_config.json and weights; of several components a folder each, for PEFT adapts one model."""
    from peft import LoraConfig

    files = {component: lora_tensors({component: part}, "peft", where, dtype) for component, part in parts.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(output) as folder:
        for component, (tensors, header) in files.items():
            place = folder / component if len(files) > 1 else folder
            place.mkdir(exist_ok=True)
            save_file(tensors, place / PEFT_FILE, metadata=header)
            LoraConfig(**peft_settings(parts[component]), inference_mode=True).save_pretrained(place)


def lora_tensors(
    parts: Parts, layout: Layout, where: str, dtype: torch.dtype | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file of adapters in this layout. UserError for a layer that it has no name for."""
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for component, adapters in parts.items():
        layers = {layer_name(layout, component, name, where): one for name, one in adapters.items()}
        if layout in ("original", "musubi"):
            for layer, one in layers.items():
                tensors |= _kohya(layer, one, where) if layout == "musubi" else _original(layer, one)
            continue
        tensors |= peft_weights(layers)
        names = {layer.removeprefix(f"{component}."): one for layer, one in layers.items()}
        settings |= {f"{component}.{key}": value for key, value in peft_settings(names).items()}
    kinds = {name: value.dtype if name.endswith(".alpha") else dtype or value.dtype for name, value in tensors.items()}
    cast = {name: value.to(kinds[name]).contiguous() for name, value in tensors.items()}
    if dtype == torch.float16:  # whose largest number others exceed
        check_tensors(cast, f"lora {where}, as {dtype}")
    header = {METADATA: json.dumps(settings, sort_keys=True)} if layout in ("ours", "diffusers") else {}
    return cast, {"format": "pt", **header}


def _original(layer: str, one: Adapter) -> dict[str, Tensor]:
    """Tensors with an alpha where it is not the rank; within B outside the blocks, where diffusers reads none."""
    b, alpha = one.b, {f"{layer}.alpha": torch.tensor(one.alpha)}
    if one.alpha == one.rank:
        alpha = {}
    elif ".blocks." not in layer:
        b, alpha = (b.float() * (one.alpha / one.rank)).to(b.dtype), {}
    bias = {} if one.bias is None else {f"{layer}.diff_b": one.bias}
    return {f"{layer}.lora_A.weight": one.a, f"{layer}.lora_B.weight": b, **alpha, **bias}


def _kohya(layer: str, one: Adapter, where: str) -> dict[str, Tensor]:
    if one.bias is not None:
        raise UserError(f"lora {where}: {layer} changes a bias, which musubi does not; take another layout")
    down, up = f"{layer}.lora_down.weight", f"{layer}.lora_up.weight"
    return {down: one.a, up: one.b, f"{layer}.alpha": torch.tensor(one.alpha)}
