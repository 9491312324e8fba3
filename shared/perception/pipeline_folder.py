"""The folder of a pipeline of pyannote.audio: what its config.yaml says, and the files of the models that it names.

The package would build whatever class that file names, and fetch models that are not there; here only a diarisation is
a pipeline, and only files of this machine are its models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.utils.config_file import explain
from shared.utils.errors import UserError
from shared.utils.ranges import Batch, Rate
from shared.utils.text_files import is_file, parse_yaml, read_text

NAME = "config.yaml"
WANTED = "a folder as pyannote/speaker-diarization-community-1 is published is needed"
MODEL_FILE = "pytorch_model.bin"
PLDA_FILES = ("xvec_transform.npz", "plda.npz")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Options(_Section):
    """What the package's pipeline is made with."""

    segmentation: str
    embedding: str
    plda: str | None = None
    clustering: Literal["VBxClustering", "AgglomerativeClustering"] = "VBxClustering"
    segmentation_step: Rate = 0.1
    segmentation_batch_size: Batch = 1
    embedding_batch_size: Batch = 1
    embedding_exclude_overlap: bool = False


class _Pipeline(_Section):
    name: Literal[
        "pyannote.audio.pipelines.SpeakerDiarization",
        "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
    ]
    params: _Options


class PipelineConfig(_Section):
    """The content of config.yaml."""

    version: str | float | None = None
    dependencies: dict[str, str | float] = {}
    pipeline: _Pipeline
    params: dict[str, dict[str, int | float | str]]


class PipelineFolder(NamedTuple):
    """What a folder says, and the files of its three parts; no `plda` where its clustering needs none."""

    folder: Path
    config: PipelineConfig
    segmentation: Path
    embedding: Path
    plda: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All that decides what the pipeline hears."""
        return self.folder / NAME, self.segmentation, self.embedding, *self.plda


def is_pipeline(folder: str | Path) -> bool:
    """Whether a folder holds the configuration of a pipeline."""
    return is_file(Path(folder) / NAME)


def read_pipeline(folder: Path) -> PipelineFolder:
    """Read what a folder says, and find its files; nothing is loaded. UserError for another folder, settings that the
    package would be driven astray by, and models that are not in the folder."""
    file = folder / NAME
    if not is_pipeline(folder):
        raise UserError(f"{folder}: is no pipeline of pyannote.audio, it has no {NAME}; {WANTED}")
    content = parse_yaml(read_text(file), str(file))
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds no keys and values; {WANTED}")
    try:
        config = PipelineConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, file, PipelineConfig)) from None
    options = config.pipeline.params
    if options.clustering == "VBxClustering" and options.plda is None:
        raise UserError(f"{file}: VBxClustering needs plda, and none is named; {WANTED}")
    (segmentation,) = _files(folder, "segmentation", options.segmentation, (MODEL_FILE,))
    (embedding,) = _files(folder, "embedding", options.embedding, (MODEL_FILE,))
    plda = _files(folder, "plda", options.plda, PLDA_FILES) if options.plda is not None else ()
    return PipelineFolder(folder, config, segmentation, embedding, plda)


def _files(folder: Path, key: str, named: str, names: Sequence[str]) -> tuple[Path, ...]:
    """Find the files of a part: of a folder below `folder`, or one file that is named itself."""
    place = folder / named.removeprefix("$model/")
    files = (place,) if len(names) == 1 and is_file(place) else tuple(place / name for name in names)
    if missing := [file for file in files if not is_file(file)]:
        told = f"{key} is {named}, and {missing[0]} is not there"
        raise UserError(f"{folder / NAME}: {told}; nothing is fetched: copy it into the folder, as {key}: $model/{key}")
    return files
