"""Public weights into a checkpoint folder of a joint model; `shared.checkpoint.conversion` reads and writes them."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from huggingface_hub import ModelCardData

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.conversion import ovi, sharded_writer, wan
from shared.checkpoint.conversion.plan import ConversionPlan, OviOptions, WanOptions
from shared.checkpoint.conversion.safetensors_reader import SourceWeights
from shared.checkpoint.conversion.weight_map import WeightMap, report_rows, shapes_of
from shared.checkpoint.provenance import provenance
from shared.checkpoint.registry import COMPONENTS, load_component
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing_folder
from shared.utils.markdown import markdown_table
from shared.utils.progress import quiet_loading
from shared.utils.version import commit

OVI_FUSION = {
    "full": """Ovi's own way of joining the towers (`fusion: full`). The towers and the fusion are Ovi's; its input and
output layers for sound are not, so the checkpoint makes no sound before it is trained.""",
    "cca": """Ovi's fusion as CCA of full width: q, o and norms are those of its text attention, k and v those of its
fusion. It is a start for training, not Ovi: CCA comes after the text attention, sees a partition of the other stream
and new context tokens, and turns queries in time only, where Ovi turns the video's on three axes. At 0m it adds
nothing (`unconditional: zero`): each tower is Ovi's alone.""",
}
OVI_AUDIO = """Ovi's audio codec (MMAudio, 16 kHz, 31.25 Hz, 20 values a token) is not ours. The audio stream's input
layer is new, its output layer too unless it has 20 values, and tokens may come at another rate: `audio.time_unit`
keeps the rotation per second that the tower was trained with."""


def build_transformer(settings: dict[str, Any], path: Path, blocks: int | None = None) -> DualStreamTransformer:
    """Build the model of a file of configs/model/: without values, or with them where it has so many `blocks`.
    UserError, naming the file, if it describes none."""
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
        sharded_writer.check_output(options.output)
        self.options, self.plan = options, plan
        self.notes: list[str] = []
        self.model = build_transformer(plan.settings, options.model)
        if isinstance(options, WanOptions):
            self.mapping = self._wan(options)
        else:
            self.mapping = ovi.weight_map(shapes_of(self.model), SourceWeights.open(options.source), options.into)
            if options.into == "cca" and plan.settings["unconditional"] != "zero":
                told = "has unconditional: context, so that at 0m (t2v, t2a, guidance by the other stream) the towers"
                self.notes.append(f"warning: {options.model}: {told} read context tokens that nobody has trained")

    def report(self) -> str:
        """Where every group of tensors and every component comes from, and what is missing."""
        parts = [f"{name.replace('_', ' ')}: {source.label}" for name, source in self.plan.components.items()]
        return "\n".join([*self.notes, self.mapping.report(), *parts, *(f"no {text}" for text in self.plan.missing)])

    def write(self) -> None:
        """Write the checkpoint folder: components, schedulers, index, card, and the transformer's weights last."""
        options, plan = self.options, self.plan
        dtype = None if options.dtype == "keep" else getattr(torch, options.dtype)
        fp32 = self.model._keep_in_fp32_modules if dtype == torch.bfloat16 else ()
        tensors = sharded_writer.planned(self.mapping, dtype, fp32)
        size = sharded_writer.size_of(tensors.values()) + sum(part.size for part in plan.components.values())
        sharded_writer.check_space(options.output, size)
        with replacing_folder(options.output) as folder:
            with quiet_loading():
                self._write_parts(folder)
            (folder / "README.md").write_text(self._card(), encoding="utf-8")
            transformer = folder / "transformer"
            transformer.mkdir()
            self.model.save_config(transformer)
            one_block = partial(build_transformer, plan.settings, options.model, blocks=1)
            fresh = sharded_writer.FreshTensors(one_block, options.seed)
            sharded_writer.write_tensors(transformer, tensors, self.mapping, options.shard_size, fresh)

    def _write_parts(self, folder: Path) -> None:
        """Codecs, text encoder, schedulers and model_index.json; nothing of them stays in memory."""
        plan = self.plan
        components: dict[str, Any] = dict.fromkeys(COMPONENTS)
        for name, source in plan.components.items():
            # UMT5 as it was saved: in float32 UMT5-XXL takes 23 GB
            options = {"torch_dtype": "auto"} if source.class_name == "UMT5Text" else {}
            components[name] = load_component(source, **options)
        for name, shift in zip(("scheduler", "audio_scheduler"), plan.shifts, strict=True):
            components[name] = FlowMatchEulerDiscreteScheduler(shift=shift)
            components[name].save_pretrained(folder / name)
        height, width = plan.size
        CCLPipeline(self.model, **components, fps=plan.fps, height=height, width=width).save_config(folder)
        for name in plan.components:
            components[name].save_pretrained(folder / name, max_shard_size=self.options.shard_size)

    def _wan(self, options: WanOptions) -> WeightMap:
        place = wan.transformer_place(options.source)
        weights, audio = SourceWeights.open(place, options.source.name), None
        self.notes += [wan.describe_weights(weights, place), *wan.own_parts(options.source)]
        if not wan.check_config(place, self.model.video_stream.config):
            what = "no config.json beside the weights; heads and eps are taken from"
            self.notes.append(f"{options.source}: {what} {options.model}")
        if options.audio is not None:
            file = options.audio / "transformer" / "config.json"
            sizes = {"skip": False, "gate": False, "time_unit": 1.0} | read_json(file).get("audio", {})
            wan.compare_sizes(file, sizes, "audio", self.model.audio_stream.config)
            audio = SourceWeights.open(options.audio / "transformer", f"the audio tower of {options.audio.name}")
        return wan.weight_map(shapes_of(self.model), weights, audio)

    def _card(self) -> str:
        """Markdown: what came from where, what is new and what is not there."""
        options = self.options
        rows = [[row.part, f"{row.tensors:,}", f"{row.values:,}", row.origin] for row in report_rows(self.mapping)]
        others = [f"- {source.label}\n" for source in self.plan.components.values()]
        others += [f"- not here: {text}\n" for text in self.plan.missing]
        data = ModelCardData(
            library_name="diffusers", pipeline_tag="text-to-video", **provenance(str(options.source)),
            tags=["audio-video", "joint-generation", "cross-modal-context-learning"],
        )  # fmt: skip
        about_ovi = f"\n{OVI_FUSION[options.into]}\n\n{OVI_AUDIO}\n" if isinstance(options, OviOptions) else ""
        return f"""---
{data.to_yaml()}
---
# Converted from {options.source.name}

Not trained since. New parts are random or zero: train before sampling jointly. The licence of the source holds for
what came from it.
{about_ovi}
{markdown_table(["part", "tensors", "values", "origin"], rows).rstrip()}

Other parts:
{"".join(others)}
New tensors drew from seed {options.seed}. Written by code of commit {commit()}.
"""
