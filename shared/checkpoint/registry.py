"""Codecs and text encoders by the folders or hub ids that hold them: ours, the libraries', and a user's own."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shared.checkpoint.folder import INDEX, package_of
from shared.utils import hub
from shared.utils.classes import NamedClass, load_class
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.progress import quiet_loading
from shared.utils.weights_folder import check_numbers

WANTED = "a folder with the model, or its hub id, is needed"


class Kind(NamedTuple):
    """How a component is read. `path`: its class here, as module:class; `width`: where config.json has its width.
    `beside`: a folder of its library and the one that lies beside it there and belongs to it."""

    path: str
    width: str
    beside: tuple[str, str] = ("", "")


class Component(NamedTuple):
    """Where a folder may hold it, where a user's own class has its width, and kinds by class or type in config.json."""

    places: tuple[str, ...]
    width: str
    kinds: dict[str, Kind]


COMPONENTS = {
    "video_codec": Component(("", "video_codec", "vae"), "latent_channels", {
        "LinearVideoCodec": Kind("shared.codecs.linear:LinearVideoCodec", "latent_channels"),
        "ConvVideoCodec": Kind("shared.codecs.convolutional:ConvVideoCodec", "latent_channels"),
        "AutoencoderKLWan": Kind("shared.codecs.wan:WanVideoCodec", "z_dim"),
        "AutoencoderKLCogVideoX": Kind("shared.codecs.cogvideox:CogVideoXVideoCodec", "latent_channels"),
    }),
    "audio_codec": Component(("", "audio_codec", "audio_vae", "vae"), "latent_channels", {
        "LinearAudioCodec": Kind("shared.codecs.linear:LinearAudioCodec", "latent_channels"),
        "AutoencoderKLLTX2Audio":
            Kind("shared.codecs.ltx2_audio:LTX2AudioCodec", "base_channels", ("audio_vae", "vocoder")),
        "AutoencoderOobleck": Kind("shared.codecs.oobleck:OobleckAudioCodec", "decoder_input_channels"),
    }),
    "text_encoder": Component(("", "text_encoder"), "dim", {
        "HashedWords": Kind("shared.encoders.text:HashedWords", "dim"),
        "umt5": Kind("shared.encoders.umt5:UMT5Text", "d_model", ("text_encoder", "tokenizer")),
    }),
}  # fmt: skip


@dataclass(frozen=True)
class ComponentSource:
    """A component that was found and is not loaded: its class (module:class), folder or hub id, and the place in it.
    `width`: latent channels, or values of an embedding. `beside`: a folder next to `place` that belongs to it."""

    kind: str
    root: str
    place: str
    width: int
    beside: str = ""

    @property
    def class_name(self) -> str:
        return self.kind.partition(":")[2]

    @property
    def label(self) -> str:
        """What reports call it: "WanVideoCodec from Wan2.1/vae"."""
        return f"{self.class_name} from {'/'.join(filter(None, (Path(self.root).name, self.place)))}"

    @property
    def folder(self) -> str:
        """What the `from_pretrained` of its class takes. A hub id is downloaded, or found in the cache."""
        # what belongs to a model lies beside it, in a folder that its own loader finds
        return str(self._root if self.beside else self._root / self.place)

    @property
    def size(self) -> int:
        """Bytes of its files, about what it will take."""
        folders = {self._root / self.place, self._root / (self.beside or self.place)}
        return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())

    @property
    def _root(self) -> Path:
        return hub.local_folder(self.root, dict.fromkeys((self.place, self.beside or self.place)))


def find_component(name: str, source: str | Path, trusted_packages: Collection[str] = ()) -> ComponentSource:
    """Which class component `name` in a folder or under a hub id has, from its config.json alone; nothing is imported.
    A user's own class is known where the user names it, "package.module:Class@FOLDER", or where model_index.json does
    and its package is trusted. Raises `hub.NotFound` if none of a known kind is there; UserError for a bad config."""
    component, what = COMPONENTS[name], name.replace("_", " ")
    named = NamedClass.parse(str(source))
    root = named.source if named else str(source)
    class_names = []
    for place, config in hub.find_configs(root, what, component.places, WANTED).items():
        check_numbers(config, "/".join(filter(None, (root, place, "config.json"))))
        class_names.append(str(config.get("_class_name") or config.get("model_type")))
        kind = Kind(named.kind, component.width) if named else component.kinds.get(class_names[-1])
        if kind := kind or _trusted_kind(name, root, class_names[-1], trusted_packages):
            if not isinstance(width := config.get(kind.width), int):
                file = "/".join(filter(None, (root, place, "config.json")))
                raise UserError(f"{file}: has no {kind.width}; copy the whole folder again")
            beside = kind.beside[1] if place == kind.beside[0] else ""
            return ComponentSource(kind.path, root, place, width, beside)
    raise hub.NotFound(
        f"{what} {source}: holds {', '.join(class_names)}; one of {', '.join(component.kinds)} is needed"
    )


def load_component(source: ComponentSource, **options: Any) -> Any:
    """Load the codec or encoder, in evaluation mode; `options` and errors are those of its `from_pretrained`.
    UserError for a weight that is not finite."""
    from shared.utils.finite import check_weights

    with quiet_loading():
        component = load_class(source.kind).from_pretrained(source.folder, **options).eval()
    check_weights(component, source.folder)
    return component


def _trusted_kind(name: str, root: str, called: str, trusted_packages: Collection[str]) -> Kind | None:
    """Find the class that a checkpoint folder's index names for a component, if the user trusts its package."""
    index = Path(root) / INDEX
    entry = read_json(index).get(name) if trusted_packages and index.is_file() else None
    if isinstance(entry, list) and entry[1:] == [called] and package_of(str(entry[0])) in trusted_packages:
        return Kind(":".join(entry), COMPONENTS[name].width)
    return None
