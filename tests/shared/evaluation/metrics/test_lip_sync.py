"""Lip-sync: known shifts of the toy world's sound are found, other sounds do not fit, and what cannot be judged is
refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from media import Media, later, puppet
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.lip_sync import LipSync, PuppetLipSync
from shared.evaluation.metrics.mouths import SOURCES, Mouths
from shared.perception import installed
from shared.puppets.readers import HOP, band_level
from shared.utils.errors import UserError

PAIRS = [(1, -0.4), (1, 0.4), (5, 0.17), (6, -0.23)]


@pytest.mark.parametrize(("index", "late"), PAIRS)
def test_a_shift_of_the_sound_is_found(index: int, late: float) -> None:
    result = PuppetLipSync().clip(puppet(index, 2, late))
    assert result.facts["lag_ms"] == pytest.approx(1000 * late, abs=40)
    assert result.value is not None and result.value > 0.8


def test_another_clips_sound_fits_less() -> None:
    own, other = puppet(1, 2), puppet(6, 2)
    swapped = Media(own.pictures, own.fps, other.sound, own.rate)
    right, wrong = (PuppetLipSync().clip(media).value for media in (own, swapped))
    assert right is not None and wrong is not None and wrong < right - 0.2


def test_what_cannot_be_judged_is_refused() -> None:
    clip = puppet(1, 2)
    nobody = Media(np.full_like(clip.pictures, 200), clip.fps, clip.sound, clip.rate)
    assert PuppetLipSync().clip(nobody).refused == "no face"
    assert PuppetLipSync().clip(Media(clip.pictures, clip.fps, 0 * clip.sound, clip.rate)).refused == "silent"
    short = Media(clip.pictures[:16], clip.fps, clip.sound, clip.rate)
    assert PuppetLipSync().clip(short).refused == "shorter than 1.5 s"
    late = Media(clip.pictures, clip.fps, clip.sound[: clip.rate], clip.rate)
    assert PuppetLipSync().clip(late).refused.startswith("1.00 s of curves")
    hum = np.sin(2 * np.pi * 200 * np.arange(2 * clip.rate) / clip.rate).astype(np.float32)
    assert PuppetLipSync().clip(Media(clip.pictures, clip.fps, hum, clip.rate)).refused == "nobody speaks"


def test_a_still_mouth_has_nothing_in_common() -> None:
    clip = puppet(1, 2)
    still = Media(np.repeat(clip.pictures[:1], 32, 0), clip.fps, clip.sound, clip.rate)
    result = PuppetLipSync().clip(still)
    assert result.value == pytest.approx(0, abs=0.05) and not result.refused


def test_landmarks_stand_for_real_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rate, opening = 16000, np.repeat(rng.random(12), 5)
    loud = np.interp(np.arange(int(2.4 * rate)) / rate, np.arange(60) / 25 + 0.12, opening)
    voice = (loud * rng.standard_normal(len(loud)) * 0.2).astype(np.float32)
    media = Media(np.zeros((60, 8, 8, 3), np.uint8), 25.0, voice, rate, voice=voice)
    monkeypatch.setitem(SOURCES, "landmarks", lambda _: Mouths(opening, 25.0, 1, 0.9))
    assert LipSync().clip(media).facts["lag_ms"] == pytest.approx(120, abs=20)
    monkeypatch.setitem(SOURCES, "landmarks", lambda _: Mouths(opening, 25.0, 1, 0.2))
    assert LipSync().clip(media).refused == "a face in only 20% of the frames"


@pytest.mark.slow
def test_of_a_mix_what_is_speech_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded voice with a hum that comes and goes at other times; the lips follow the voice."""
    need_model("face landmarks", "ai_edge_litert.interpreter")
    need_model("", "silero_vad")
    voice = read_audio(next(iter(spoken_lines())), 16000)[0][:80000]
    times, late = np.arange(125) / 25, 0.2
    opening = np.interp(times, np.arange(1001) * HOP, band_level(voice, 16000, (100.0, 4000.0), 0.05))
    monkeypatch.setitem(SOURCES, "landmarks", lambda _: Mouths(opening, 25.0, 1, 1.0))
    hum = 0.02 * np.sin(np.arange(80000) * 0.1) * (np.sin(np.arange(80000) / 9000) > 0)
    mix = (later(voice, 16000, late) + hum).astype(np.float32)
    result = LipSync().clip(Media(np.zeros((125, 8, 8, 3), np.uint8), 25.0, mix, 16000))
    assert result.facts["lag_ms"] == pytest.approx(1000 * late, abs=40) and result.value and result.value > 0.8


def test_without_its_models_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "folders", tuple)
    with pytest.raises(UserError, match=r"run `make perception`"):
        LipSync.of(Tools())
    assert PuppetLipSync.of(Tools(settings={"lip_sync_puppets": {"most_lag": 0.3}})).most_lag == 0.3
    assert PuppetLipSync().fingerprint() == "" and PuppetLipSync().preprocessing()["mouth"] == "puppets"
