"""Codecs and text encoders by the folders or hub ids that hold them: our checkpoints', and those of the libraries."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError

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

#: Where a model's folder does not hold all of it: what lies beside it.
_BESIDE = {"audio_vae": "vocoder", "text_encoder": "tokenizer"}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Source:
    """A component that was found and is not loaded: its class as module:class, the folder or hub id, the place in it.

    `width`: of a text encoder's embeddings.
    """

    kind: str
    root: str
    place: str
    width: int = 0

    @property
    def folder(self) -> str:
        """What the `from_pretrained` of its class takes. A hub id is downloaded, or found in the cache."""
        root = Path(self.root) if Path(self.root).is_dir() else _downloaded(self.root, self.place)
        # what belongs to a model lies beside it, in folders that its own loader finds
        whole = self.place in _BESIDE and not self.kind.endswith(":HashedWords")
        return str(root if whole else root / self.place)


def find_component(name: str, source: str | Path) -> Source:
    """Which class component `name` in a folder or under a hub id has, from its config.json alone; nothing is imported.

    Raises UserError if there is none, or one of a kind that is not known.
    """
    places, kinds = COMPONENTS[name]
    what, hub = name.replace("_", " "), not Path(source).is_dir() and bool(_HUB_ID.fullmatch(str(source)))
    wanted = " or ".join(f"{place}/config.json".lstrip("/") for place in places)
    found, reason = _hub_config(str(source), places) if hub else (_local_config(Path(source), places), "")
    if found is None:
        advice = "a folder with the model, or its hub id, is needed"
        raise UserError(f"{what} {source}: no {wanted} there{reason and f' ({reason})'}; {advice}")
    place, file = found
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind = config.get("_class_name") or config.get("model_type")
        width = int(config.get("d_model") or config.get("dim") or 0) if name == "text_encoder" else 0
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); copy it again") from None
    if kind not in kinds:
        raise UserError(f"{what} {source}: holds {kind}; one of {', '.join(kinds)} is needed")
    return Source(kinds[kind], str(source), place, width)


def load_component(source: Source, **options: Any) -> Any:
    """The codec or encoder, in evaluation mode; `options` and errors are those of its `from_pretrained`."""
    module, _, kind = source.kind.partition(":")
    return getattr(import_module(module), kind).from_pretrained(source.folder, **options).eval()


def _local_config(folder: Path, places: tuple[str, ...]) -> tuple[str, Path] | None:
    """The first of `places` with a configuration, and that file."""
    files = ((place, folder / place / "config.json") for place in places)
    return next(((place, file) for place, file in files if file.is_file()), None)


def _hub_config(name: str, places: tuple[str, ...]) -> tuple[tuple[str, Path] | None, str]:
    """As `_local_config` of a hub id, and why there is none; without the net, or with HF_HUB_OFFLINE, of its cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    reason = ""
    for place in places:
        try:
            return (place, Path(hf_hub_download(name, f"{place}/config.json".lstrip("/")))), ""
        except LocalEntryNotFoundError:
            reason = "no such folder, and the hub cannot be reached: the net is down, or HF_HUB_OFFLINE is set"
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:  # the hub's own errors among them: no such name, no access
            return None, f"no such folder; the hub says {str(error).strip().splitlines()[0]}"
    return None, reason


def _downloaded(name: str, place: str) -> Path:
    """The local copy of a hub id, as far as the model in `place` needs it."""
    from huggingface_hub import snapshot_download

    whole = ["*.json", "*.safetensors", "*.model", "*.txt"]
    needed = [f"{part}/*" for part in (place, _BESIDE.get(place)) if part] or whole
    try:
        return Path(snapshot_download(name, allow_patterns=needed))
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: cannot be downloaded ({first}); copy its folder and name that") from None
