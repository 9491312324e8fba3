"""MTV's public weights (baaivision/MTVCraft): the backbone into diffusers' CogVideoX, the control by its own names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, named, weight_files
from shared.checkpoint.conversion.weight_map import SourceTensor, WeightMap, report_rows, shapes_of
from shared.utils.cli import Options, option
from shared.utils.config_sections import ShardSize
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder
from shared.utils.markdown import markdown_table
from shared.utils.ranges import Side
from shared.utils.version import commit

if TYPE_CHECKING:  # what is wrong with a path is said before torch is loaded
    import torch
    from torch import nn

PREFIX, CONTROL = "model.diffusion_model.", "transformer."
#: Public names behind PREFIX -> diffusers'; "." ends stand for weight and bias, {} for the number of a block.
OUTSIDE = {
    "time_embed.0.": "time_embedding.linear_1.", "time_embed.2.": "time_embedding.linear_2.",
    "mixins.patch_embed.proj.": "patch_embed.proj.", "mixins.patch_embed.text_proj.": "patch_embed.text_proj.",
    "mixins.pos_embed.pos_embedding": "patch_embed.pos_embedding",
    "mixins.final_layer.norm_final.": "norm_out.norm.", "mixins.final_layer.linear.": "proj_out.",
    "mixins.final_layer.adaLN_modulation.1.": "norm_out.linear.", "transformer.final_layernorm.": "norm_final.",
}  # fmt: skip
IN_BLOCK = {
    "transformer.layers.{}.input_layernorm.": "norm1.norm.",
    "transformer.layers.{}.post_attention_layernorm.": "norm2.norm.",
    "transformer.layers.{}.attention.dense.": "attn1.to_out.0.",
    "transformer.layers.{}.mlp.dense_h_to_4h.": "ff.net.0.proj.",
    "transformer.layers.{}.mlp.dense_4h_to_h.": "ff.net.2.",
    "mixins.adaln_layer.query_layernorm_list.{}.": "attn1.norm_q.",
    "mixins.adaln_layer.key_layernorm_list.{}.": "attn1.norm_k.",
}  # fmt: skip
#: One public tensor -> several: (number of equal parts, which of them each has, in this order).
DIVIDED: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "transformer.layers.{}.attention.query_key_value.": (3, {f"attn1.to_{x}.": (i,) for i, x in enumerate("qkv")}),
    # shift, scale, gate of attention and of the feed-forward part, for the video, then the same for the text
    "mixins.adaln_layer.adaLN_modulations.{}.1.":
        (12, {"norm1.linear.": (0, 1, 2, 6, 7, 8), "norm2.linear.": (3, 4, 5, 9, 10, 11)}),
}  # fmt: skip
#: Of the control network, behind PREFIX: its names are the public ones without CONTROL.
_CONTROL = re.compile(
    r"transformer\.(?:audio_(?:proj|proj_effect|proj_music|combine|vocal_embedding|vocal_embedding_1)\b"
    r"|layers\.\d+\.audio_).*"
)
_NUMBER = re.compile(r"\.(\d+)\.")
LEFT = {
    f"{PREFIX}mixins.pos_embed.freqs_": "a table of the rotation, which is computed",
    f"{PREFIX}transformer.word_embeddings.": "of no use in the public code either",
    f"{PREFIX}transformer.position_embeddings.": "of no use in the public code either",
    "conditioner.": "the text encoder is taken from a folder of transformers",
    "first_stage_model.": "the autoencoder is taken from a folder of diffusers",
}  # fmt: skip
TRANSFORMER_PART, CONTROL_PART = PARTS = "transformer", "control"
#: Lists of blocks, whose numbers reports leave out.
_BLOCK = re.compile(r"(layers|blocks|adaLN_modulations|layernorm_list)\.\d+\.")
USE = """Sample it with `python scripts/sample_mtv.py --checkpoint FOLDER`, or read it with
`MTVPipeline.from_pretrained(folder)`: at the size above, in windows of 49 frames at 24 a second, with joint guidance,
which are its defaults. The licences of MTVCraft (Apache-2.0), CogVideoX and wav2vec2 hold for their weights."""
FRAMES, TEMPORAL, PATCH, INTERVAL_HEAD = 49, 4, 2, 16


class MTVCraftSizes(NamedTuple):
    """Arguments of diffusers' `CogVideoXTransformer3DModel` and of `mtv.mtvcraft.MTVCraftControl`."""

    transformer: dict[str, Any]
    control: dict[str, Any]


def divided(weights: SourceWeights) -> SourceWeights:
    """Weights whose fused tensors stand there part by part, "NAME[attn1.to_q.]"; no tensor is read for it."""
    shapes, dtypes, places = {}, {}, dict[str, tuple[str, int, tuple[int, ...]]]()
    for name, shape in weights.shapes.items():
        parts: dict[str, tuple[int, tuple[int, ...]]] = {name: (1, (0,))}
        if (known := _divided(name)) is not None:
            count, theirs = known
            parts = {f"{name}[{ours}]": (count, indices) for ours, indices in theirs.items()}
            if shape[0] % count:
                raise UserError(f"{weights.label}: {name} is {list(shape)}, which has no {count} equal parts")
        for part, (count, indices) in parts.items():
            places[part] = name, count, indices
            shapes[part] = (shape[0] // count * len(indices), *shape[1:]) if shape else shape
            dtypes[part] = weights.dtypes[name]

    def read(part: str) -> torch.Tensor:
        import torch

        name, count, indices = places[part]
        whole = weights.read(name)
        return whole if count == 1 else torch.cat([whole.chunk(count)[index] for index in indices])

    return SourceWeights(weights.label, shapes, dtypes, read)


def _divided(name: str) -> tuple[int, dict[str, tuple[int, ...]]] | None:
    kind = _NUMBER.sub(".{}.", name.removeprefix(PREFIX), count=1)
    stem, _, last = kind.rpartition(".")
    return DIVIDED.get(f"{stem}.") if name.startswith(PREFIX) and last in ("weight", "bias") else None


def our_name(name: str) -> str | None:
    """Give the name, with its part in front, that a tensor of `divided` weights has here; None for others."""
    name, _, piece = name.removesuffix("]").partition("[")
    if not name.startswith(PREFIX):
        return None
    name = name.removeprefix(PREFIX)
    if _CONTROL.fullmatch(name):
        return f"{CONTROL_PART}.{name.removeprefix(CONTROL)}"
    for theirs, ours in OUTSIDE.items():
        if name == theirs or (theirs.endswith(".") and name.removeprefix(theirs) in ("weight", "bias")):
            return f"{TRANSFORMER_PART}.{ours}{name.removeprefix(theirs)}"
    if (number := _NUMBER.search(name)) is None:
        return None
    kind = name[: number.start()] + ".{}." + name[number.end() :]
    stem, _, last = kind.rpartition(".")
    inside = piece or IN_BLOCK.get(f"{stem}.")
    return inside and f"{TRANSFORMER_PART}.transformer_blocks.{number[1]}.{inside}{last}"


def weight_map(shapes: Mapping[str, tuple[int, ...]], weights: SourceWeights) -> WeightMap:
    """Where each tensor of transformer and control comes from, by names with the part in front; `weights` `divided`.
    UserError: others than MTV's public ones."""
    mapping = WeightMap(shapes)
    mapping.take(weights, {ours: name for name in weights.shapes if (ours := our_name(name))})
    for start, why in LEFT.items():
        mapping.leave(weights, [name for name in weights.shapes if name.startswith(start)], why)
    mapping.check()
    return mapping


def sizes_of(weights: SourceWeights, size: tuple[int, int], spatial_stride: int) -> MTVCraftSizes:
    """Read the sizes off the shapes, of the public file; heads, patch and number of frames are those that were
    released. `size`: (height, width) in pixels that its learned positions are for. UserError: others than MTV's."""
    shapes = {name.removeprefix(PREFIX): shape for name, shape in weights.shapes.items() if name.startswith(PREFIX)}

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            what = f"{named(sorted(weights.shapes))}, and no {PREFIX}{name}"
            raise UserError(f"{weights.label}: {what}; public weights of MTVCraft, as safetensors, are needed")
        return shapes[name]

    width, channels, *_ = shape("mixins.patch_embed.proj.weight")
    head = shape("mixins.adaln_layer.query_layernorm_list.0.weight")[0]
    tokens, context = shape("transformer.audio_proj.proj3.weight")[0], shape("transformer.audio_proj.norm.weight")[0]
    time, blocks = shape("time_embed.0.weight")[0], _count(shapes, r"transformer\.layers\.(\d+)\.")
    height, wide = size[0] // spatial_stride, size[1] // spatial_stride
    patches = (height // PATCH) * (wide // PATCH) * ((FRAMES - 1) // TEMPORAL + 1)
    text = shape("mixins.pos_embed.pos_embedding")[1] - patches
    if text < 1:
        raise UserError(
            f"--size {size[0]} {size[1]}: {weights.label} has fewer positions; give the size it was made for"
        )
    transformer = {
        "num_attention_heads": width // head, "attention_head_dim": head, "in_channels": channels,
        "out_channels": shape("mixins.final_layer.linear.weight")[0] // PATCH**2, "num_layers": blocks,
        "time_embed_dim": time, "text_embed_dim": shape("mixins.patch_embed.text_proj.weight")[1],
        "sample_height": height, "sample_width": wide, "sample_frames": FRAMES, "max_text_seq_length": text,
        "use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": True,
    }  # fmt: skip
    control = {
        "backbone_dim": width, "backbone_heads": width // head, "num_blocks": blocks, "time_dim": time,
        "features": shape("transformer.audio_proj.proj1.weight")[1], "token_dim": context, "tokens": tokens // context,
        "hidden_dim": shape("transformer.audio_proj.proj1.weight")[0], "heads": context // INTERVAL_HEAD,
        "interaction_blocks": _count(shapes, r"transformer\.audio_combine\.dual_blocks\.(\d+)\."),
        "speakers": 2 if "transformer.audio_vocal_embedding_1" in shapes else 1,
    }  # fmt: skip
    return MTVCraftSizes(transformer, control)


def _count(names: Iterable[str], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1)


class MTVCraftOptions(Options):
    """MTV's public weights, as safetensors, to a checkpoint folder for audio-driven video."""

    source: Path = option(help=".safetensors file, or folder with one, of the public file (to-safetensors makes it)")
    cogvideox: Path = option(help="CogVideoX-5b of diffusers: its vae, text encoder and tokenizer", metavar="FOLDER")
    wav2vec2: str = option(help="facebook/wav2vec2-base-960h, or a folder with it", metavar="FOLDER")
    output: Path = option(help="new checkpoint folder", writes="folder")
    size: tuple[Side, Side] = option(
        (480, 720), "of the video that its positions were learned for", metavar=("HEIGHT", "WIDTH")
    )
    dtype: Literal["keep", "float32", "bfloat16"] = option("keep", "of the weights")
    shard_size: ShardSize = option("5GB", "largest file of weights")
    dry_run: bool = option(False, "only say what would be done")


class MTVCraftConversion:
    """A conversion with the origin of every tensor: `report` it, then `write` it."""

    def __init__(
        self, options: MTVCraftOptions, spatial_stride: int, build: Callable[[Any, Any], tuple[nn.Module, nn.Module]]
    ) -> None:
        """Open the weights; read no tensor. `build` makes both models without values, of `MTVCraftSizes`. UserError if
        anything does not fit, or the output exists."""
        weight_files(options.source)
        from shared.checkpoint.conversion.sharded_writer import check_output

        check_output(options.output)
        self.options = options
        weights = SourceWeights.open(options.source)
        self.models: tuple[Any, Any] = build(*sizes_of(weights, options.size, spatial_stride))
        named_models = zip(PARTS, self.models, strict=True)
        shapes = {f"{part}.{name}": shape for part, model in named_models for name, shape in shapes_of(model).items()}
        self.mapping = weight_map(shapes, divided(weights))

    def report(self) -> str:
        """Every tensor of the source and what it becomes, blocks taken together; then the sums."""
        folded = [f"{theirs}{f' ({count})' if count > 1 else ''} -> {ours}" for theirs, ours, count in self._names]
        return "\n".join([*folded, "", self.mapping.report()])

    @cached_property
    def _names(self) -> list[tuple[str, str, int]]:
        """Names of the source and of what they become, N for the number of a block, and how many there are."""
        pairs = [(o.name, ours) for ours, o in self.mapping.origins.items() if isinstance(o, SourceTensor)]
        pairs += [(name, f"left: {why}") for _, name, why in self.mapping.left]
        counts: dict[tuple[str, ...], int] = {}
        for pair in pairs:
            folded = tuple(_BLOCK.sub(r"\1.N.", name, count=1) for name in pair)
            counts[folded] = counts.get(folded, 0) + 1
        return [(theirs.partition("[")[0], ours, count) for (theirs, ours), count in counts.items()]

    def write(self, write_others: Callable[[Path], None]) -> None:
        """Write the folder: what is not converted, by `write_others`, then the card, and the weights last."""
        import torch

        from shared.checkpoint.conversion import sharded_writer
        from shared.utils.progress import quiet_loading

        options = self.options
        dtype = None if options.dtype == "keep" else getattr(torch, options.dtype)
        of_parts = {part: self._part(part) for part in PARTS}
        tensors = {part: sharded_writer.planned(mapping, dtype) for part, mapping in of_parts.items()}
        sharded_writer.check_space(options.output, sum(sharded_writer.size_of(t.values()) for t in tensors.values()))
        with replacing_folder(options.output) as folder:
            with quiet_loading():
                write_others(folder)
            (folder / "README.md").write_text(self._card(), encoding="utf-8")
            for part, model in zip(PARTS, self.models, strict=True):
                (folder / part).mkdir()
                model.save_config(folder / part)
                sharded_writer.write_tensors(folder / part, tensors[part], of_parts[part], options.shard_size)

    def _part(self, part: str) -> WeightMap:
        """Map one model, by its own names."""
        start = f"{part}."
        own = {name.removeprefix(start): shape for name, shape in self.mapping.shapes.items() if name.startswith(start)}
        mapping = WeightMap(own)
        mapping.origins = {name: self.mapping.origins[start + name] for name in own}
        return mapping

    def _card(self) -> str:
        rows = [[row.part, f"{row.tensors:,}", f"{row.values:,}", row.origin] for row in report_rows(self.mapping)]
        names = [[f"`{theirs}`", f"`{ours}`", str(count)] for theirs, ours, count in self._names]
        height, width = self.options.size
        return f"""---
library_name: diffusers
pipeline_tag: text-to-video
license: apache-2.0
tags: [audio-driven-video, cogvideox]
---
# Converted from {self.options.source.name}

MTV's public network (baaivision/MTVCraft) at {height}x{width}. Not trained since.

{USE}

{markdown_table(["part", "tensors", "values", "origin"], rows).rstrip()}

## Names

{markdown_table(["public", "here", "blocks"], names).rstrip()}

Written by code of commit {commit()}.
"""
