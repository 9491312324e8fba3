"""Small pipelines of pyannote.audio, of random weights, in the files that the package has; and one that is planted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

NAME = "pyannote.audio.pipelines.SpeakerDiarization"
PARAMS = {
    "clustering": "VBxClustering", "segmentation": "$model/segmentation", "segmentation_batch_size": 32,
    "embedding": "$model/embedding", "embedding_batch_size": 32, "embedding_exclude_overlap": True,
    "plda": "$model/plda",
}  # fmt: skip
TUNED = {"clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}, "segmentation": {"min_duration_off": 0.0}}
"""Of config.yaml, as of speaker-diarization-community-1."""
CENTROID = {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7045654963945799}
"""Of the clustering of speaker-diarization-3.1."""
VOICES = {"nobody": 0, "one": 1, "two": 4}
"""Classes of a segmentation of three voices: none, each alone, each two together."""


class Span(NamedTuple):
    """As the package's Segment."""

    start: float
    end: float


class Planted:
    """A pipeline that hears what it is told: voices and their stretches, in the order in which they are given."""

    def __init__(self, *heard: tuple[str, float, float]) -> None:
        self.heard, self.given, self.most = heard, None, None

    def __call__(self, given: dict[str, Any], max_speakers: int | None = None) -> Planted:
        self.given, self.most = given, max_speakers
        return self

    @property
    def speaker_diarization(self) -> Planted:
        return self

    def itertracks(self, yield_label: bool) -> Sequence[tuple[Span, str, str]]:
        return [(Span(start, end), "_", voice) for voice, start, end in self.heard]


def hide_package(patch: pytest.MonkeyPatch) -> None:
    """Have it as where the package is not installed, also after it was imported."""
    for name in [name for name in sys.modules if name.startswith("pyannote.")]:
        patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, "pyannote", None)


def write_config(folder: Path, tuned: dict[str, Any] = TUNED, **params: Any) -> Path:
    """Write config.yaml; `params` of the pipeline in the place of the published ones, None: left out."""
    kept = {key: value for key, value in (PARAMS | params).items() if value is not None}
    content = {"dependencies": {"pyannote.audio": "4.0.0"}, "pipeline": {"name": NAME, "params": kept}, "params": tuned}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def write_files(folder: Path) -> Path:
    """Write config.yaml, and files of its models that hold nothing."""
    for name in ("segmentation/pytorch_model.bin", "embedding/pytorch_model.bin", "plda/xvec_transform.npz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "plda/plda.npz").touch()
    return write_config(folder)


def write_pipeline(folder: Path, heard: str = "one") -> Path:
    """Write a pipeline that the package can run, and that hears so many of `VOICES` all the time."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorSincNet
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_layers": 1}
    segmentation = PyanNet(lstm=small | {"bidirectional": True, "monolithic": True}, linear=small)
    segmentation.specifications = Specifications(
        Problem.MONO_LABEL_CLASSIFICATION, Resolution.FRAME, duration=10.0, classes=["1", "2", "3"],
        powerset_max_classes=2, permutation_invariant=True,
    )  # fmt: skip
    segmentation.setup()
    with torch.no_grad():
        segmentation.classifier.bias[VOICES[heard]] += 100
    embedding = XVectorSincNet(dimension=16)
    embedding.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0, classes=["1"])
    embedding.setup()
    write_files(folder)
    save_model(segmentation, folder / "segmentation/pytorch_model.bin")
    save_model(embedding, folder / "embedding/pytorch_model.bin")
    rng = np.random.default_rng(0)
    reduced = {"mean1": np.zeros(16), "mean2": np.zeros(8), "lda": rng.standard_normal((16, 8))}
    np.savez(folder / "plda/xvec_transform.npz", **reduced)
    np.savez(folder / "plda/plda.npz", mu=np.zeros(8), tr=rng.standard_normal((8, 8)), psi=rng.uniform(1, 2, 8))
    return folder


def save_model(model: Any, file: Path) -> None:
    """Write a checkpoint as lightning does, with what the package adds."""
    held = {
        "epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.6", "hparams_name": "kwargs",
        "state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams),
    }  # fmt: skip
    model.on_save_checkpoint(held)
    torch.save(held, file)
