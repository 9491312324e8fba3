"""How good the sound is: who rates what, what falls, and what is kept without a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feature_models import save_aesthetics
from perception import need_model, spoken_lines

from shared.curation import quality
from shared.curation.config import DemixConfig, Quality
from shared.curation.demixing import track_files
from shared.curation.record import Context, Finding, Record
from shared.data.media import read_audio
from shared.data.media_write import write_audio
from shared.perception import installed
from shared.perception.aesthetics import Aesthetics
from shared.perception.quality import MODEL, RATE
from shared.utils.errors import UserError


def rated(folder: Path, spans: list[list[float]], **settings: object) -> Finding:
    config = DemixConfig.model_validate({"quality": settings})
    record = Record("k", folder / "film.wav", "k", 1.0, 3.0, "", {"demix": {}, "speech": {"spans": spans}})
    return quality.rate(record, Context(config, folder, None))  # type: ignore[arg-type]


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the stand-in of DNSMOS heard of a speech track that says the second, in tenths."""
    sounds: list[np.ndarray] = []

    def score(sound: np.ndarray) -> dict[str, float]:
        sounds.append(sound)
        return {"signal": 3.4, "background": 3.9, "overall": 2.4567, "p808": 3.0}

    write_audio(track_files(tmp_path, "k")["speech"], (np.arange(5 * RATE) // RATE / 10)[None].astype(np.float32), RATE)
    monkeypatch.setattr(quality, "speech_quality", score)
    return sounds


def test_dnsmos_rates_the_speech_track_from_the_first_word_to_the_last(tmp_path: Path, heard: list[np.ndarray]) -> None:
    finding = rated(tmp_path, [[1.0, 1.8], [2.5, 4.0]], by="dnsmos")
    assert (finding.verdict, finding.cause) == ("drop", "bad sound")
    assert finding.reason == "dnsmos rates its speech 2.46 of 5; at least 2.5 is needed"
    assert finding.figures["scores"] == {"signal": 3.4, "background": 3.9, "overall": 2.457, "p808": 3.0}
    (sound,) = heard
    assert len(sound) == 3 * RATE and sound[[0, -1]] == pytest.approx([0.1, 0.3], abs=1e-3)
    assert rated(tmp_path, [[1.0, 4.0]], by="dnsmos", least=2.4).verdict == "keep"


def test_a_clip_without_speech_is_kept_without_a_score(tmp_path: Path, heard: list[np.ndarray]) -> None:
    for spans in ([], [[0.0, 0.5], [2.0, 2.4]]):
        finding = rated(tmp_path, spans, by="dnsmos", least=5)
        assert finding.verdict == "keep" and finding.figures["scores"] is None
        assert finding.figures["why"] == "less than 1 s of speech"
    assert rated(tmp_path, [[0.0, 5.0]], by="none").figures == {} and not heard


def test_audiobox_rates_the_span_of_the_film(tmp_path: Path) -> None:
    weights = save_aesthetics(tmp_path / "audiobox")
    sound = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    write_audio(tmp_path / "film.wav", sound[None], RATE)
    finding = rated(tmp_path, [], by="audiobox", weights=str(weights), least=1)
    scores = Aesthetics.load(weights).scores(read_audio(tmp_path / "film.wav", RATE)[0][RATE : 3 * RATE])
    assert finding.figures["scores"] == pytest.approx(scores, abs=2e-3)
    assert rated(tmp_path, [], by="audiobox", weights=str(weights), least=10).cause == "bad sound"


def test_what_is_not_there_is_told_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quality.check(Quality())
    with pytest.raises(UserError, match=r"nowhere/config\.json cannot be read"):
        quality.check(Quality(by="audiobox", weights=tmp_path / "nowhere"))
    monkeypatch.setattr(quality, "optional_module", lambda *_: None)
    monkeypatch.setattr(installed, "folders", tuple)
    with pytest.raises(UserError, match=r"dnsmos: its weights .* are not installed; run `make perception`"):
        quality.check(Quality(by="dnsmos"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"by": "audiobox"}, "audiobox needs the folder"), ({"by": "dnsmos", "weights": "x"}, "dnsmos takes none")],
)
def test_weights_belong_to_audiobox_alone(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=rf"quality\.weights: {reason}"):
        Quality.model_validate(settings)


@pytest.mark.slow
def test_a_recording_is_kept_and_the_same_in_noise_falls(tmp_path: Path) -> None:
    need_model(MODEL, "onnxruntime")
    voice = read_audio(next(iter(spoken_lines())), RATE)[0]
    noise = np.random.default_rng(0).standard_normal(len(voice)).astype(np.float32)
    for level, verdict in ((0.0, "keep"), (0.05, "drop")):
        write_audio(track_files(tmp_path, "k")["speech"], (voice + level * noise).clip(-1, 1)[None], RATE)
        assert rated(tmp_path, [[0.0, len(voice) / RATE]], by="dnsmos").verdict == verdict
