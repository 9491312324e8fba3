"""Voices that are counted: what the ledger has of them, which clips fall, and what is refused before anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diarisation import Planted, hide_package, write_config, write_files

from shared.curation import voices
from shared.curation.config import DemixConfig, Voices
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Record
from shared.data.media_write import write_audio
from shared.perception import diarisation
from shared.perception.diarisation import Diariser
from shared.utils.errors import UserError

NOISE = 0.1 * np.random.default_rng(0).standard_normal((1, 4 * voices.RATE)).astype(np.float32)


def counted(folder: Path, faces: int, silent: tuple[str, ...] = (), **settings: object) -> Finding:
    config = DemixConfig.model_validate({"voices": settings})
    figures = {"people": {"people": [{}] * faces}, "demix": {"silent": list(silent)}}
    record = Record("k", Path("x"), "k", 0, 4, "", figures)
    return voices.count(record, Context(config, folder, None))  # type: ignore[arg-type]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Two voices in turns, and a breath of a third."""
    planted = Planted(("b", 1.6, 2.4), ("a", 0.2, 1.5), ("a", 2.5, 3.0), ("c", 3.2, 3.4))
    monkeypatch.setattr(diarisation, "load_diariser", {tmp_path: Diariser(planted)}.__getitem__)
    write_audio(track_files(tmp_path, "k")["speech"], NOISE, voices.RATE)
    return planted


def test_the_ledger_has_each_voice_and_when_it_speaks(tmp_path: Path, planted: Planted) -> None:
    finding = counted(tmp_path, 2, by="pyannote", weights=tmp_path)
    assert finding == Finding(figures={"heard": 2, "spans": [[[0.2, 1.5], [2.5, 3.0]], [[1.6, 2.4]]]})
    assert planted.most is None and planted.given["waveform"].shape == NOISE.shape


def test_a_voice_more_than_faces_is_dropped_with_its_clip(tmp_path: Path, planted: Planted) -> None:
    finding = counted(tmp_path, 1, by="pyannote", weights=tmp_path)
    assert (finding.verdict, finding.cause) == ("drop", "unseen voice")
    assert finding.reason == "2 voices are heard, and 1 face is seen" and finding.figures["heard"] == 2
    assert counted(tmp_path, 0, by="pyannote", weights=tmp_path).reason == "2 voices are heard, and 0 faces are seen"
    assert counted(tmp_path, 1, by="pyannote", weights=tmp_path, most_unseen=1).verdict == "keep"


def test_a_silent_track_has_no_voice_and_nothing_is_counted_unasked(tmp_path: Path, planted: Planted) -> None:
    silent = counted(tmp_path, 0, ("speech",), by="pyannote", weights=tmp_path)
    assert silent == Finding(figures={"heard": 0, "spans": []})
    assert counted(tmp_path, 0) == Finding() and planted.given is None


def test_another_content_of_the_folder_counts_anew(tmp_path: Path) -> None:
    config = DemixConfig.model_validate({"voices": {"by": "pyannote", "weights": write_files(tmp_path)}})
    loads = voices.loads(config)
    assert loads is not None and [file.name for file in loads.files][:2] == ["config.yaml", "pytorch_model.bin"]
    assert voices.loads(DemixConfig()) is None


def test_what_is_missing_is_told_before_anything_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voices.check(Voices())
    with pytest.raises(UserError, match=r"is no pipeline of pyannote.audio, it has no config.yaml"):
        voices.check(Voices(by="pyannote", weights=tmp_path))
    write_config(tmp_path)
    with pytest.raises(
        UserError, match=r"segmentation is \$model/segmentation, and .* is not there; nothing is fetched"
    ):
        voices.check(Voices(by="pyannote", weights=tmp_path))
    hide_package(monkeypatch)
    with pytest.raises(UserError, match=r"needs the package pyannote.audio, which is not installed"):
        voices.check(Voices(by="pyannote", weights=write_files(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"by": "pyannote"}, "pyannote needs the folder that you have"), ({"weights": "x"}, "none takes none")],
)
def test_the_folder_goes_with_pyannote_alone(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=f"voices.weights: {told}"):
        Voices.model_validate(settings)
