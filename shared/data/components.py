"""Codecs and text encoders by the folders that hold them: our checkpoints', and those of the libraries."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.errors import UserError

#: By component: where a folder may hold it, and by the class or model type in its config.json, our class.
COMPONENTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "video_codec": (
        ("", "video_codec", "vae"),
        {
            "LinearVideoCodec": "shared.codecs.linear:LinearVideoCodec",
            "AutoencoderKLWan": "shared.codecs.wan:WanVideoCodec",
            "AutoencoderKLCogVideoX": "shared.codecs.cogvideox:CogVideoXVideoCodec",
        },
    ),
    "audio_codec": (
        ("", "audio_codec", "audio_vae", "vae"),
        {
            "LinearAudioCodec": "shared.codecs.linear:LinearAudioCodec",
            "AutoencoderKLLTX2Audio": "shared.codecs.ltx2_audio:LTX2AudioCodec",
            "AutoencoderOobleck": "shared.codecs.oobleck:OobleckAudioCodec",
        },
    ),
    "text_encoder": (
        ("", "text_encoder"),
        {"HashedWords": "shared.encoders.text:HashedWords", "umt5": "shared.encoders.umt5:UMT5Text"},
    ),
}

#: Name of a class as module:class, and the folder that its `from_pretrained` takes.
Source = tuple[str, str]


def find_component(name: str, folder: Path) -> Source:
    """Which class component `name` in `folder` has, from its config.json alone; nothing is imported.

    Raises UserError if there is none, or one of a kind that is not known.
    """
    places, kinds = COMPONENTS[name]
    what = name.replace("_", " ")
    place = next((place for place in places if (folder / place / "config.json").is_file()), None)
    if place is None:
        wanted = " or ".join(f"{place}/config.json".lstrip("/") for place in places)
        raise UserError(f"{what} {folder}: no {wanted} there; a local folder with the model is needed")
    try:
        config = json.loads((folder / place / "config.json").read_text(encoding="utf-8"))
        kind = config.get("_class_name") or config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / place / 'config.json'}: cannot be read ({error}); copy it again") from None
    if kind not in kinds:
        raise UserError(f"{what} {folder}: holds {kind}; one of {', '.join(kinds)} is needed")
    # a library's pipeline keeps what belongs to a model beside it, in folders that its own loader finds
    return kinds[kind], str(folder / place if place in ("", name) and kind != "umt5" else folder)


def load_component(source: Source, **options: Any) -> Any:
    """The codec or encoder, in evaluation mode; `options` and errors are those of its `from_pretrained`."""
    module, _, kind = source[0].partition(":")
    return getattr(import_module(module), kind).from_pretrained(source[1], **options).eval()
