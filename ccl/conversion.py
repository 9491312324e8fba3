"""Public weights into a checkpoint folder of a joint model; `shared.checkpoint.conversion` reads and writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.conversion import ovi, wan
from shared.checkpoint.conversion.model_card import conversion_card
from shared.checkpoint.conversion.plan import ConversionPlan, OviOptions, WanOptions
from shared.checkpoint.conversion.safetensors_reader import SourceWeights
from shared.checkpoint.conversion.sharded_writer import (
    FreshTensors,
    check_output,
    check_space,
    planned,
    size_of,
    write_tensors,
)
from shared.checkpoint.conversion.weight_map import WeightMap, as_text, report_rows, shapes_of, totals
from shared.checkpoint.registry import load_component
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing_folder
from shared.utils.version import commit


def build_transformer(settings: dict[str, Any], path: Path, blocks: int | None = None) -> DualStreamTransformer:
    """Build the model of a file of configs/model/: without values, or with them where it has so many `blocks`.

    Raises UserError, naming the file.
    """
    if blocks is not None:
        settings = settings | {name: settings[name] | {"num_layers": blocks} for name in ("video", "audio")}
    try:
        with torch.device("meta" if blocks is None else "cpu"):
            return DualStreamTransformer(**settings)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"--model {path}: {error}; see configs/model/") from None


class Conversion:
    """A planned conversion with the origin of every tensor: `report` it, then `write` it."""

    def __init__(self, options: WanOptions | OviOptions, plan: ConversionPlan) -> None:
        """Open the sources; read no tensor. UserError if anything does not fit, or the output exists."""
        check_output(options.output)
        self.options, self.plan = options, plan
        self.notes: list[str] = []
        self.model = build_transformer(plan.settings, options.model)
        if isinstance(options, WanOptions):
            self.mapping = self._wan(options)
        else:
            source = SourceWeights.open(options.source)
            self.mapping = ovi.weight_map(shapes_of(self.model), source, options.into)

    def report(self) -> str:
        """Where every group of tensors and every component comes from, and what is missing."""
        table = as_text([*report_rows(self.mapping), *totals(self.mapping.shapes)[-1:]])
        parts = [f"{name.replace('_', ' ')}: {source.label}" for name, source in self.plan.found.items()]
        return "\n".join([*self.notes, table, *parts, *(f"no {text}" for text in self.plan.missing)])

    def write(self) -> None:
        """Write the checkpoint folder: components, schedulers, index, card, and the transformer's weights last."""
        options, plan = self.options, self.plan
        dtype = None if options.dtype == "keep" else getattr(torch, options.dtype)
        tensors = planned(self.mapping, dtype, self.model._keep_in_fp32_modules if dtype == torch.bfloat16 else ())
        check_space(options.output, size_of(tensors.values()) + sum(part.size for part in plan.found.values()))
        with replacing_folder(options.output) as folder:
            self._write_parts(folder)
            labels = [source.label for source in plan.found.values()]
            into, rows = options.into if isinstance(options, OviOptions) else "", report_rows(self.mapping)
            card = conversion_card(options.source.name, rows, labels, plan.missing, options.seed, into, commit())
            (folder / "README.md").write_text(card, encoding="utf-8")
            (folder / "transformer").mkdir()
            self.model.save_config(folder / "transformer")
            fresh = FreshTensors(lambda: build_transformer(plan.settings, options.model, blocks=1), options.seed)
            write_tensors(folder / "transformer", tensors, self.mapping, options.shard_size, fresh)

    def _write_parts(self, folder: Path) -> None:
        """Codecs, text encoder, schedulers and model_index.json; nothing of them stays in memory."""
        plan = self.plan
        components: dict[str, Any] = dict.fromkeys(plan.components)
        for name, source in plan.found.items():
            # UMT5 as it was saved: in float32 UMT5-XXL takes 23 GB
            options = {"torch_dtype": "auto"} if source.class_name == "UMT5Text" else {}
            components[name] = load_component(source, **options)
        shifts = zip(("scheduler", "audio_scheduler"), plan.shifts, strict=True)
        solvers = {name: FlowMatchEulerDiscreteScheduler(shift=shift) for name, shift in shifts}
        height, width = plan.size
        pipeline = CCLPipeline(self.model, **components, **solvers, fps=plan.fps, height=height, width=width)
        pipeline.save_config(folder)
        for name in plan.found:
            components[name].save_pretrained(folder / name, max_shard_size=self.options.shard_size)
        for name, solver in solvers.items():
            solver.save_pretrained(folder / name)

    def _wan(self, options: WanOptions) -> WeightMap:
        weights, place = wan.open_wan(options.source)
        if not wan.check_config(place, self.model.video_stream.config):
            note = f"no config.json beside the weights; heads and eps are taken from {options.model}"
            self.notes.append(f"{options.source}: {note}")
        audio = None
        if options.audio is not None:
            file = options.audio / "transformer" / "config.json"
            sizes = {"skip": False, "time_unit": 1.0} | read_json(file).get("audio", {})
            wan.compare_sizes(file, sizes, "audio", self.model.audio_stream.config)
            audio = SourceWeights.open(options.audio / "transformer", f"the audio tower of {options.audio.name}")
        return wan.weight_map(shapes_of(self.model), weights, audio)
