"""Wan's video transformer: original names <-> diffusers', which are those of our streams, its sizes, and its export."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, named
from shared.checkpoint.conversion.wan_parts import recognise
from shared.checkpoint.conversion.weight_map import WeightMap, shapes_of
from shared.checkpoint.folder import PICKLES, check_checkpoint
from shared.checkpoint.wan_names import to_diffusers, to_original
from shared.nn.parameter_names import joint_name, part_of, stream_name
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing_folder

if TYPE_CHECKING:
    from shared.nn.dit import StreamConfig

#: Configuration of the original layout -> of a stream, where they differ.
ORIGINAL_SIZES = {"num_heads": "num_attention_heads", "in_dim": "in_channels"}
#: What a Wan must have beside its sizes; another value is another architecture.
FIXED = {
    "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "image_dim": None, "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}  # fmt: skip

#: What stands before the names of Wan's transformer in single files for other programs.
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
#: Folders of Wan2.2's two experts in its own layout, the one for high noise first.
EXPERTS = {"high_noise_model": "high noise", "low_noise_model": "low noise"}
_IN_BLOCK = re.compile(r"blocks\.(\d+)\.")

#: What a stream of ours may have beside Wan's weights.
NEW_PARTS = {
    ".rate_embedder.": "zero: a public tower has one frame rate, and no weights for it",
    ".until_embedder.": "zero: a public tower has velocities alone, and no averages of them",
    ".text_refiner.": "a public tower reads its text as it is; what the refiner adds is zero at first",
}


def weight_map(
    shapes: Mapping[str, tuple[int, ...]], weights: SourceWeights, audio: SourceWeights | None = None
) -> WeightMap:
    """Where each tensor comes from: a Wan, a transformer of ours (`audio`), or new. UserError: none that fits."""
    mapping = WeightMap(shapes)
    names = stream_names(weights.shapes, weights.label)[1]
    mapping.take(weights, {joint_name("video", ours): theirs for ours, theirs in names.items()})
    prefix = prefix_of(weights.shapes)
    others = [name for name in weights.shapes if not name.startswith(prefix)]
    mapping.leave(weights, others, "not of the transformer, whose names are prefixed")
    if audio is not None:
        mapping.take(audio, {name: name for name in audio.shapes if part_of(name) == "audio_stream"})
        others = [name for name in audio.shapes if part_of(name) != "audio_stream"]
        mapping.leave(audio, others, "only its audio tower is wanted")
    else:
        mapping.new([name for name in shapes if part_of(name) == "audio_stream"], "no audio tower given")
    mapping.new([name for name in shapes if part_of(name) == "fusion"], "Wan has nothing that joins two towers")
    for part, why in NEW_PARTS.items():
        mapping.new([name for name in shapes if part in name], why)
    mapping.check()
    return mapping


def stream_names(names: Iterable[str], label: str) -> tuple[str, dict[str, str]]:
    """Tell a checkpoint's layout, "diffusers" or "original", and {our name: its name} of what Wan has; or UserError."""
    names = list(names)
    prefix = prefix_of(names)
    bare = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    if any(".attn1." in name for name in bare):
        return "diffusers", {name: theirs for name, theirs in bare.items() if to_original(name)}
    if any(".self_attn." in name for name in bare):
        return "original", {ours: theirs for name, theirs in bare.items() if (ours := to_diffusers(name))}
    told = f"{named(sorted(names))}, none of them of a Wan transformer's self-attention"
    if part := recognise(names):
        told += f"; it is {part}, of which `scripts/convert.py part` makes a folder"
    raise UserError(f"{label}: {told}")


def prefix_of(names: Iterable[str]) -> str:
    """Find what stands before every name of the transformer in a single file for other programs; or ""."""
    names = list(names)
    return next((prefix for prefix in PREFIXES if any(name.startswith(f"{prefix}blocks.0.") for name in names)), "")


def describe_weights(weights: SourceWeights, place: Path) -> str:
    """Say in one line what the weights at `place` are. UserError as `stream_names`."""
    layout, names = stream_names(weights.shapes, weights.label)
    blocks = {match[1] for name in names if (match := _IN_BLOCK.match(name))}
    shape = next((weights.shapes[name] for ours, name in names.items() if ours.endswith("attn1.to_q.weight")), ())
    size = f"{len(blocks)} blocks of width {shape[0]}" if shape else f"{len(blocks)} blocks"
    prefix = prefix_of(weights.shapes)
    behind = f", its names behind {prefix}" if prefix else ""
    expert = f", Wan2.2's expert for {EXPERTS[place.name]}" if place.name in EXPERTS else ""
    return f"{place}: a Wan in the {layout} layout{behind}, {size}{expert}"


def own_parts(source: Path) -> list[str]:
    """Say which pickles of Wan's own VAE and T5 lie at the source, or beside an expert, by their names."""
    folder = source if source.is_dir() and source.name not in EXPERTS else source.parent
    told = []
    for option, what, pattern in (("--video-codec", "VAE", "*VAE*"), ("--text-encoder", "T5", "*t5*")):
        for file in sorted(folder.glob(pattern)):
            if file.suffix in PICKLES:
                steps = "`convert.py to-safetensors`, then `convert.py part`"
                told.append(f"{file}: Wan's own {what}, by its name; for {option}: {steps} (docs/conversion.md)")
    return told


def transformer_place(source: Path) -> Path:
    """Where the transformer lies in a pipeline, or `source`. UserError: of two experts (Wan 2.2) one must be named."""
    for high, low in (("transformer", "transformer_2"), tuple(EXPERTS)):
        if (source / low).is_dir():
            either = f"{high} (high noise) or {low} (low noise)"
            raise UserError(f"{source}: has two experts; name the folder of one, {source.name}/{either}")
    return source / "transformer" if (source / "transformer").is_dir() else source


def check_config(place: Path, stream: StreamConfig) -> bool:
    """Compare the sizes that stand beside the weights (a folder or a file) with those of `stream`; False if none do.
    Names and shapes do not tell heads, eps or patches apart. UserError: not a text-to-video Wan, or of other sizes."""
    file = (place if place.is_dir() else place.parent) / "config.json"
    if not file.is_file():
        return False
    config = read_json(file)
    kind = config.get("_class_name")
    if kind not in ("WanTransformer3DModel", "WanModel"):
        if place.is_file():  # a file may lie beside anything
            return False
        raise UserError(f"{file}: describes {kind}; a WanTransformer3DModel or an original WanModel is needed")
    original = kind == "WanModel"
    for name, value in FIXED.items():
        if not original and config.get(name, value) != value:
            raise UserError(f"{file}: {name} is {config[name]}; a text-to-video Wan, where it is {value}, is needed")
    if original and config.get("model_type", "t2v") not in ("t2v", "ti2v"):
        raise UserError(f"{file}: model_type is {config['model_type']}; t2v or ti2v is needed")
    sizes = {name: name for name in asdict(stream)} | (ORIGINAL_SIZES if original else {})
    theirs = {sizes[name]: value for name, value in config.items() if name in sizes}
    out = config.get("out_dim" if original else "out_channels")
    for sizes_there in (theirs if out is None else theirs | {"in_channels": out}, theirs):
        compare_sizes(file, sizes_there, "video", stream)
    return True


def compare_sizes(file: Path, theirs: dict[str, Any], part: str, stream: StreamConfig) -> None:
    """Raise UserError, naming the first, if a value of `theirs` is not that of `stream`."""
    for name, value in theirs.items():
        value, here = tuple(value) if isinstance(value, list) else value, getattr(stream, name)
        if value != here:
            raise UserError(f"{file}: {name} is {value}, and {part}.{name} {here} in the model; make them agree")


def read_video_stream(checkpoint: Path) -> dict[str, Any]:
    """Read the settings of the video stream of a checkpoint folder of ours. Raises UserError if it has none."""
    check_checkpoint(checkpoint)
    file = checkpoint / "transformer" / "config.json"
    video = read_json(file).get("video")
    if not isinstance(video, dict):
        raise UserError(f"{file}: describes no joint transformer with a video stream; a checkpoint of ours is needed")
    return video


class WanExport:
    """The video stream of a joint model (`checkpoint`, a folder) as a folder that diffusers' class for Wan reads."""

    def __init__(self, checkpoint: Path, video: dict[str, Any], output: Path) -> None:
        """Open the weights; `video`: see `read_video_stream`. UserError if Wan cannot hold it, or the output exists."""
        import torch
        from diffusers import WanTransformer3DModel

        from shared.checkpoint.conversion.sharded_writer import check_output
        from shared.nn.dit import StreamConfig

        check_output(output)
        self.output = output
        config = wan_config(StreamConfig(**video), str(checkpoint))
        with torch.device("meta"):
            self.model = WanTransformer3DModel(**config)
        weights = SourceWeights.open(checkpoint / "transformer", checkpoint.name)
        ours = {public[1]: name for name in weights.shapes if (public := stream_name(name)) and public[0] == "video"}
        self.mapping = WeightMap(shapes_of(self.model))
        self.mapping.take(weights, ours)
        others = [name for name in weights.shapes if name not in ours.values()]
        self.mapping.leave(weights, others, "Wan has a video stream only")
        self.mapping.check()

    def write(self, shard_size: str) -> None:
        """Write the folder, in files of at most `shard_size`."""
        from shared.checkpoint.conversion.sharded_writer import check_space, planned, size_of, write_tensors

        tensors = planned(self.mapping, None)
        check_space(self.output, size_of(tensors.values()))
        with replacing_folder(self.output) as folder:
            self.model.save_config(folder)
            write_tensors(folder, tensors, self.mapping, shard_size)


def wan_config(stream: StreamConfig, label: str) -> dict[str, Any]:
    """Arguments of diffusers' WanTransformer3DModel for a stream of ours. UserError if Wan has no such stream."""
    wan = {"skip": False, "gate": False, "frame_rate": False, "average": False, "text_layers": 0, "grid": "video"}
    own = {name: getattr(stream, name) for name in wan}
    if own != wan:
        what = ", ".join(f"{name} {str(value).lower()}" for name, value in own.items())
        lacks = "Wan has no skip, gate, frame_rate, average or text_layers, and no grid but video"
        raise UserError(f"{label}: the video stream has {what}; {lacks}, so it cannot hold these weights")
    sizes = {name: value for name, value in asdict(stream).items() if name not in (*own, "text_heads", "time_unit")}
    return sizes | {"out_channels": stream.in_channels}
