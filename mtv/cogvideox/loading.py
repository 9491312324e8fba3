"""A CogVideoX folder as diffusers saves it, or a checkpoint that scripts/train_mtv.py made of one: checked and loaded.

Checking reads configurations alone and imports neither torch nor diffusers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.utils.errors import UserError
from shared.utils.files import read_json

if TYPE_CHECKING:
    from diffusers import CogVideoXTransformer3DModel

    from shared.codecs.cogvideox import CogVideoXVideoCodec
    from shared.encoders.t5 import T5Text

SCHEDULERS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
CODECS = ("video_codec", "vae")  # ours and diffusers' name of the autoencoder's folder
WANTED = "a CogVideoX 1.0 text-to-video folder of diffusers (2b, 5b), or a checkpoint made of one, is needed"


def check_cogvideox(folder: str | Path, size: tuple[int, int] | None = None) -> None:
    """Raise UserError unless `folder` holds what audio control can be trained on, at `size` (height, width) pixels."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"backbone {folder}: no such folder; {WANTED}")
    model, codec = read_part(folder, "transformer/config.json"), read_part(folder, f"{_codec(folder)}/config.json")
    schedule, text = read_part(folder, "scheduler/scheduler_config.json"), read_part(folder, "text_encoder/config.json")
    for part, found, known in (
        ("transformer", model.get("_class_name"), ("CogVideoXTransformer3DModel",)),
        ("scheduler", schedule.get("_class_name"), SCHEDULERS),
        (_codec(folder), codec.get("_class_name"), ("AutoencoderKLCogVideoX",)),
        ("text_encoder", text.get("model_type"), ("t5",)),
        ("prediction_type of the scheduler", schedule.get("prediction_type"), ("epsilon", "v_prediction")),
    ):
        if found not in known:
            raise UserError(f"backbone {folder}: {part} is {found!r}, not {' or '.join(known)}; {WANTED}")
    if model.get("patch_size_t") not in (None, 1):
        raise UserError(
            f"backbone {folder}: joins {model['patch_size_t']} latents in a token (patch_size_t, CogVideoX 1.5), where "
            f"no interval is a frame's; {WANTED}"
        )
    sizes = [model.get("in_channels", 16), model.get("out_channels", 16), codec.get("latent_channels", 16)]
    if len(set(sizes)) > 1:
        raise UserError(
            f"backbone {folder}: the transformer takes {sizes[0]} channels and makes {sizes[1]}, the autoencoder has "
            f"{sizes[2]} (an image-to-video folder takes twice as many); {WANTED}"
        )
    if model.get("text_embed_dim", 4096) != text.get("d_model"):
        raise UserError(
            f"backbone {folder}: the transformer reads text of {model.get('text_embed_dim', 4096)} values, the text "
            f"encoder makes {text.get('d_model')}; these two do not belong together"
        )
    unit = 2 ** (len(codec.get("block_out_channels", (0,) * 4)) - 1) * model.get("patch_size", 2)
    if size is not None and (size[0] % unit or size[1] % unit):
        raise UserError(f"data.size: {size[0]}x{size[1]} does not fit {folder}; both must be multiples of {unit}")


def load_codec(folder: str | Path) -> CogVideoXVideoCodec:
    """Load the video codec of a folder. UserError if it is missing or damaged."""
    from shared.codecs.cogvideox import CogVideoXVideoCodec

    return CogVideoXVideoCodec.from_pretrained(Path(folder) / _codec(Path(folder)))


def load_scheduler(folder: str | Path) -> Any:
    """Load the scheduler of a folder, of the class that it names."""
    import diffusers

    kind = getattr(diffusers, read_part(folder, "scheduler/scheduler_config.json")["_class_name"])
    return kind.from_pretrained(str(Path(folder) / "scheduler"))


def load_text_encoder(folder: str | Path) -> T5Text:
    """T5 in the precision it is stored in, on the CPU. UserError if it is missing or damaged."""
    from shared.encoders.t5 import T5Text

    length = read_part(folder, "transformer/config.json").get("max_text_seq_length", 226)
    return T5Text.from_pretrained(folder, max_length=length, torch_dtype="auto")


def load_transformer(folder: str | Path) -> CogVideoXTransformer3DModel:
    """Load the transformer of a folder, float32. UserError if it is missing or damaged."""
    from diffusers import CogVideoXTransformer3DModel

    from shared.codecs.library import load_library_model

    return load_library_model((CogVideoXTransformer3DModel,), folder, ("transformer",))


def _codec(folder: Path) -> str:
    return next((name for name in CODECS if (folder / name).is_dir()), CODECS[-1])


def read_part(folder: str | Path, file: str) -> dict[str, Any]:
    """Read a JSON file of the folder. UserError if it is missing or damaged."""
    return read_json(Path(folder) / file, f"backbone {folder}: {file}", WANTED)
