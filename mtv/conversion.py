"""MTV's public weights (baaivision/MTVCraft) into a checkpoint folder that `MTVPipeline` reads."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mtv.cogvideox.loading import codec_folder, read_part
from shared.checkpoint.conversion import mtvcraft
from shared.checkpoint.conversion.mtvcraft import CONTROL_PART, TRANSFORMER_PART
from shared.checkpoint.conversion.safetensors_reader import SourceWeights, weight_files
from shared.checkpoint.conversion.weight_map import SourceTensor, WeightMap, report_rows, shapes_of
from shared.utils.cli import Options, option
from shared.utils.config_sections import ShardSize
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder
from shared.utils.markdown import markdown_table
from shared.utils.ranges import Side, check_range
from shared.utils.version import commit

FPS, SCALE = 24.0, 0.7
#: Lists of blocks, whose numbers reports leave out.
_BLOCK = re.compile(r"(layers|blocks|adaLN_modulations|layernorm_list)\.\d+\.")
PARTS = (TRANSFORMER_PART, CONTROL_PART)
USE = """Sample it with `python scripts/sample_mtv.py --checkpoint FOLDER`, or read it with
`MTVPipeline.from_pretrained(folder)`: at the size above, in windows of 49 frames at 24 a second, with joint guidance,
which are its defaults. The licences of MTVCraft (Apache-2.0), CogVideoX and wav2vec2 hold for their weights."""


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

    def __init__(self, options: MTVCraftOptions) -> None:
        """Open the weights; read no tensor. UserError if anything does not fit, or the output exists."""
        stride = spatial_stride(options)
        import torch
        from diffusers import CogVideoXTransformer3DModel

        from mtv.mtvcraft import MTVCraftControl
        from shared.checkpoint.conversion.sharded_writer import check_output

        check_output(options.output)
        self.options = options
        weights = SourceWeights.open(options.source)
        sizes = mtvcraft.sizes_of(weights, options.size, stride)
        with torch.device("meta"):
            self.models: dict[str, Any] = {
                TRANSFORMER_PART: CogVideoXTransformer3DModel(**sizes.transformer),
                CONTROL_PART: MTVCraftControl(**sizes.control),
            }
        shapes = {f"{part}.{name}": shape for part in PARTS for name, shape in shapes_of(self.models[part]).items()}
        self.mapping = mtvcraft.weight_map(shapes, mtvcraft.divided(weights))

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

    def write(self) -> None:
        """Write the checkpoint folder: what is not converted, index, card, and the weights last."""
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
                self._write_others(folder)
            (folder / "README.md").write_text(self._card(), encoding="utf-8")
            for part in PARTS:
                (folder / part).mkdir()
                self.models[part].save_config(folder / part)
                sharded_writer.write_tensors(folder / part, tensors[part], of_parts[part], options.shard_size)

    def _part(self, part: str) -> WeightMap:
        """Map one model, by its own names."""
        start = f"{part}."
        own = {name.removeprefix(start): shape for name, shape in self.mapping.shapes.items() if name.startswith(start)}
        mapping = WeightMap(own)
        mapping.origins = {name: self.mapping.origins[start + name] for name in own}
        return mapping

    def _write_others(self, folder: Path) -> None:
        from mtv.pipeline import MTVPipeline
        from shared.codecs.cogvideox import CogVideoXVideoCodec
        from shared.encoders.t5 import T5Text
        from shared.encoders.wav2vec2 import MTVCraftWav2Vec2

        options, control = self.options, self.models[CONTROL_PART]
        length = self.models[TRANSFORMER_PART].config.max_text_seq_length
        others: dict[str, Any] = {
            "video_codec": CogVideoXVideoCodec.from_pretrained(codec_folder(options.cogvideox)),
            "text_encoder": T5Text.from_pretrained(options.cogvideox, max_length=length, torch_dtype="auto"),
            "audio_encoder": MTVCraftWav2Vec2.from_transformers(options.wav2vec2),
        }
        encoder = others["audio_encoder"]
        if (values := encoder.window * encoder.layers * encoder.dim) != control.config.features:
            what = f"makes {values} values for a frame, and the control network reads {control.config.features}"
            raise UserError(f"--wav2vec2 {options.wav2vec2}: {what}; wav2vec2-base-960h is needed")
        for name, part in others.items():
            part.save_pretrained(folder / name, max_shard_size=options.shard_size)
        height, width = options.size
        scheduler = public_scheduler()
        scheduler.save_pretrained(folder / "scheduler")
        parts = {**self.models, **others, "scheduler": scheduler}
        MTVPipeline(**parts, fps=FPS, height=height, width=width).save_config(folder)

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


def spatial_stride(options: MTVCraftOptions) -> int:
    """Read pixels to a latent's side of the autoencoder; torch is not needed. UserError for a source that is none, or
    another CogVideoX than that of these weights."""
    weight_files(options.source)
    if not options.cogvideox.is_dir():
        raise UserError(f"--cogvideox {options.cogvideox}: no such folder; CogVideoX-5b as diffusers has it is needed")
    codec = codec_folder(options.cogvideox).name
    config, text = (read_part(options.cogvideox, f"{name}/config.json") for name in (codec, "text_encoder"))
    if (kind := config.get("_class_name")) != "AutoencoderKLCogVideoX":
        raise UserError(f"--cogvideox {options.cogvideox}: {codec} is {kind!r}, not AutoencoderKLCogVideoX")
    if (scale := config.get("scaling_factor")) != SCALE:
        made = f"these weights were made for latents times {SCALE}, as CogVideoX-5b has them"
        raise UserError(f"--cogvideox {options.cogvideox}: scaling_factor of its {codec} is {scale}; {made}")
    if (kind := text.get("model_type")) != "t5":
        raise UserError(f"--cogvideox {options.cogvideox}: text_encoder is {kind!r}, not t5")
    levels = config.get("block_out_channels", [0] * 4)
    check_range(f"--cogvideox {options.cogvideox}: levels of block_out_channels", len(levels), 1, 10)
    return int(2 ** (len(levels) - 1))


def public_scheduler() -> Any:
    """Make the schedule that the weights were trained on: √β linear, zero terminal SNR, no shift; v is predicted.

    At sampling its public code takes steps of DPM-Solver++(2M) as an SDE, from timestep 999 in equal strides.
    """
    from diffusers import CogVideoXDPMScheduler

    return CogVideoXDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_spacing="trailing", rescale_betas_zero_snr=True, snr_shift_scale=1.0,
    )  # fmt: skip
