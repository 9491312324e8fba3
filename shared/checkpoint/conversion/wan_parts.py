"""Wan's own files of its VAE and its T5, once they are safetensors, as folders that diffusers and transformers load."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, named, weight_files
from shared.checkpoint.folder import WEIGHTS
from shared.utils import cli
from shared.utils.cli import option
from shared.utils.config_sections import ShardSize
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder
from shared.utils.weights_folder import TRANSFORMERS

if TYPE_CHECKING:
    from torch import nn

    from shared.checkpoint.conversion.weight_map import WeightMap

#: What is called how in reports, and a tensor that no other kind has.
SIGNS = {
    "Wan2.2's VAE": "decoder.upsamples.0.upsamples.0.residual.2.weight",
    "Wan2.1's VAE": "decoder.middle.0.residual.0.gamma",
    "Wan's T5": "blocks.0.ffn.gate.0.weight",
}
VAES = ("Wan2.1's VAE", "Wan2.2's VAE")
#: Mean and deviation of raw latents of the 2.2 autoencoder; those of 2.1 are AutoencoderKLWan's defaults.
MEAN_22 = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570,
    -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
    0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
STD_22 = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
    0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
    0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600,
    0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip
#: Wan's names within a block of T5 -> those of transformers' UMT5EncoderModel.
T5_BLOCK = {
    **{f"attn.{part}": f"layer.0.SelfAttention.{part}" for part in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm", "norm2": "layer.1.layer_norm", "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1", "ffn.fc2": "layer.1.DenseReluDense.wo",
}  # fmt: skip
T5_TOP = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
#: Of the 2.2 autoencoder, whose levels are groups: within a resnet, Wan's names -> diffusers'.
RESNET = {"residual.0": "norm1", "residual.2": "conv1", "residual.3": "norm2", "residual.6": "conv2"}
RESNET |= {"shortcut": "conv_shortcut"}
_GROUPED = re.compile(r"(encoder|decoder)\.(down|up)samples\.(\d+)\.(?:down|up)samples\.(\d+)\.(.+)\.(\w+)")
#: Files of a tokenizer, of which one of the first two is needed.
TOKENIZER = ("tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")
TOKENIZER_IN_WAN = "google/umt5-xxl"


class PartOptions(cli.Options):
    """Wan's own VAE or T5 (safetensors) to a folder for --video-codec or --text-encoder."""

    source: Path = option(help=".safetensors file; of a .pth to-safetensors makes one")
    output: Path = option(help="new folder, diffusers' AutoencoderKLWan or transformers' UMT5", writes="folder")
    tokenizer: Path | None = option(
        None, f"folder of UMT5's tokenizer, for T5 (default: {TOKENIZER_IN_WAN} beside the source)", metavar="FOLDER"
    )
    shard_size: ShardSize = option("5GB", "largest file")
    dry_run: bool = option(False, "only say what would be done")


def recognise(names: Iterable[str]) -> str | None:
    """Say what a file of Wan's holds, one of `SIGNS`, by its tensors; None for all else."""
    names = set(names)
    return next((kind for kind, sign in SIGNS.items() if sign in names), None)


class WanPart:
    """A VAE or T5 of Wan's own, with the place of every tensor: `report` it, then `write` it."""

    def __init__(self, options: PartOptions) -> None:
        """Open the source; read no tensor. UserError: neither of the two, or of sizes that none has."""
        weight_files(options.source)
        from shared.checkpoint.conversion.sharded_writer import check_output

        check_output(options.output)
        self.options, self.weights = options, SourceWeights.open(options.source)
        kind = recognise(self.weights.shapes)
        if kind is None:
            known = ", ".join(SIGNS)
            raise UserError(f"{options.source}: {named(sorted(self.weights.shapes))}; one of {known} is needed")
        self.kind = kind
        self.tokenizer = [] if kind in VAES else tokenizer_files(options)
        self.model, names = _vae(self.weights, kind) if kind in VAES else _t5(self.weights)
        self.mapping = _mapping(self.model, self.weights, names)

    def report(self) -> str:
        """Say what was found, and the table of its tensors."""
        return f"{self.options.source}: {self.kind}, as {type(self.model).__name__}\n{self.mapping.report()}"

    def write(self) -> None:
        """Write the folder, in the source's precision and files of at most `shard_size`."""
        from shared.checkpoint.conversion.sharded_writer import check_space, planned, size_of, write_tensors

        tensors = planned(self.mapping, None)
        check_space(self.options.output, size_of(tensors.values()))
        with replacing_folder(self.options.output) as folder:
            save = self.model.save_config if self.kind in VAES else self.model.config.save_pretrained
            save(folder)
            stem = WEIGHTS if self.kind in VAES else f"{TRANSFORMERS}.safetensors"
            write_tensors(folder, tensors, self.mapping, self.options.shard_size, stem=stem)
            for file in self.tokenizer:
                shutil.copyfile(file, folder / file.name)


def tokenizer_files(options: PartOptions) -> list[Path]:
    """Find the tokenizer that T5 needs. UserError if there is none."""
    folder = options.tokenizer or options.source.parent / TOKENIZER_IN_WAN
    files = [folder / name for name in TOKENIZER if (folder / name).is_file()]
    if not files or files[0].name not in TOKENIZER[:2]:
        what = f"no {' or '.join(TOKENIZER[:2])} in {folder}"
        raise UserError(f"--tokenizer: {what}; Wan's T5 needs the folder {TOKENIZER_IN_WAN} of Wan's own repository")
    return files


def vae_names(names: Iterable[str], kind: str) -> dict[str, str]:
    """Name Wan's tensors of a VAE as diffusers does: {diffusers' name: Wan's}."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    renamed = {name: name for name in names}
    if kind == "Wan2.1's VAE":
        return dict(convert_wan_vae_to_diffusers(renamed))
    grouped = {match[0]: match for name in renamed if (match := _GROUPED.fullmatch(name))}
    others = convert_wan_vae_to_diffusers({name: name for name in renamed if name not in grouped})
    return dict(others) | {_ungrouped(match): name for name, match in grouped.items()}


def _ungrouped(match: re.Match[str]) -> str:
    coder, way, level, place, layer, end = match.groups()
    inside = f"resnets.{place}.{RESNET[layer]}" if layer in RESNET else f"{way}sampler.{layer}"
    return f"{coder}.{way}_blocks.{level}.{inside}.{end}"


def t5_name(name: str) -> str:
    """Name a tensor of Wan's T5 as transformers does; names that it has not stay."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name)
    if match and match[2] in T5_BLOCK:
        return f"encoder.block.{match[1]}.{T5_BLOCK[match[2]]}.weight"
    return T5_TOP.get(name, name)


def _vae(weights: SourceWeights, kind: str) -> tuple[Any, dict[str, str]]:
    import torch
    from diffusers import AutoencoderKLWan

    width, z = _size(weights, "encoder.conv1.weight", 0), _size(weights, "conv2.weight", 0)
    sizes: dict[str, Any] = {"base_dim": width, "z_dim": z}
    if kind == "Wan2.2's VAE":
        sizes |= {"decoder_base_dim": _size(weights, "decoder.head.0.gamma", 0), "is_residual": True, "patch_size": 2}
        sizes |= {"in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
        sizes |= {"latents_mean": list(MEAN_22), "latents_std": list(STD_22)}
    channels = 48 if kind == "Wan2.2's VAE" else 16
    if z != channels:
        raise UserError(f"{weights.label}: {kind} with {z} latent channels; {channels} are needed, it is another model")
    try:
        names = vae_names(weights.shapes, kind)
    except (ValueError, IndexError) as error:  # diffusers' reader takes numbers out of names
        raise UserError(f"{weights.label}: has names that no VAE of Wan's has ({error}); copy the file again") from None
    with torch.device("meta"):
        return AutoencoderKLWan(**sizes), names


def _t5(weights: SourceWeights) -> tuple[Any, dict[str, str]]:
    import torch
    from transformers import UMT5Config, UMT5EncoderModel

    heads = _size(weights, "blocks.0.pos_embedding.embedding.weight", 1)
    inner = _size(weights, "blocks.0.attn.q.weight", 0)
    config = UMT5Config(
        vocab_size=_size(weights, "token_embedding.weight", 0),
        d_model=_size(weights, "token_embedding.weight", 1),
        d_kv=inner // max(heads, 1),
        d_ff=_size(weights, "blocks.0.ffn.fc1.weight", 0),
        num_layers=len({name.split(".")[1] for name in weights.shapes if name.startswith("blocks.")}),
        num_heads=heads,
        relative_attention_num_buckets=_size(weights, "blocks.0.pos_embedding.embedding.weight", 0),
        architectures=["UMT5EncoderModel"],
    )
    with torch.device("meta"):
        return UMT5EncoderModel(config), {t5_name(name): name for name in weights.shapes}


def _size(weights: SourceWeights, name: str, axis: int) -> int:
    """Read one side of a tensor. UserError if there is no such tensor, or side."""
    shape = weights.shapes.get(name, ())
    if len(shape) <= axis or shape[axis] < 1:
        raise UserError(f"{weights.label}: {name} is {list(shape) or 'missing'}; copy the file again")
    return shape[axis]


def _mapping(model: nn.Module, weights: SourceWeights, names: Mapping[str, str]) -> WeightMap:
    from shared.checkpoint.conversion.weight_map import WeightMap, shapes_of

    shapes = {name: shape for name, shape in shapes_of(model).items() if name != "encoder.embed_tokens.weight"}
    mapping = WeightMap(shapes)  # UMT5's embedding is saved once, as `shared`
    mapping.take(weights, names)
    mapping.check()
    return mapping
