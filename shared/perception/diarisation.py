"""How many voices are heard, and who speaks when, by a pipeline of pyannote.audio that the user has in a folder.

    spans = load_diariser(Path("models/pyannote"))(sound)    # [[(0.2, 1.9), (4.0, 5.1)], [(2.1, 3.8)]], seconds

The folder is as pyannote/speaker-diarization-community-1 is published: config.yaml and the models that it names
(segmentation: Plaquet and Bredin 2023, arXiv 2310.13025). The package (MIT) would fetch what is not there, unpickle
what is, and tell its makers of each use. So the models are built here, of files that are read as weights and the
package's own settings and nothing else, and its telemetry is off.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch.torch_version import TorchVersion

from shared.perception.pipeline_folder import NAME, WANTED, read_pipeline
from shared.perception.pitch import RATE
from shared.utils.errors import UserError
from shared.utils.finite import check_weights
from shared.utils.hub import first_line

Sound = NDArray[np.float32]
Spans = list[tuple[float, float]]

INSTALL = "pip install --constraint constraints.txt 'ccl[voices]'"
KINDS = {
    "PyanNet": "segmentation",
    **dict.fromkeys(("XVectorSincNet", "XVectorMFCC"), "embedding"),
    **dict.fromkeys([f"WeSpeakerResNet{depth}" for depth in (34, 152, 221, 293)], "embedding"),
}
"""Classes of models that fetch nothing by themselves, and where in pyannote.audio.models they are."""


class Annotated(Protocol):
    """As the package's Annotation: stretches of speech and their labels."""

    def itertracks(self, yield_label: Literal[True]) -> Iterator[tuple[Any, Any, Any]]: ...


class Diariser:
    """Tells voices in sound apart by a `pipeline` of the package, or what does as it does."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    @torch.inference_mode()
    def __call__(self, sound: Sound, most: int | None = None) -> list[Spans]:
        """Stretches of each voice in mono `sound` [N] at RATE, from and to seconds, of up to `most` voices (None: any
        number), in the order of their first words; two may speak at once."""
        if not sound.any():
            return []
        given = {"waveform": torch.from_numpy(np.ascontiguousarray(sound))[None], "sample_rate": RATE, "uri": "sound"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of means over nobody's frames, and of short sound
            found: Annotated = self.pipeline(given, max_speakers=most).speaker_diarization
        voices: dict[Any, Spans] = {}
        for stretch, _, voice in found.itertracks(yield_label=True):
            start, end = max(0.0, stretch.start), min(len(sound) / RATE, stretch.end)
            if end > start:
                voices.setdefault(voice, []).append((round(start, 3), round(end, 3)))
        return sorted(map(sorted, voices.values()))


@cache
def load_diariser(folder: Path) -> Diariser:
    """Load the pipeline in `folder`, once. UserError where the package is missing, and as `read_pipeline`; for files
    that are not the package's models, or hold more than weights and its settings."""
    told = read_pipeline(folder)
    pipelines = _library("pyannote.audio.pipelines")
    _library("pyannote.audio.telemetry").set_telemetry_metrics(False)
    options = told.config.pipeline.params.model_dump(exclude={"segmentation", "embedding", "plda"})
    segmentation, embedding = _model(told.segmentation, "segmentation"), _model(told.embedding, "embedding")
    try:
        pipeline = pipelines.SpeakerDiarization(
            segmentation=segmentation, embedding=embedding, plda=_plda(told.plda), **options
        )
        pipeline.instantiate(told.config.params)
        if not pipeline.instantiated:
            raise ValueError("params leaves some out")
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{folder / NAME}: pyannote.audio cannot make a pipeline of it ({why}); {WANTED}") from error
    return Diariser(pipeline)


def _library(name: str) -> ModuleType:
    """Import a module of the package. UserError with the command that installs it."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*torchcodec is not installed")  # it is given samples, and no files
            return import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pyannote":
            raise  # it is there, and something that it needs is not
        told = "telling voices apart by pyannote needs the package pyannote.audio, which is not installed"
        raise UserError(f"{told}; run {INSTALL}") from None


def _model(file: Path, part: str) -> Any:
    """Build the model of a checkpoint of the package, and load its weights; what only training used is left out."""
    held = _read(file)
    name = held["pyannote.audio"]["architecture"].get("class")
    if KINDS.get(name) != part:
        known = ", ".join(name for name, kind in KINDS.items() if kind == part)
        raise UserError(f"{file}: holds a {name}; for {part} one of {known} is needed")
    kind = getattr(_library(f"pyannote.audio.models.{part}"), name)
    try:
        accepted = signature(kind).parameters  # some classes keep more than they take
        model = kind(**{key: value for key, value in held["hyper_parameters"].items() if key in accepted})
        model.on_load_checkpoint(held)
        missing, _ = model.load_state_dict(held["state_dict"], strict=False)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{file}: is no whole {name} of pyannote.audio ({why}); {WANTED}") from error
    if missing:
        raise UserError(f"{file}: {len(missing)} weights of its {name} are missing, as {missing[0]}; {WANTED}")
    check_weights(model, str(file))
    return model.eval()


def _read(file: Path) -> Mapping[str, Any]:
    """Read a checkpoint, a pickle, without running anything that is in it: weights, and these classes, pass."""
    task = _library("pyannote.audio.core.task")
    try:
        with torch.serialization.safe_globals([TorchVersion, task.Specifications, task.Problem, task.Resolution]):
            held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds more than weights and settings of pyannote.audio{f', as {named[1]}' if named else ''}"
        raise UserError(f"{file}: {what}, which could run code of its author; it is not opened") from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({first_line(error) or type(error).__name__}); {WANTED}") from None
    said = held.get("pyannote.audio") if isinstance(held, dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("architecture"), dict):
        raise UserError(f"{file}: is no checkpoint of pyannote.audio; {WANTED}")
    return held


def _plda(files: tuple[Path, ...]) -> Any:
    """Load the discriminant analysis of VBx. Without files an empty one: the package fetches one where none is given,
    also for a clustering that has no use for it."""
    kind = _library("pyannote.audio.core.plda").PLDA
    if not files:
        return kind.__new__(kind)
    try:
        return kind(*files)
    except (KeyError, ValueError, OSError, BadZipFile, np.linalg.LinAlgError) as error:
        raise UserError(f"{files[-1]}: is no PLDA of pyannote.audio ({first_line(error)}); {WANTED}") from error
