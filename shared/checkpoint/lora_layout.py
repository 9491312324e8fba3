"""Layouts of LoRA files: which layer of a model of ours a tensor of a file belongs to, and back; without torch.

transformer.blocks.0.video.attn1.to_q         ours: diffusers' form, for our transformer (and control.)
transformer.blocks.0.attn1.to_q               diffusers: for its WanTransformer3DModel
diffusion_model.blocks.0.self_attn.q          original: Wan's own names, or without the prefix
lora_unet_blocks_0_self_attn_q                musubi: of musubi-tuner, as kohya's scripts write them
base_model.model.blocks.0.video.attn1.to_q    peft: for our transformer, or for a Wan
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from shared.checkpoint.wan_names import BLOCK, TOP, to_diffusers, to_original
from shared.nn.parameter_names import joint_name, part_of, stream_name
from shared.utils.errors import UserError

Layout = Literal["ours", "diffusers", "original", "musubi", "peft"]
#: What stands before a layer's name -> the parts of a pipeline that it may be of.
PREFIXES = {
    "transformer.": ("transformer",), "control.": ("control",), "diffusion_model.": ("transformer",),
    "lora_unet_": ("transformer",), "base_model.model.": ("transformer", "control"), "": ("transformer",),
}  # fmt: skip
#: What ends a tensor's name -> what it is for its layer. A `diff` is a difference of the whole weight.
ROLES = {
    ".lora_A.weight": "A", ".lora_B.weight": "B", ".lora_down.weight": "A", ".lora_up.weight": "B",
    ".lora_A.default.weight": "A", ".lora_B.default.weight": "B", ".alpha": "alpha",
    ".lora_B.bias": "scaled bias", ".diff_b": "bias", ".diff": "diff", ".diff_m": "modulation",
}  # fmt: skip
#: Names of musubi within a block, and outside the blocks -> original ones.
_DOTTED = [{name.rstrip(".").replace(".", "_"): name.rstrip(".") for name in names} for names in (BLOCK, TOP)]
_BY_PREFIX: dict[str, Layout] = {"lora_unet_": "musubi", "diffusion_model.": "original", "base_model.model.": "peft"}
_MUSUBI_BLOCK = re.compile(r"blocks_(\d+)_(.+)")


def group_tensors(names: Iterable[str], where: str) -> dict[str, dict[str, str]]:
    """Sort the tensors of a file: {layer, in the file's words: {role: tensor}}. UserError for others than LoRA's."""
    names = sorted(names)
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        suffix = next((suffix for suffix in ROLES if name.endswith(suffix)), None)
        if suffix is None:
            if not any(".lora_" in one for one in names):
                raise UserError(f"lora {where}: holds no LoRA weights; {name} is none, give a file of adapters")
            raise UserError(f"lora {where}: {name} is unknown; tensors that end in {', '.join(ROLES)} are loaded")
        roles = layers.setdefault(name.removesuffix(suffix), {})
        if ROLES[suffix] in roles:
            raise UserError(f"lora {where}: {name} and {roles[ROLES[suffix]]} are the same part of one layer")
        roles[ROLES[suffix]] = name
    if not any({"A", "B"} & roles.keys() for roles in layers.values()):
        raise UserError(f"lora {where}: holds no LoRA weights; a file with lora_A and lora_B of layers is needed")
    return layers


def bare_name(layer: str) -> str:
    """Name of a file's layer without what its layout puts before it, of musubi with dots."""
    prefix = _prefix(layer)
    name = layer.removeprefix(prefix)
    return (_from_musubi(name) or name) if prefix == "lora_unet_" else name


def readings(layer: str) -> list[tuple[str, str]]:
    """Names that a layer of a file may have in our pipelines, (component, name): as it is, then as a Wan's layer in the
    video stream, if a Wan has one of that name."""
    name = bare_name(layer)
    wan = _layer(to_diffusers, name) or (name if _layer(to_original, name) else None)
    names = [name] if wan is None else [name, joint_name("video", wan)]
    return [(component, one) for component in PREFIXES[_prefix(layer)] for one in names]


def likeliest(layers: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Place the layers of a file, (component, name), where no model is at hand: a file is of a Wan, or as it is."""
    layers = list(layers)
    as_it_is = layout_of(layers) in ("ours", "peft") and any(_is_ours(bare_name(layer)) for layer in layers)
    places = {}
    for layer in layers:
        names = readings(layer)
        of_transformer = [place for place in names if place[0] == "transformer"]
        wans = len(of_transformer) > 1  # else PEFT's files of neither are the control network's
        places[layer] = names[0] if as_it_is else of_transformer[-1] if wans else names[-1]
    return places


def layer_name(layout: Layout, component: str, name: str, where: str) -> str:
    """Name a layer of ours in a file of this layout. UserError if it has no place there."""
    if layout == "ours":
        return f"{component}.{name}"
    if layout == "peft":
        return f"base_model.model.{name}"
    stream = stream_name(name) if component == "transformer" else None
    original = _layer(to_original, stream[1]) if stream is not None and stream[0] == "video" else None
    if stream is None or original is None:
        advice = "train adapters with lora.targets [video], or write them as ours or peft"
        raise UserError(
            f"lora {where}: {component}.{name} is no layer of a Wan, so {layout} has no name for it; {advice}"
        )
    if layout == "diffusers":
        return f"transformer.{stream[1]}"
    if layout == "original":
        return f"diffusion_model.{original}"
    if not original.startswith("blocks."):
        what = f"{component}.{name} is outside the blocks, where musubi has no adapters"
        raise UserError(f"lora {where}: {what}; take another layout")
    return f"lora_unet_{original.replace('.', '_')}"


def layout_of(layers: Iterable[str]) -> Layout:
    """Tell the layout of a file by its layers."""
    layers = list(layers)
    prefixes = {_prefix(layer) for layer in layers}
    for prefix, layout in _BY_PREFIX.items():
        if prefix in prefixes:
            return layout
    names = [bare_name(layer) for layer in layers]
    if any(_is_ours(name) for name in names):
        return "ours"
    if any(_layer(to_diffusers, name) for name in names):
        return "original"
    return "diffusers" if any(_layer(to_original, name) for name in names) else "ours"


def describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say what adapters fit a model whose linear layers have these `shapes`, [out, in] by name."""
    queries = {name: shape for name, shape in shapes.items() if name.endswith("attn1.to_q") and ".audio." not in name}
    width = next((shape[1] for shape in queries.values()), None)
    numbers = [int(match[1]) for name in shapes if (match := re.search(r"blocks\.(\d+)\.", name))]
    if width is None or not numbers:
        return f"adapters of layers as {next(iter(shapes), 'none')} fit"
    known = {(30, 1536): "Wan2.1 1.3B", (30, 3072): "Wan2.2 5B", (40, 5120): "Wan 14B"}
    size = (max(numbers) + 1, width)
    name = f", as {known[size]} is," if size in known else ""
    return f"adapters of {size[0]} blocks of width {width}{name} fit"


def _prefix(layer: str) -> str:
    return next(prefix for prefix in PREFIXES if layer.startswith(prefix))


def _is_ours(name: str) -> bool:
    """Whether no Wan has a layer of this name: it is in a joint model, or in CogVideoX."""
    return part_of(name) in ("video_stream", "audio_stream", "fusion", "transformer_blocks")


def _from_musubi(name: str) -> str | None:
    if inside := _MUSUBI_BLOCK.fullmatch(name):
        dotted = _DOTTED[0].get(inside[2])
        return dotted and f"blocks.{inside[1]}.{dotted}"
    return _DOTTED[1].get(name)


def _layer(rename: Callable[[str], str | None], name: str) -> str | None:
    """Rename a layer as its weight is renamed."""
    renamed = rename(f"{name}.weight")
    return renamed and renamed.removesuffix(".weight")
