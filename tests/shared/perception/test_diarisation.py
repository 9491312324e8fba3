"""Voices by a pipeline: as the package itself hears them, without its unpickling; what is not there is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diarisation import CENTROID, TUNED, Planted, hide_package, save_model, write_config, write_files, write_pipeline

from shared.perception.diarisation import RATE, Diariser, load_diariser
from shared.utils.errors import UserError

NOISE = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)


def test_voices_come_in_the_order_of_their_first_words_and_end_with_the_sound() -> None:
    planted = Planted(("x", 2.0, 3.2), ("y", 1.5, 2.5), ("x", -0.01, 0.4), ("z", 3.1, 3.3))
    assert Diariser(planted)(NOISE, 4) == [[(0.0, 0.4), (2.0, 3.0)], [(1.5, 2.5)]]
    assert planted.most == 4 and planted.given["waveform"].shape == (1, 3 * RATE)


def test_silence_is_not_asked_about() -> None:
    planted = Planted(("x", 0.0, 1.0))
    assert Diariser(planted)(np.zeros(RATE, np.float32)) == [] and planted.given is None


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch)
    with pytest.raises(
        UserError, match=r"needs the package pyannote.audio, which is not installed; run .*ccl\[voices\]"
    ):
        load_diariser(write_files(tmp_path))


@pytest.fixture(scope="module")
def package() -> Any:
    return pytest.importorskip("pyannote.audio", reason="pyannote.audio is not installed")


@pytest.fixture(scope="module")
def folder(package: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("pyannote"), "two")


def test_it_hears_what_the_package_hears_and_tells_nobody(package: Any, folder: Path) -> None:
    found = load_diariser(folder)(NOISE)
    own = package.Pipeline.from_pretrained(folder)
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "false"
    heard = own({"waveform": torch.from_numpy(NOISE)[None], "sample_rate": RATE}).speaker_diarization
    first, second = ([(span.start, span.end) for span in heard.label_timeline(name)] for name in heard.labels())
    assert np.array(found) == pytest.approx(np.minimum([first, second], 3.0), abs=1e-3)  # it hears its own padding
    assert len(load_diariser(folder)(NOISE, 1)) == 1


def test_where_the_segmentation_finds_nobody_there_is_nobody(package: Any, tmp_path: Path) -> None:
    assert load_diariser(write_pipeline(tmp_path, "nobody"))(NOISE) == []


def test_a_pipeline_that_clusters_without_plda(folder: Path, tmp_path: Path) -> None:
    parts = {part: str(folder / part) for part in ("segmentation", "embedding")}
    other = write_config(
        tmp_path, TUNED | {"clustering": CENTROID}, clustering="AgglomerativeClustering", plda=None, **parts
    )
    assert len(load_diariser(other)(NOISE, 1)) == 1
    write_config(tmp_path, TUNED | {"clustering": {"threshold": 0.7}}, plda=str(folder / "plda"), **parts)
    load_diariser.cache_clear()
    with pytest.raises(UserError, match=r"config.yaml: pyannote.audio cannot make a pipeline of it"):
        load_diariser(other)(NOISE)


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("part", ["segmentation", "embedding"])
def test_models_that_are_others_or_do_more_than_hold_weights_are_refused(
    package: Any, folder: Path, tmp_path: Path, part: str
) -> None:
    other = {"segmentation": "embedding", "embedding": "segmentation"}
    parts = {name: str(folder / name) for name in ("segmentation", "embedding", "plda")}
    file = tmp_path / "pytorch_model.bin"
    write_config(tmp_path, **parts | {part: file.name})
    held = torch.load(folder / part / file.name, weights_only=False)

    def refused(told: str) -> None:
        load_diariser.cache_clear()
        with pytest.raises(UserError, match=f"pytorch_model.bin: .*{told}"):
            load_diariser(tmp_path)

    torch.save(held | {"callbacks": Runs(tmp_path / "run")}, file)
    refused("holds more than weights and settings of pyannote.audio, as [a-z]+.mkdir, which .*; it is not opened")
    assert not (tmp_path / "run").exists()
    file.write_bytes((folder / other[part] / file.name).read_bytes())
    refused(f"holds a (PyanNet|XVectorSincNet); for {part} one of ")
    weights = dict(held["state_dict"])
    name, value = weights.popitem()
    torch.save(held | {"state_dict": weights}, file)
    refused(f"1 weights of its .* are missing, as {name}")
    torch.save(held | {"state_dict": weights | {name: torch.full_like(value, torch.nan)}}, file)
    refused(name)
    torch.save(held["state_dict"], file)
    refused("is no checkpoint of pyannote.audio")
    file.write_bytes(b"nothing of the kind")
    refused("")


def test_the_published_embedding_can_be_built(package: Any, folder: Path, tmp_path: Path) -> None:
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import WeSpeakerResNet34

    model = WeSpeakerResNet34()
    model.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0, classes=["1"])
    model.setup()
    save_model(model, tmp_path / "pytorch_model.bin")
    parts = {name: str(folder / name) for name in ("segmentation", "plda")}
    loaded = load_diariser(write_config(tmp_path, embedding="pytorch_model.bin", **parts)).pipeline._embedding.model_
    assert torch.equal(loaded.resnet.seg_1.weight, model.resnet.seg_1.weight) and not loaded.training


def test_a_broken_plda_is_told(package: Any, folder: Path, tmp_path: Path) -> None:
    for name in ("xvec_transform.npz", "plda.npz"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    parts = {name: str(folder / name) for name in ("segmentation", "embedding")}
    with pytest.raises(UserError, match=r"plda.npz: is no PLDA of pyannote.audio"):
        load_diariser(write_config(tmp_path, plda=".", **parts))
