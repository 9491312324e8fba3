"""The one checkpoint folder: a diffusers pipeline folder, safetensors only, with a card; all or nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shared.utils import hub
from shared.utils.classes import load_class
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing_folder
from shared.utils.portable import settle
from shared.utils.progress import bar_options, quiet_loading
from shared.utils.ranges import check_range
from shared.utils.weights_folder import ADVICE, DIFFUSERS, check_numbers, read_headers

if TYPE_CHECKING:  # checking a folder needs neither of them, and they take seconds to import
    import torch
    from diffusers import DiffusionPipeline

Pipeline = TypeVar("Pipeline", bound="DiffusionPipeline")
INDEX = "model_index.json"
#: What diffusers' `custom_pipeline` looks for in a folder.
OPENER = "pipeline.py"
WEIGHTS = f"{DIFFUSERS}.safetensors"
#: Files that may run anything when they are read; none is.
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".th", ".pkl")
#: Packages whose classes an index may name: loading imports what it names, so others are refused unseen.
OURS = ("ccl", "mtv", "shared")
TRUSTED = (*OURS, "diffusers", "transformers")
#: How an index, or a pipeline's components, has one that is left out.
ABSENT = (None, [None, None])
#: Classes with a model in a folder inside their own.
INNER = {"LTX2AudioCodec": "vocoder"}
#: What joint sampling needs.
JOINT = ("transformer", "video_codec", "audio_codec", "text_encoder", "scheduler", "audio_scheduler")
#: What audio-driven video needs besides the video's parts.
DRIVEN = ("control", "audio_encoder")


class CheckpointMixin:
    """`from_pretrained` for pipelines of our folders; stands before `DiffusionPipeline` among a class's bases.
    diffusers loads a component only if its module is imported already, and a folder may name those of another pipeline
    or codec. They are imported here, ours and those of packages that are allowed, after a look at the whole folder."""

    #: Components that a pipeline never runs, and has so that saving loses nothing.
    unused_components: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(cls, folder: str | Path, trusted_packages: Collection[str] = (), **options: Any) -> Self:
        """Load a pipeline from a checkpoint folder or hub id; components among the `options` replace its own.
        `trusted_packages`: others than ours whose classes the folder may name ("my_codecs"); they are imported, so that
        their code runs. UserError as `check_checkpoint`, for a folder without a part that this pipeline needs, or for a
        weight that is not finite."""
        source = hub.local_folder(folder, **hub.hub_options(options))
        index = check_checkpoint(source, trusted_packages)
        parts = {name: kind for name, kind in {**index, **options}.items() if kind not in ABSENT}
        cls._check_parts(parts, f"checkpoint {folder}: ")
        for name, kind in parts.items():
            if isinstance(kind, list) and name not in options:
                _check_class(load_class(":".join(kind)), source, name)
        with quiet_loading():
            pipeline: Self = super().from_pretrained(str(source), **{"use_safetensors": True, **options})  # type: ignore[misc]
        from shared.utils.finite import check_weights

        for name, component in pipeline.components.items():  # type: ignore[attr-defined]
            if name not in options:
                check_weights(component, f"checkpoint {folder}: {name}")
        return pipeline

    def save_pretrained(self, folder: str | Path, *args: Any, **options: Any) -> None:
        """Write the folder as diffusers does, in files that others may read, and without the places of the parts; with
        `OPENER`, so that `DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)`
        opens it too."""
        super().save_pretrained(folder, *args, **options)  # type: ignore[misc]
        if package_of(type(self).__module__) in OURS:
            (Path(folder) / OPENER).write_text(opener(type(self), read_json(Path(folder) / INDEX)), encoding="utf-8")
        settle(Path(folder))

    def progress_bar(self, *arguments: Any, **options: Any) -> Any:
        """Make a bar as diffusers does, of those of `shared.utils.progress`."""
        given = getattr(self, "_progress_bar_config", {})
        self._progress_bar_config = bar_options() | given
        try:
            return super().progress_bar(*arguments, **options)  # type: ignore[misc]
        finally:
            self._progress_bar_config = given  # without the open file of the options, so that a pipeline can be copied

    @classmethod
    def _check_parts(cls, parts: Mapping[str, Any], where: str) -> None:
        """Raise UserError unless the names of `parts` are all that the pipeline needs."""


def opener(kind: type, index: Mapping[str, Any]) -> str:
    """Write the module that lets diffusers open a folder of this `index`: it imports the pipeline, and what the index
    names, or says in one line what is missing."""
    named = [entry[0] for entry in index.values() if isinstance(entry, list) and entry not in ABSENT]
    modules = sorted({name for name in named if package_of(name) not in ("diffusers", "transformers")})
    lines = "".join(f"    import {name}  # noqa: F401\n" for name in modules)
    return f'''"""Opens this folder with plain diffusers; the project's packages have to be installed.

    DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
"""

try:
{lines}    from {kind.__module__} import {kind.__name__}  # noqa: F401
except ImportError as error:
    told = "this checkpoint is read by the packages ccl, mtv and shared: install the repository"
    raise ImportError(f"{{told}}, then from {package_of(kind.__module__)} import {kind.__name__} ({{error}})") from None
'''


def save_checkpoint(pipeline: DiffusionPipeline, folder: str | Path, card: str, shard_size: str = "5GB") -> None:
    """Write `pipeline` and its card to `folder`, in files of at most `shard_size`; one there is replaced at the end."""
    with replacing_folder(Path(folder)) as partial, quiet_loading():
        pipeline.save_pretrained(partial, safe_serialization=True, max_shard_size=shard_size)
        (partial / "README.md").write_text(card, encoding="utf-8")


def load_checkpoint(
    kind: type[Pipeline], folder: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu",
    trusted_packages: Collection[str] = (), left_out: Collection[str] = (),
) -> Pipeline:  # fmt: skip
    """Load a pipeline from a folder, on `device`, in `dtype` (None: float32), without the components `left_out`.
    UserError: see `check_checkpoint`."""
    import torch

    check_checkpoint(folder, trusted_packages)  # a folder: what has no slash would be looked for on the hub
    options = {"dtype": dtype or torch.float32, "use_safetensors": True, **dict.fromkeys(left_out)}
    return kind.from_pretrained(str(folder), trusted_packages=trusted_packages, **options).to(device)


def check_saveable(name: str, part: Any) -> None:
    """Raise UserError unless a component of a user's own class can be saved with a checkpoint, and read again."""
    if package_of(type(part).__module__) in TRUSTED:
        return
    from diffusers import DiffusionPipeline

    class Parts(DiffusionPipeline):
        def __init__(self, part: Any) -> None:
            super().__init__()
            self.register_modules(part=part)

    kind, advice = type(part).__name__, "derive it from diffusers' ModelMixin and ConfigMixin, as docs/codecs.md shows"
    with TemporaryDirectory() as folder, quiet_loading():
        try:
            Parts(part).save_pretrained(folder, safe_serialization=True)
            if check_checkpoint(folder, [package_of(type(part).__module__)]).get("part") in ABSENT:
                raise UserError("diffusers does not know how")
            type(part).from_pretrained(Path(folder) / "part")
        except Exception as error:  # whatever a user's own code raises
            reason = f"{hub.first_line(error) or type(error).__name__}"
            raise UserError(f"{name}: {kind} cannot be saved with the checkpoint ({reason}); {advice}") from error


def check_checkpoint(folder: str | Path, trusted_packages: Collection[str] = ()) -> dict[str, Any]:
    """Read the folder's index, after a look at every file that it promises; nothing is imported. UserError: what is
    missing or cannot be read, or a class from a package in neither `TRUSTED` nor `trusted_packages`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"checkpoint {folder}: no such folder; one that holds {INDEX} is needed")
    if not (folder / INDEX).is_file():
        raise UserError(f"checkpoint {folder}: {INDEX} is missing, so this is no checkpoint folder")
    index = _read_json(folder, INDEX)
    if not isinstance(index.get("_class_name", ""), str):
        raise UserError(f"checkpoint {folder}: {INDEX} brings a pipeline of its own, which is not run; remove it there")
    for name, low, high in (("fps", 0.001, 1000), ("height", 1, 2**15), ("width", 1, 2**15)):
        check_range(f"checkpoint {folder}: {INDEX}: {name}", index.get(name, 1), low, high, whole=name != "fps")
    for name, kind in index.items():
        if name[:1] == "_" or not isinstance(kind, list) or kind in ABSENT:
            continue
        if len(kind) != 2 or not all(isinstance(part, str) for part in kind):
            raise UserError(f"checkpoint {folder}: {INDEX} has {name} = {kind}; [module, class] is expected")
        if (package := package_of(kind[0])) not in (*TRUSTED, *trusted_packages):
            raise UserError(
                f"checkpoint {folder}: {INDEX} takes {name} from module {kind[0]!r}, which is not trusted; if it is "
                f"yours, allow it: --trust-package {package}, or trusted_packages=[{package!r}]"
            )
        _check_component(folder, name, weights="scheduler" not in name)
        if inner := INNER.get(kind[1]):
            _check_component(folder, f"{name}/{inner}", weights=True)
    return index


def package_of(module: str) -> str:
    """Name the package, by which modules are trusted, of "package.module"."""
    return module.partition(".")[0]


def check_joint(components: Mapping[str, Any], where: str = "") -> None:
    """Raise UserError unless `components`, an index or components by name, has all that joint sampling needs."""
    if missing := [name for name in JOINT if components.get(name) in ABSENT]:
        advice = ADVICE
        if all(name.startswith("audio_") for name in missing):
            advice = "a model of the video alone: scripts/sample_mtv.py drives one with control, by speech and sounds"
        raise UserError(f"{where}no {' and no '.join(missing)}; {advice}")


def check_driven(components: Mapping[str, Any], where: str = "") -> None:
    """Raise UserError unless `components`, an index or components by name, has what audio-driven video needs."""
    if missing := [name for name in DRIVEN if components.get(name) in ABSENT]:
        needed = "audio-driven video needs a checkpoint that scripts/train_mtv.py wrote"
        raise UserError(f"{where}no {' and no '.join(missing)}, this is a joint model only; {needed}")


def _check_class(kind: Any, folder: Path, name: str) -> None:
    """Refuse what is no component at all, and a model that is not that of the weights in its folder."""
    from shared.utils.folder_check import check_folder

    if not isinstance(kind, type) or not hasattr(kind, "from_pretrained"):
        raise UserError(f"checkpoint {folder}: {INDEX} has {name} of {kind!r:.80}, which is no component; {ADVICE}")
    check_folder(kind, folder / name, f"checkpoint {folder}: {name}/")


def _check_component(folder: Path, name: str, weights: bool) -> None:
    file = f"{name}/{'config.json' if weights else 'scheduler_config.json'}"
    check_numbers(_read_json(folder, file), f"checkpoint {folder}: {file}")
    if weights:
        read_headers(folder / name, f"checkpoint {folder}: {name}/")


def _require(folder: Path, file: str) -> None:
    if not (folder / file).is_file():
        raise UserError(f"checkpoint {folder}: {file} is missing; {ADVICE}")


def _read_json(folder: Path, file: str) -> dict[str, Any]:
    _require(folder, file)
    return read_json(folder / file, f"checkpoint {folder}: {file}", ADVICE)
