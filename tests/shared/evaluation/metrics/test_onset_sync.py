"""Events seen and heard: known shifts of the toy world's sound are found, and what the clip lacks is told."""

from __future__ import annotations

import numpy as np
import pytest
from media import Media, later, puppet

from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.onset_sync import Events, OnsetSync, event_lag


def flashes(times: list[float], fps: float = 20.0, seconds: float = 4.0) -> np.ndarray:
    """A grey picture, white for one frame at each time."""
    frames = np.full((round(seconds * fps), 16, 16, 3), 90, np.uint8)
    frames[[round(time * fps) for time in times]] = 255
    return frames


def clicks(times: list[float], rate: int = 16000, seconds: float = 4.0) -> np.ndarray:
    """Noise that hardly sounds, with a louder burst at each time."""
    rng = np.random.default_rng(0)
    sound = 1e-2 * rng.standard_normal(round(seconds * rate))
    for time in times:
        sound[round(time * rate) :][:800] += 0.5 * rng.standard_normal(800)
    return np.clip(sound, -1, 1).astype(np.float32)


TIMES = [0.7, 1.5, 2.9]


@pytest.mark.parametrize(("index", "late"), [(1, -0.2), (2, 0.3), (5, 0.4), (6, -0.4)])
def test_a_shift_of_the_sound_is_found(index: int, late: float) -> None:
    result = OnsetSync().clip(puppet(index, 6, late))
    assert result.facts["lag_ms"] == pytest.approx(1000 * late, abs=40)


def test_events_pair_one_to_one_within_a_window_in_seconds() -> None:
    for fps in (10.0, 20.0, 40.0):
        result = OnsetSync().clip(Media(flashes(TIMES, fps), fps, clicks(TIMES), 16000))
        assert result.value == 1 and abs(result.facts["lag_ms"]) <= 60
    more = Media(flashes(TIMES), 20.0, clicks([*TIMES, 1.7, 3.4]), 16000)
    assert OnsetSync().clip(more).value == pytest.approx(6 / 8)
    late = Media(flashes(TIMES), 20.0, later(clicks(TIMES), 16000, 0.25), 16000)
    result = OnsetSync().clip(late)
    assert result.value == 0 and result.facts["f1_at_lag"] == 1
    assert OnsetSync(window=0.3).clip(late).value == 1


def test_what_happens_at_the_edge_of_a_wide_picture_counts() -> None:
    wide = np.full((80, 100, 400, 3), 90, np.uint8)
    wide[[round(20 * time) for time in TIMES], :, :60] = 255
    assert OnsetSync().clip(Media(wide, 20.0, clicks(TIMES), 16000)).value == 1


def test_a_stream_without_events_has_nothing_and_two_are_refused() -> None:
    assert OnsetSync().clip(Media(flashes([]), 20.0, clicks(TIMES), 16000)).value == 0
    steady = np.sin(2 * np.pi * 300 * np.arange(64000) / 16000).astype(np.float32)
    assert OnsetSync().clip(Media(flashes(TIMES), 20.0, 0 * steady, 16000)).refused == "silent"
    assert OnsetSync().clip(Media(flashes(TIMES)[:15], 20.0, steady, 16000)).refused == "shorter than 1 s"


def test_of_two_lags_the_one_of_what_stands_out_is_taken() -> None:
    seen = Events(np.array([1.0, 2.0]), np.array([1.0, 0.2]))
    heard = Events(np.array([1.2, 1.9]), np.array([1.0, 0.2]))
    assert event_lag(seen, heard, 0.5) == pytest.approx(0.2)
    assert event_lag(seen, Events(heard.times[:0], heard.weights[:0]), 0.5) is None


def test_settings_are_taken() -> None:
    metric = OnsetSync.of(Tools(settings={"onset_sync": {"window": 0.05}}))
    assert metric.preprocessing()["window_s"] == 0.05 and metric.fingerprint() == ""
