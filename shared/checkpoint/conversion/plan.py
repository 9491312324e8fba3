"""What a conversion is asked for and what it will make, as far as that is known without torch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from shared.checkpoint.conversion.safetensors_reader import weight_files
from shared.checkpoint.conversion.wan import transformer_place
from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import COMPONENTS, ComponentSource, find_component
from shared.utils import cli
from shared.utils.cli import PerStream, option
from shared.utils.config_sections import ShardSize
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.hub import NotFound
from shared.utils.ranges import Fps, Seed, Side
from shared.utils.text_files import parse_yaml, read_text

#: Frames a second, height and width that a public Wan was trained at, by its latent channels.
TRAINED_AT = {16: (16.0, (480, 832)), 48: (24.0, (704, 1280))}
SHIFT = 5.0
#: Seconds in which Ovi's audio turns by one radian of its fastest band: a token of 0.032 s turns by 0.19676.
OVI_TIME_UNIT = 0.032 / 0.19676
#: What to do about a component that is not there.
ADVICE = {
    "video_codec": "--video-codec FOLDER (Wan's AutoencoderKLWan)",
    "audio_codec": "--audio-codec FOLDER (LTX-2's audio_vae/ with vocoder/, or Stable Audio's AutoencoderOobleck)",
    "text_encoder": "--text-encoder FOLDER (UMT5-XXL with its tokenizer)",
}
#: Components and the settings of streams that are their width.
WIDTHS = [(f"{stream}_codec", stream, "in_channels") for stream in ("video", "audio")]
WIDTHS += [("text_encoder", stream, "text_dim") for stream in ("video", "audio")]


def _positive(shifts: tuple[float, float]) -> tuple[float, float]:
    if not 0 < min(shifts) <= max(shifts) <= 1000:
        raise ValueError(f"{shifts[0]:g},{shifts[1]:g}: positive numbers are needed, of at most 1000")
    return shifts


Shifts = Annotated[PerStream, AfterValidator(_positive)]


class ConversionOptions(cli.Options):
    """Options of every conversion into a checkpoint folder of ours."""

    source: Path = option(help="diffusers folder, folder of the original layout, or a .safetensors file")
    model: Path = option(help="a YAML file of configs/model/")
    output: Path = option(help="new checkpoint folder", writes="folder")
    video_codec: str | None = option(None, "default: the source's own, if it has one", metavar="FOLDER")
    audio_codec: str | None = option(None, "LTX-2's audio VAE and vocoder, or Oobleck", metavar="FOLDER")
    text_encoder: str | None = option(None, "default: the source's own, if it has one", metavar="FOLDER")
    shift: Shifts | None = option(None, "of the schedulers (default: the source's, or 5)", metavar="VIDEO[,AUDIO]")
    fps: Fps | None = option(None, "frames a second of its video (default: the public model's)")
    size: tuple[Side, Side] | None = option(None, "of its video (default likewise)", metavar=("HEIGHT", "WIDTH"))
    dtype: Literal["keep", "float32", "bfloat16"] = option("keep", "of the weights")
    shard_size: ShardSize = option("5GB", "largest file of weights")
    seed: Seed = option(0, "of new tensors")
    dry_run: bool = option(False, "only say what would be done")


class WanOptions(ConversionOptions):
    """A Wan, in diffusers' or the original layout, to a checkpoint folder."""

    audio: Path | None = option(None, "checkpoint of ours whose audio tower to take", metavar="CHECKPOINT")


class OviOptions(ConversionOptions):
    """A fused checkpoint of Ovi to a checkpoint folder."""

    into: Literal["cca", "full"] = option(help="what its fusion becomes")


class ExportOptions(cli.Options):
    """Our video stream to a folder that diffusers loads."""

    checkpoint: Path = option(help="checkpoint folder of ours")
    output: Path = option(help="new folder, a WanTransformer3DModel", writes="folder")
    shard_size: ShardSize = option("5GB", "largest file")
    dry_run: bool = option(False, "only say what would be done")


class PickleOptions(cli.Options):
    """Pickled weights to safetensors; nothing else is read."""

    source: Path = option(help=".pth, .pt, .bin, .ckpt, .th or .pkl")
    output: Path = option(help="new .safetensors file", writes="file")


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion is to make: settings of the transformer, components that are there, shifts of both solvers."""

    settings: dict[str, Any]
    components: dict[str, ComponentSource]
    shifts: tuple[float, float]
    fps: float
    size: tuple[int, int]

    @classmethod
    def of(cls, options: WanOptions | OviOptions) -> ConversionPlan:
        """Everything that can be checked without torch is. Raises UserError."""
        settings = read_model(options.model)
        weight_files(transformer_place(options.source) if isinstance(options, WanOptions) else options.source)
        if isinstance(options, WanOptions) and options.audio is not None:
            check_checkpoint(options.audio)
        components = {name: found for name in COMPONENTS if (found := locate(options, name))}
        if codec := components.get("audio_codec"):  # it says how many values a token has, as in training
            settings["audio"] = settings["audio"] | {"in_channels": codec.width}
        for name, stream, key in WIDTHS:
            part, here = components.get(name), settings[stream][key]
            if part is not None and part.width != here:
                what = f"{part.class_name} has {part.width} values, and {stream}.{key} is {here} in {options.model}"
                raise UserError(f"{part.root}: {what}; make them agree")
        if isinstance(options, OviOptions):
            settings["fusion"] = ovi_fusion(settings, options)
            # what Ovi's own has where the model file says nothing: its places of audio tokens, and towers alone at 0m
            own = {"fusion_time_unit": OVI_TIME_UNIT} if options.into == "full" else {"unconditional": "zero"}
            settings = own | settings
        fps, size = TRAINED_AT.get(settings["video"]["in_channels"], TRAINED_AT[16])
        shifts = options.shift or (trained_shift(options.source),) * 2
        return cls(settings, components, shifts, options.fps or fps, options.size or size)

    @property
    def missing(self) -> list[str]:
        """What the folder will lack, and what gives it."""
        return [f"{name.replace('_', ' ')}; {ADVICE[name]}" for name in COMPONENTS if name not in self.components]


def read_model(path: Path) -> dict[str, Any]:
    """Read a file of configs/model/. Raises UserError."""
    settings = parse_yaml(read_text(path, f"--model {path}"), f"--model {path}", "cannot be read, as it is not YAML")
    if not isinstance(settings, dict) or not all(isinstance(settings.get(name), dict) for name in ("video", "audio")):
        raise UserError(f"--model {path}: video and audio, each with its sizes, are needed; see configs/model/")
    for _, stream, name in WIDTHS:
        if name not in settings[stream]:
            raise UserError(f"--model {path}: {stream}.{name} is missing; see configs/model/wan2.1-1.3b.yaml")
    return settings


def locate(options: WanOptions | OviOptions, name: str) -> ComponentSource | None:
    """Find a component where its option says, an audio codec beside the audio tower, or at the source."""
    if (named := getattr(options, name)) is not None:
        return find_component(name, named)
    tower = options.audio if isinstance(options, WanOptions) else None
    place = options.source if name != "audio_codec" else tower and tower / name
    if place is not None and place.is_dir():
        with suppress(NotFound):
            return find_component(name, place)
    return None


def ovi_fusion(settings: dict[str, Any], options: OviOptions) -> str:
    """Check what --into asks for, if the model's sizes can hold Ovi's fusion. Raises UserError."""
    if (here := settings.get("fusion", options.into)) != options.into:
        raise UserError(f"--into {options.into}: {options.model} has fusion: {here}; leave it out there")
    towers = [settings[stream] for stream in ("video", "audio")]
    sizes = {(tower.get("num_attention_heads"), tower.get("attention_head_dim")) for tower in towers}
    heads, head_dim = settings.get("cca_heads"), settings.get("cca_head_dim")
    if options.into == "cca" and sizes != {(heads, head_dim)}:
        needed = "Ovi's fusion needs those of both towers, as in configs/model/wan2.2-5b-ovi.yaml"
        raise UserError(f"--into cca: {options.model} has cca_heads {heads} of {head_dim}; {needed}")
    return options.into


def trained_shift(source: Path) -> float:
    """Read the flow shift of the scheduler at `source`, 5 where there is none. Raises UserError."""
    file = source / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return SHIFT
    config = read_json(file)
    value = config.get("flow_shift", config.get("shift", SHIFT))
    if not isinstance(value, int | float) or value <= 0:
        raise UserError(f"{file}: flow_shift is {value!r}; a positive number is needed, or --shift")
    return float(value)
