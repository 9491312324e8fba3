"""TalkNet in the builder: a planted network decides, one of random weights runs, and a run goes on by its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from feature_models import save_talknet
from films import FPS, Segment
from pydantic import ValidationError

from mtv.captions import compose
from mtv.demix import separated
from shared.curation import active_speakers
from shared.curation.active_speakers import RATE, SIDE, check, face_scores, loads
from shared.curation.build import build
from shared.curation.config import DemixConfig
from shared.curation.demixing import track_files
from shared.curation.engine import Digests
from shared.curation.people import FINDERS, Face
from shared.curation.record import Context, Finding, Record, Tools
from shared.curation.sources import Source
from shared.curation.speech import listen
from shared.curation.stages import STAGES
from shared.data.media import read_audio, read_video
from shared.data.media_write import write_audio, write_video
from shared.utils.errors import UserError

TOOLS = Tools(separated, compose)
HEIGHT, WIDTH, FRAMES = 48, 96, 40


class Planted:
    """Scores by the brightness of a crop: 1 where it is bright, else -1; it keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[int, int]] = []

    def __call__(self, crops: np.ndarray, sound: np.ndarray) -> np.ndarray:
        assert crops.shape[1:] == (SIDE, SIDE, 3) and crops.dtype == np.uint8
        self.given.append((len(crops), len(sound)))
        return np.where(crops[:-1, SIDE // 2, SIDE // 2, 0] > 128, 1.0, -1.0)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Planted:
    planted = Planted()
    monkeypatch.setattr(active_speakers, "_network", lambda weights: planted)
    return planted


def config_of(people: dict[str, object] | None = None, **speech: object) -> DemixConfig:
    settings = {"speaker": "talknet", "weights": "x.safetensors", "activity": "level"} | speech
    return DemixConfig.model_validate({"speech": settings, "people": people or {}})


def seen(folder: Path, monkeypatch: pytest.MonkeyPatch, fps: int, first: int = 0) -> Record:
    """A clip of 40 frames: its left half is bright in the first 20, its right half never; a face in each. `first`: the
    frame from which the left face is found."""
    pictures = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    pictures[:20, :, : WIDTH // 2] = 255
    write_video(folder / "x.mp4", pictures, fps)
    boxes = np.tile(np.array([[8.0, 8, 32, 32], [64, 8, 88, 32]])[:, None], (1, FRAMES, 1))
    boxes[0, :first] = np.nan
    faces = [Face((x, 0.5), 0.5, 1.0, np.zeros(FRAMES), box) for x, box in zip((0.2, 0.8), boxes, strict=True)]
    monkeypatch.setitem(FINDERS, "landmarks", lambda frames: faces)
    write_audio(track_files(folder, "k")["speech"], 0.1 * np.sin(0.5 * np.arange(FRAMES * RATE // fps))[None], RATE)
    figures = {
        "people": {"fps": float(fps), "frames": FRAMES, "people": [{"opening": [0.0] * FRAMES}] * 2},
        "demix": {"silent": []},
    }
    return Record("k", folder / "x.mp4", "k", 0, FRAMES / fps, "", figures)


def heard(record: Record, folder: Path, config: DemixConfig) -> Finding:
    return listen(record, Context(config, folder, TOOLS))


def test_a_network_decides_who_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Planted) -> None:
    record = seen(tmp_path, monkeypatch, 25)
    finding = heard(record, tmp_path, config_of())
    assert finding.verdict == "keep" and finding.figures["speaking"] == [True, False]
    assert finding.figures["scores"] == pytest.approx([0.0, -1.0], abs=0.06)
    assert finding.figures["voice_over_share"] == pytest.approx(0.5 - 0.3 * 25 / FRAMES, abs=0.06)  # till 0.3 s later
    assert network.given == [(40, 40 * 640)] * 2 and finding.figures["spans"] == [[0.0, 1.6]]
    fallen = heard(record, tmp_path, config_of(least_share=0.6))
    assert (fallen.verdict, fallen.cause) == ("drop", "voice-over") and fallen.figures["voice_over_share"] == 1


def test_other_frame_rates_are_seen_at_25(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Planted) -> None:
    for fps, first, shown in ((20, 0, 50), (10, 4, 91), (50, 0, 20)):
        record = seen(tmp_path, monkeypatch, fps, first)
        sound = np.zeros(FRAMES * RATE // fps, np.float32)
        left, right = face_scores(record, config_of({"fps": float(fps)}), sound)
        assert len(left) == FRAMES and np.isnan(left[:first]).all() and (left[first:19] == 1).all()
        assert (left[20 : FRAMES - 3] == -1).all() and (right[: FRAMES - 3] == -1).all()
        count = FRAMES * 25 // fps
        assert network.given[-2:] == [(shown, shown * 640), (count, count * 640)]


def test_other_faces_than_before_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Planted) -> None:
    record = seen(tmp_path, monkeypatch, 25)
    monkeypatch.setitem(FINDERS, "landmarks", lambda frames: [])
    with pytest.raises(UserError, match="0 faces are seen now, and stage people saw 2; build into a new folder"):
        heard(record, tmp_path, config_of())


def test_nobody_and_silence_ask_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Planted) -> None:
    record = seen(tmp_path, monkeypatch, 25)
    people = dict(record.figures["people"])
    silent = Record(*list(vars(record).values())[:-1], {"people": people, "demix": {"silent": ["speech"]}})
    assert heard(silent, tmp_path, config_of()).figures["scores"] == [None, None]
    empty = Record(*list(vars(record).values())[:-1], {"people": people | {"people": []}, "demix": {"silent": []}})
    assert heard(empty, tmp_path, config_of()).cause == "voice-over" and not network.given


def test_weights_belong_to_talknet_alone(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"speech\.weights: talknet needs the file"):
        DemixConfig.model_validate({"speech": {"speaker": "talknet"}})
    with pytest.raises(ValidationError, match=r"speech\.weights: correlation takes none"):
        DemixConfig.model_validate({"speech": {"weights": "x"}})
    assert loads(DemixConfig()) is None
    check(DemixConfig().speech)


def test_bad_weights_are_told_before_anything_is_begun(film: tuple[Path, list[Segment]], tmp_path: Path) -> None:
    pickled = tmp_path / "pretrain_TalkSet.model"
    pickled.write_bytes(b"x")
    for weights, told in ((pickled, "no safetensors file"), (tmp_path / "no.safetensors", "no.safetensors")):
        config = config_of({"faces": "puppets"}, weights=str(weights))
        with pytest.raises(UserError, match=told):
            build([Source(film[0])], tmp_path / "set", config, TOOLS, 1, ["speech"])
        with pytest.raises(UserError, match=told):
            Digests(STAGES, config)
    assert not (tmp_path / "set").exists()


def test_random_weights_run_and_other_ones_run_again(
    film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path: Path
) -> None:
    segment = next(one for one in film[1] if one.faces and not one.voice_over and any(one.talks))
    span = segment.first / FPS, segment.after / FPS
    frames, sound = read_video(film[0], FPS, None, *span), read_audio(film[0], RATE, True, *span)
    write_video(tmp_path / "clip.mp4", frames, FPS, sound, RATE)
    folder = tmp_path / "talknet"
    folder.mkdir()
    speech = config.speech.model_dump() | {"speaker": "talknet", "weights": folder, "most_voice_over": 1}
    changes = {"shots": {"detector": "none", "least_seconds": 1}, "speech": speech}
    settings = DemixConfig.model_validate(config.model_dump() | changes)
    names = ["shots", "technical", "demix", "people", "speech"]
    for seed in (0, 1, 1):
        save_talknet(folder / "talknet.safetensors", seed)
        build([Source(tmp_path / "clip.mp4")], tmp_path / "set", settings, TOOLS, 1, names)
    lines = [json.loads(line) for line in (tmp_path / "set" / "ledger.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines].count("people") == 1
    first, second = (line["figures"] for line in lines if line["stage"] == "speech")
    for figures in (first, second):
        assert len(figures["scores"]) == len(segment.faces) and all(np.isfinite(figures["scores"]))
    assert first["scores"] != second["scores"] and first["speech_share"] == second["speech_share"] > 0
