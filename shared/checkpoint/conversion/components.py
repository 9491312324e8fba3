"""The other parts of a checkpoint, found beside public weights: codecs and text encoder, by what their folders say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.files import read_json


@dataclass(frozen=True)
class Kind:
    """How a component is known and read: its class here, and where its folder's configuration has its width."""

    module: str
    name: str
    width: str
    options: Mapping[str, Any]


#: Component -> {what its configuration calls itself: how to read it}.
KINDS: dict[str, dict[str, Kind]] = {
    "video_codec": {
        "AutoencoderKLWan": Kind("shared.codecs.wan", "WanVideoCodec", "z_dim", {}),
        "LinearVideoCodec": Kind("shared.codecs.linear", "LinearVideoCodec", "latent_channels", {}),
    },
    "audio_codec": {
        "AutoencoderKLLTX2Audio": Kind("shared.codecs.ltx2_audio", "LTX2AudioCodec", "base_channels", {}),
        "AutoencoderOobleck": Kind("shared.codecs.oobleck", "OobleckAudioCodec", "decoder_input_channels", {}),
        "LinearAudioCodec": Kind("shared.codecs.linear", "LinearAudioCodec", "latent_channels", {}),
    },
    "text_encoder": {
        # as it was saved: in float32 UMT5-XXL takes 23 GB
        "umt5": Kind("shared.encoders.umt5", "UMT5Text", "d_model", {"torch_dtype": "auto"}),
        "HashedWords": Kind("shared.encoders.text", "HashedWords", "dim", {}),
    },
}
#: Subfolders in which pipelines keep them, the folder itself first.
PLACES = {
    "video_codec": ("", "vae", "video_codec"),
    "audio_codec": ("", "audio_vae", "vae", "audio_codec"),
    "text_encoder": ("", "text_encoder"),
}
#: What to do about one that is not there.
OPTIONS = {
    "video_codec": "--video-codec FOLDER (Wan's AutoencoderKLWan)",
    "audio_codec": "--audio-codec FOLDER (LTX-2's audio_vae/ with vocoder/, or Stable Audio's AutoencoderOobleck)",
    "text_encoder": "--text-encoder FOLDER (UMT5-XXL with its tokenizer)",
}


@dataclass(frozen=True)
class Component:
    """A codec or text encoder in a folder, not loaded yet. `width`: latent channels, or those of the embeddings."""

    name: str
    root: Path
    place: str
    kind: Kind
    width: int

    @property
    def label(self) -> str:
        return f"{self.kind.name} from {self.root.name}{'/' * bool(self.place)}{self.place}"

    @property
    def where(self) -> Path:
        """The folder to read: the root where another one beside its own belongs to it (vocoder, tokenizer)."""
        ours = self.kind.name == "HashedWords"
        return self.root if self.place in ("audio_vae", "text_encoder") and not ours else self.root / self.place

    @property
    def size(self) -> int:
        """Bytes of its files, about what it will take."""
        beside = {"audio_vae": "vocoder", "text_encoder": "tokenizer"}.get(self.place, self.place)
        folders = {self.root / self.place, self.root / beside}
        return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())

    def load(self) -> Any:
        """The component. Raises UserError as its class."""
        kind = getattr(import_module(self.kind.module), self.kind.name)
        return kind.from_pretrained(self.where, **self.kind.options)


def find(name: str, root: Path, wanted: bool = True) -> Component | None:
    """The component `name` in the folder `root` or a usual place in it.

    Raises:
        UserError: `wanted` and not there, or there without a width.
    """
    kinds = KINDS[name]
    for place in PLACES[name]:
        file = root / place / "config.json"
        if not file.is_file():
            continue
        config = read_json(file)
        kind = kinds.get(str(config.get("_class_name"))) or kinds.get(str(config.get("model_type")))
        if kind is not None:
            width = config.get(kind.width)
            if not isinstance(width, int):
                raise UserError(f"{file}: no {kind.width}; copy the whole folder again")
            return Component(name, root, place, kind, width)
    if wanted:
        places = " or ".join(f"{place}/config.json".lstrip("/") for place in PLACES[name])
        raise UserError(f"{root}: no {' or '.join(kinds)} in it ({places} says what there is)")
    return None
