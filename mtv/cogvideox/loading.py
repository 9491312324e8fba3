"""A CogVideoX folder of diffusers, or a checkpoint made of one: read, and checked without torch or diffusers."""

from functools import partial
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.ranges import check_range
from shared.utils.weights_folder import LARGEST

WANTED = "a CogVideoX 1.0 text-to-video folder of diffusers (2b, 5b), or a checkpoint made of one, is needed"


def check_cogvideox(folder: str | Path, size: tuple[int, int] | None = None, learns_v: bool = False) -> None:
    """Raise UserError unless `folder` holds what audio control can be trained on, at `size` (height, width) pixels, by
    the error of v if it `learns_v`."""
    if not Path(folder).is_dir():
        raise UserError(f"backbone {folder}: no such folder; {WANTED}")
    codec_name = codec_folder(folder).name
    model, codec = read_part(folder, "transformer/config.json"), read_part(folder, f"{codec_name}/config.json")
    schedule, text = read_part(folder, "scheduler/scheduler_config.json"), read_part(folder, "text_encoder/config.json")
    for part, name, known in (
        ("transformer", model.get("_class_name"), ("CogVideoXTransformer3DModel",)),
        ("scheduler", schedule.get("_class_name"), ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")),
        (codec_name, codec.get("_class_name"), ("AutoencoderKLCogVideoX",)),
        ("text_encoder", text.get("model_type"), ("t5",)),
        ("prediction_type of the scheduler", schedule.get("prediction_type"), ("epsilon", "v_prediction")),
    ):
        if name not in known:
            raise UserError(f"backbone {folder}: {part} is {name!r}, not {' or '.join(known)}; {WANTED}")
    if learns_v and schedule["prediction_type"] != "v_prediction":
        told = "predicts epsilon, from which v cannot be told at the last timesteps; set diffusion_loss.v to 0"
        raise UserError(f"backbone {folder}: {told}")
    if model.get("patch_size_t") not in (None, 1):
        joined = f"{model['patch_size_t']} latents in a token (patch_size_t, CogVideoX 1.5)"
        raise UserError(f"backbone {folder}: joins {joined}, where no interval is a frame's; {WANTED}")
    whole = partial(_whole, f"backbone {folder}: ")
    sizes = [whole(model, "in_channels", 16), whole(model, "out_channels", 16), whole(codec, "latent_channels", 16)]
    if len(set(sizes)) > 1:
        raise UserError(
            f"backbone {folder}: the transformer takes {sizes[0]} channels and makes {sizes[1]}, the autoencoder has "
            f"{sizes[2]} (an image-to-video folder takes twice as many); {WANTED}"
        )
    if (width := whole(model, "text_embed_dim", 4096)) != text.get("d_model"):
        makes = f"the text encoder makes {text.get('d_model')}; these two do not belong together"
        raise UserError(f"backbone {folder}: the transformer reads text of {width} values, {makes}")
    levels = codec.get("block_out_channels", [0] * 4)
    check_range(f"backbone {folder}: {codec_name}/config.json: levels of block_out_channels", _length(levels), 1, 10)
    unit = 2 ** (len(levels) - 1) * whole(model, "patch_size", 2)
    if size is not None and (size[0] % unit or size[1] % unit):
        raise UserError(f"data.size: {size[0]}x{size[1]} does not fit {folder}; both must be multiples of {unit}")


def _whole(where: str, config: dict[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    check_range(f"{where}{name} of its {config['_class_name']}", value, 1, LARGEST)
    return int(value)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def load_scheduler(folder: str | Path) -> Any:
    """Load the scheduler of a folder, of the class that it names."""
    import diffusers

    kind = getattr(diffusers, read_part(folder, "scheduler/scheduler_config.json")["_class_name"])
    return kind.from_pretrained(str(Path(folder) / "scheduler"))


def codec_folder(folder: str | Path) -> Path:
    """Name the autoencoder's folder: video_codec, as ours, or vae, as diffusers'."""
    ours = Path(folder) / "video_codec"
    return ours if ours.is_dir() else ours.with_name("vae")


def read_part(folder: str | Path, file: str) -> dict[str, Any]:
    """Read a JSON file of the folder. UserError if it is missing or damaged."""
    return read_json(Path(folder) / file, f"backbone {folder}: {file}", WANTED)
