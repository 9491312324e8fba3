"""Public checkpoints into ours, and back. Weights go through tensor by tensor; --dry-run only says what would be done.

    python scripts/convert.py wan --source Wan2.1-T2V-1.3B-Diffusers --model configs/model/wan2.1-1.3b.yaml \\
        --audio-codec LTX-2 --output outputs/wan-1.3b
    python scripts/convert.py ovi --source Ovi/model.safetensors --model configs/model/wan2.2-5b-ovi.yaml \\
        --into cca --video-codec Wan2.2-TI2V-5B-Diffusers --output outputs/ovi
    python scripts/convert.py mtvcraft --source mtv.safetensors --cogvideox CogVideoX-5b \\
        --wav2vec2 wav2vec2-base-960h --output outputs/mtvcraft
    python scripts/convert.py export-wan --checkpoint outputs/wan-1.3b --output outputs/wan-diffusers
    python scripts/convert.py lora --source outputs/mine/lora --layout original --output wan_lora.safetensors
    python scripts/convert.py to-safetensors --source weights.pth --output weights.safetensors
    python scripts/convert.py part --source Wan2.1_VAE.safetensors --output outputs/wan-vae
    python scripts/convert.py sizes --model configs/model/wan2.1-14b.yaml

What maps where: docs/conversion.md. Layouts of adapters: docs/lora.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtv import conversion as mtv_parts
from shared.checkpoint.conversion import plan
from shared.checkpoint.conversion.mtvcraft import MTVCraftConversion, MTVCraftOptions
from shared.checkpoint.conversion.wan import WanExport, read_video_stream
from shared.checkpoint.conversion.wan_parts import PartOptions, WanPart, recognise
from shared.checkpoint.lora_file import LoraOptions, check_output, lora_file, read_header
from shared.utils.cli import Options, option, parse_command
from shared.utils.errors import UserError, run_main


class SizeOptions(Options):
    """Tensors and parameters of a model, without making it."""

    model: Path = option(help="a YAML file of configs/model/")


def main(argv: list[str] | None = None) -> None:
    command, options = parse_command({name: kind for name, (kind, _) in COMMANDS.items()}, __doc__, argv)
    COMMANDS[command][1](options)


def finish(options: Any, report: str, write: Callable[[], None]) -> None:
    print(report)
    if not options.dry_run:
        write()
        print(f"written to {options.output}")


def convert(options: plan.WanOptions | plan.OviOptions) -> None:
    checked = plan.ConversionPlan.of(options)
    from ccl.conversion import Conversion

    conversion = Conversion(options, checked)
    finish(options, conversion.report(), conversion.write)


def convert_mtvcraft(options: MTVCraftOptions) -> None:
    conversion = MTVCraftConversion(options, mtv_parts.spatial_stride(options.cogvideox), mtv_parts.build_models)
    given = options.cogvideox, options.wav2vec2, options.size, options.shard_size
    others = lambda folder: mtv_parts.write_others(folder, conversion.models, *given)  # noqa: E731
    finish(options, conversion.report(), lambda: conversion.write(others))


def export_wan(options: plan.ExportOptions) -> None:
    made = WanExport(options.checkpoint, read_video_stream(options.checkpoint), options.output)
    finish(options, made.mapping.report(), lambda: made.write(options.shard_size))


def convert_lora(options: LoraOptions) -> None:
    read_header(lora_file(options.source))
    check_output(options.output, options.layout)
    import torch

    from shared.checkpoint import lora_export

    dtype = None if options.dtype == "keep" else getattr(torch, options.dtype)
    print("\n".join(lora_export.convert_lora(options.source, options.layout, options.output, dtype)))


def unpickle(options: plan.PickleOptions) -> None:
    if not options.source.is_file():
        raise UserError(f"--source {options.source}: no such file")
    if options.output.suffix != ".safetensors" or options.output.exists():
        raise UserError(f"--output {options.output}: a new file that ends in .safetensors is needed")
    from shared.checkpoint.conversion.pickles import to_safetensors

    tensors, others = to_safetensors(options.source, options.output)
    print(f"{len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} values, written to {options.output}")
    print(f"left: {', '.join(others)}\n" if others else "", end="")
    if kind := recognise(tensors):
        print(f"{kind}: `scripts/convert.py part --source {options.output} --output FOLDER` makes a folder of it")


def part(options: PartOptions) -> None:
    conversion = WanPart(options)
    finish(options, conversion.report(), conversion.write)


def sizes(options: SizeOptions) -> None:
    settings = plan.read_model(options.model)
    from ccl.conversion import build_transformer
    from shared.checkpoint.conversion.weight_map import as_text, shapes_of, totals

    print(as_text(totals(shapes_of(build_transformer(settings, options.model)))))


COMMANDS: dict[str, tuple[type[Options], Callable[[Any], None]]] = {
    "wan": (plan.WanOptions, convert),
    "ovi": (plan.OviOptions, convert),
    "mtvcraft": (MTVCraftOptions, convert_mtvcraft),
    "export-wan": (plan.ExportOptions, export_wan),
    "lora": (LoraOptions, convert_lora),
    "part": (PartOptions, part),
    "to-safetensors": (plan.PickleOptions, unpickle),
    "sizes": (SizeOptions, sizes),
}

if __name__ == "__main__":
    run_main(main)
