"""Public checkpoints into ours, and back. Weights go through tensor by tensor; --dry-run only says what would be done.

    python scripts/convert.py wan --source Wan2.1-T2V-1.3B-Diffusers --model configs/model/wan2.1-1.3b.yaml \\
        --audio-codec LTX-2 --output outputs/wan-1.3b
    python scripts/convert.py ovi --source Ovi/model.safetensors --model configs/model/wan2.2-5b-ovi.yaml \\
        --into cca --video-codec Wan2.2-TI2V-5B-Diffusers --output outputs/ovi
    python scripts/convert.py export-wan --checkpoint outputs/wan-1.3b --output outputs/wan-diffusers
    python scripts/convert.py to-safetensors --source weights.pth --output weights.safetensors
    python scripts/convert.py sizes --model configs/model/wan2.1-14b.yaml

docs/conversion.md says what maps where.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from shared.checkpoint.conversion.components import KINDS, OPTIONS, Component, find
from shared.checkpoint.conversion.safetensors_reader import Weights, weight_files
from shared.checkpoint.conversion.wan import check_config, compare_sizes, transformer_place, wan_config
from shared.checkpoint.conversion.weight_map import Recipe, as_text, rows, totals
from shared.utils.cli_old import Parser, per_stream
from shared.utils.errors import UserError, run_main
from shared.utils.files import read_json

if TYPE_CHECKING:  # paths and options are checked before torch is loaded
    from ccl.transformer import DualStreamTransformer

#: Frames a second, height and width that a public Wan was trained at, by its latent channels.
TRAINED_AT = {16: (16.0, 480, 832), 48: (24.0, 704, 1280)}
SHIFT = 5.0


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    {
        "wan": convert,
        "ovi": convert,
        "export-wan": export_wan,
        "to-safetensors": unpickle,
        "sizes": sizes,
    }[args.command](args)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    wan = commands.add_parser("wan", description="A Wan, in diffusers' or the original layout, to a checkpoint folder.")
    wan.add_argument("--source", type=Path, required=True, help="diffusers folder, folder of the original, or a file")
    wan.add_argument("--audio", type=Path, metavar="CHECKPOINT", help="checkpoint of ours whose audio tower to take")
    ovi = commands.add_parser("ovi", description="A fused checkpoint of Ovi to a checkpoint folder.")
    ovi.add_argument("--source", type=Path, required=True, help="folder, or a .safetensors file")
    ovi.add_argument("--into", choices=("cca", "full"), required=True, help="what its fusion becomes")
    for one in (wan, ovi):
        _add_common(one)
    export = commands.add_parser("export-wan", description="Our video stream to a folder that diffusers loads.")
    export.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder of ours")
    export.add_argument("--output", type=Path, required=True, help="new folder, a WanTransformer3DModel")
    export.add_argument("--shard-size", type=shard_size, default="5GB", help="largest file (default 5GB)")
    export.add_argument("--dry-run", action="store_true", help="only say what would be done")
    pickles = commands.add_parser("to-safetensors", description="Pickled weights to safetensors; nothing else is read.")
    pickles.add_argument("--source", type=Path, required=True, help=".pth, .pt, .bin, .ckpt or .th")
    pickles.add_argument("--output", type=Path, required=True, help="new .safetensors file")
    size = commands.add_parser("sizes", description="Tensors and parameters of a model, without making it.")
    size.add_argument("--model", type=Path, required=True, help="a YAML file of configs/model/")
    return parser.parse_args(argv)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="a YAML file of configs/model/")
    parser.add_argument("--output", type=Path, required=True, help="new checkpoint folder")
    parser.add_argument("--video-codec", type=Path, metavar="FOLDER", help="default: the source's own, if it has one")
    parser.add_argument("--audio-codec", type=Path, metavar="FOLDER", help="LTX-2's audio VAE and vocoder, or Oobleck")
    parser.add_argument("--text-encoder", type=Path, metavar="FOLDER", help="default: the source's own, if it has one")
    parser.add_argument("--shift", metavar="VIDEO[,AUDIO]", help="of the schedulers (default: the source's, or 5)")
    parser.add_argument("--fps", type=float, help="frames a second of its video (default: the public model's)")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of its video (default likewise)"
    )
    parser.add_argument("--dtype", choices=("keep", "float32", "bfloat16"), default="keep", help="of the weights")
    parser.add_argument("--shard-size", type=shard_size, default="5GB", help="largest file of weights (default 5GB)")
    parser.add_argument("--seed", type=int, default=0, help="of new tensors (default 0)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def shard_size(text: str) -> str:
    """ "5GB", for the parser."""
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", text):
        raise argparse.ArgumentTypeError(f"{text}: a whole number of KB, MB or GB is needed, as 5GB")
    return text


@dataclass(frozen=True)
class Job:
    """What a conversion is to make, as far as it is known without torch."""

    settings: dict[str, Any]
    components: dict[str, Component | None]
    shifts: tuple[float, float]
    fps: float
    size: tuple[int, int]

    @property
    def missing(self) -> list[str]:
        """What the folder will lack, and what gives it."""
        return [f"{name.replace('_', ' ')}; {OPTIONS[name]}" for name, part in self.components.items() if part is None]


def convert(args: argparse.Namespace) -> None:
    """The commands `wan` and `ovi`."""
    from shared.checkpoint.conversion.sharded_writer import check_output

    job = prepare(args)
    check_output(args.output)
    model = build(job.settings, args.model)
    recipe = wan_recipe(args, model) if args.command == "wan" else ovi_recipe(args, model)
    lines = [*rows(recipe), *totals(recipe.shapes)[-1:]]
    print(as_text(lines))
    for part in filter(None, job.components.values()):
        print(f"{part.name.replace('_', ' ')}: {part.label}")
    for text in job.missing:
        print(f"no {text}")
    if not args.dry_run:
        write(args, job, model, recipe)
        print(f"written to {args.output}")


def prepare(args: argparse.Namespace) -> Job:
    """Everything that can be checked without torch."""
    from shared.checkpoint.folder import check_checkpoint

    settings = read_model(args.model)
    weight_files(transformer_place(args.source) if args.command == "wan" else args.source)
    audio = getattr(args, "audio", None)
    if audio is not None:
        check_checkpoint(audio)
    components = {name: locate(args, name, audio) for name in KINDS}
    fit(settings, components, args.model)
    if args.command == "ovi":
        settings["fusion"] = fusion(settings, args)
    fps, height, width = TRAINED_AT.get(settings["video"]["in_channels"], TRAINED_AT[16])
    size = tuple(args.size or (height, width))
    if min(size) < 1 or (args.fps is not None and not 0 < args.fps < 1000):
        raise UserError(f"--fps {args.fps} --size {size[0]} {size[1]}: positive numbers are needed")
    shifts = per_stream("--shift", args.shift) if args.shift else (trained_shift(args.source),) * 2
    if min(shifts) <= 0:
        raise UserError(f"--shift {args.shift}: positive numbers are needed")
    return Job(settings, components, shifts, args.fps or fps, (size[0], size[1]))


def read_model(path: Path) -> dict[str, Any]:
    """A file of configs/model/. Raises UserError."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise UserError(f"--model {path}: cannot be read ({error})") from None
    if not isinstance(settings, dict) or not all(isinstance(settings.get(name), dict) for name in ("video", "audio")):
        raise UserError(f"--model {path}: video and audio, each with its sizes, are needed; see configs/model/")
    for stream in ("video", "audio"):
        for name in ("in_channels", "text_dim"):
            if name not in settings[stream]:
                raise UserError(f"--model {path}: {stream}.{name} is missing; see configs/model/wan2.1-1.3b.yaml")
    return settings


def locate(args: argparse.Namespace, name: str, audio: Path | None) -> Component | None:
    """A component: where its option says, with the audio tower's checkpoint for the audio codec, or at the source."""
    option = getattr(args, name)
    if option is not None:
        return find(name, option)
    if name == "audio_codec":
        return None if audio is None else find(name, audio / name, wanted=False)
    return find(name, args.source, wanted=False) if args.source.is_dir() else None


def fit(settings: dict[str, Any], components: dict[str, Component | None], model: Path) -> None:
    """The audio codec says how many values the audio stream takes, as in training; the others must fit."""
    if (codec := components["audio_codec"]) is not None:
        settings["audio"] = settings["audio"] | {"in_channels": codec.width}
    for name, stream, key in (
        ("video_codec", "video", "in_channels"),
        ("text_encoder", "video", "text_dim"),
        ("text_encoder", "audio", "text_dim"),
    ):
        part, here = components[name], settings[stream][key]
        if part is not None and part.width != here:
            raise UserError(
                f"{part.root}: {part.kind.name} has {part.width} values, and {stream}.{key} is {here} in {model}; "
                "make them agree"
            )


def fusion(settings: dict[str, Any], args: argparse.Namespace) -> str:
    """What --into asks for, if the model's sizes can hold Ovi's fusion."""
    here = settings.get("fusion", args.into)
    if here != args.into:
        raise UserError(f"--into {args.into}: {args.model} has fusion: {here}; leave it out there")
    heads = {settings[stream].get("num_attention_heads") for stream in ("video", "audio")}
    sizes = {settings[stream].get("attention_head_dim") for stream in ("video", "audio")}
    if args.into == "cca" and (heads != {settings.get("cca_heads")} or sizes != {settings.get("cca_head_dim")}):
        raise UserError(
            f"--into cca: {args.model} has cca_heads {settings.get('cca_heads')} of {settings.get('cca_head_dim')}; "
            "Ovi's fusion needs those of both towers, as in configs/model/wan2.2-5b-ovi.yaml"
        )
    return here


def trained_shift(source: Path) -> float:
    """The flow shift of the scheduler at `source`, 5 where there is none."""
    file = source / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return SHIFT
    config = read_json(file)
    value = config.get("flow_shift", config.get("shift", SHIFT))
    if not isinstance(value, int | float) or value <= 0:
        raise UserError(f"{file}: flow_shift is {value!r}; a positive number is needed, or --shift")
    return float(value)


def build(settings: dict[str, Any], path: Path, blocks: int | None = None) -> DualStreamTransformer:
    """The model: without values, or with them where it has so many `blocks`."""
    import torch

    from ccl.transformer import DualStreamTransformer

    if blocks is not None:
        settings = settings | {name: settings[name] | {"num_layers": blocks} for name in ("video", "audio")}
    try:
        with torch.device("meta" if blocks is None else "cpu"):
            return DualStreamTransformer(**settings)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"--model {path}: {error}; see configs/model/") from None


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Of every tensor that is saved."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def wan_recipe(args: argparse.Namespace, model: DualStreamTransformer) -> Recipe:
    from shared.checkpoint.conversion.wan import open_wan, recipe

    weights, place = open_wan(args.source)
    if not check_config(place, model.video_stream.config):
        print(f"{args.source}: no config.json beside the weights; heads and eps are taken from {args.model}")
    audio = None
    if args.audio is not None:
        file = args.audio / "transformer" / "config.json"
        found = read_json(file).get("audio", {})
        compare_sizes(file, {"skip": False, "time_unit": 1.0} | found, "audio", model.audio_stream.config)
        audio = Weights.open(args.audio / "transformer", f"the audio tower of {args.audio.name}")
    return recipe(shapes(model), weights, audio)


def ovi_recipe(args: argparse.Namespace, model: DualStreamTransformer) -> Recipe:
    from shared.checkpoint.conversion.ovi import recipe

    return recipe(shapes(model), Weights.open(args.source), args.into)


def write(args: argparse.Namespace, job: Job, model: DualStreamTransformer, recipe: Recipe) -> None:
    """The checkpoint folder: components, schedulers, index, card, and the transformer's weights last."""
    import torch

    from shared.checkpoint.conversion.model_card import conversion_card
    from shared.checkpoint.conversion.sharded_writer import (
        FreshTensors,
        check_space,
        planned,
        size_of,
        whole,
        write_tensors,
    )

    dtype = None if args.dtype == "keep" else getattr(torch, args.dtype)
    plan = planned(recipe, dtype, model._keep_in_fp32_modules if dtype == torch.bfloat16 else ())
    parts = [part for part in job.components.values() if part is not None]
    check_space(args.output, size_of(plan.values()) + sum(part.size for part in parts))
    with whole(args.output) as folder:
        write_parts(folder, job, model, args.shard_size)
        card = conversion_card(
            args.source.name, rows(recipe), [part.label for part in parts], job.missing, args.seed,
            getattr(args, "into", ""),
        )  # fmt: skip
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / "transformer").mkdir()
        model.save_config(folder / "transformer")
        fresh = FreshTensors(lambda: build(job.settings, args.model, blocks=1), args.seed)
        write_tensors(folder / "transformer", plan, recipe, args.shard_size, fresh)


def write_parts(folder: Path, job: Job, model: DualStreamTransformer, shard_size: str) -> None:
    """Codecs, text encoder, schedulers and model_index.json; nothing of them stays in memory."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    from ccl.pipeline import CCLPipeline

    loaded: dict[str, Any] = {name: part.load() if part else None for name, part in job.components.items()}
    solvers = {
        name: FlowMatchEulerDiscreteScheduler(shift=shift)
        for name, shift in zip(("scheduler", "audio_scheduler"), job.shifts, strict=True)
    }
    height, width = job.size
    CCLPipeline(transformer=model, **loaded, **solvers, fps=job.fps, height=height, width=width).save_config(folder)
    for name, part in loaded.items():
        if part is not None:
            part.save_pretrained(folder / name, max_shard_size=shard_size)
    for name, solver in solvers.items():
        solver.save_pretrained(folder / name)


def export_wan(args: argparse.Namespace) -> None:
    from shared.checkpoint.folder import check_checkpoint

    check_checkpoint(args.checkpoint)
    file = args.checkpoint / "transformer" / "config.json"
    video = read_json(file).get("video")
    if not isinstance(video, dict):
        raise UserError(f"{file}: describes no joint transformer with a video stream; a checkpoint of ours is needed")
    import torch
    from diffusers import WanTransformer3DModel

    from shared.checkpoint.conversion.sharded_writer import (
        check_output,
        check_space,
        planned,
        size_of,
        whole,
        write_tensors,
    )
    from shared.nn.dit import StreamConfig
    from shared.nn.parameter_names import stream_name

    check_output(args.output)
    config = wan_config(StreamConfig(**video), str(args.checkpoint))
    with torch.device("meta"):
        theirs = WanTransformer3DModel(**config)
    weights = Weights.open(args.checkpoint / "transformer", args.checkpoint.name)
    recipe = Recipe(shapes(theirs))
    own = {found[1]: name for name in weights.shapes if (found := stream_name(name)) and found[0] == "video"}
    recipe.take(weights, own)
    recipe.leave(weights, [name for name in weights.shapes if name not in own.values()], "Wan has a video stream only")
    recipe.check()
    print(as_text([*rows(recipe), *totals(recipe.shapes)[-1:]]))
    if args.dry_run:
        return
    plan = planned(recipe, None)
    check_space(args.output, size_of(plan.values()))
    with whole(args.output) as folder:
        theirs.save_config(folder)
        write_tensors(folder, plan, recipe, args.shard_size)
    print(f"written to {args.output}")


def unpickle(args: argparse.Namespace) -> None:
    if not args.source.is_file():
        raise UserError(f"--source {args.source}: no such file")
    if args.output.suffix != ".safetensors" or args.output.exists():
        raise UserError(f"--output {args.output}: a new file that ends in .safetensors is needed")
    from shared.checkpoint.conversion.pickles import to_safetensors

    tensors, others = to_safetensors(args.source, args.output)
    print(f"{len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} values, written to {args.output}")
    if others:
        print(f"left: {', '.join(others)}")


def sizes(args: argparse.Namespace) -> None:
    print(as_text(totals(shapes(build(read_model(args.model), args.model)))))


if __name__ == "__main__":
    run_main(main)
