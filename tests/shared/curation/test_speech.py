from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.curation.config import DemixConfig, Speech
from shared.curation.demixing import track_files
from shared.curation.record import Context, Record
from shared.curation.speech import RATE, Voice, listen, voice_of, who_is_scored, who_speaks
from shared.data.media_write import write_audio

FPS, FRAMES = 24.0, 96
SETTINGS = Speech(activity="level", least_correlation=0.5)


def syllables(seed: int, first: int = 0, after: int = FRAMES) -> np.ndarray:
    """A curve of bursts between two frames."""
    rng = np.random.default_rng(seed)
    curve, at = np.zeros(FRAMES), first
    while at < after - 6:
        length = int(rng.integers(3, 6))
        curve[at : at + length] = rng.uniform(0.4, 1.0) * np.hanning(length + 2)[1:-1]
        at += length + int(rng.integers(1, 5))
    return curve


def heard(*curves: np.ndarray) -> Voice:
    loudness = np.sum(curves, axis=0) * 0.1
    return Voice(loudness, loudness > 0.006)


def test_the_one_whose_lips_go_with_the_voice_speaks() -> None:
    speech = syllables(1)
    said = who_speaks([syllables(2), speech, np.zeros(FRAMES)], heard(speech), FPS, SETTINGS)
    assert said["speaking"] == [False, True, False] and said["correlations"][2] is None
    assert said["voice_over_share"] < 0.05 and said["speech_share"] > 0.4


def test_two_in_turns_both_speak() -> None:
    first, second = syllables(1, 0, 48), syllables(2, 48, 96)
    assert who_speaks([first, second], heard(first, second), FPS, SETTINGS)["speaking"] == [True, True]


def test_a_voice_of_nobody_is_told_by_its_share() -> None:
    first, second = syllables(1, 0, 40), syllables(2, 56, 96)
    said = who_speaks([first], heard(first, second), FPS, SETTINGS)
    assert said["speaking"] == [True] and said["voice_over_share"] == pytest.approx(0.5, abs=0.12)
    assert who_speaks([], heard(first), FPS, SETTINGS)["voice_over_share"] == 1.0
    assert who_speaks([syllables(5)], heard(syllables(6)), FPS, SETTINGS)["voice_over_share"] == 1.0


def test_late_sound_within_the_lag_is_theirs() -> None:
    speech = syllables(1)
    late = heard(np.roll(speech, 2))
    assert who_speaks([speech], late, FPS, SETTINGS)["speaking"] == [True]
    assert who_speaks([speech], late, FPS, Speech(activity="level", most_lag=0))["correlations"][0] < 0.5


def test_silence_is_nobodys() -> None:
    none = Voice(np.zeros(FRAMES), np.zeros(FRAMES, bool))
    said = who_speaks([syllables(1)], none, FPS, SETTINGS)
    assert said == {"speaking": [False], "correlations": [None], "speech_share": 0.0, "voice_over_share": 0.0}


def scored(*spans: tuple[int, int]) -> np.ndarray:
    """Scores of 1 in these frames, of -1 in others."""
    scores = np.full(FRAMES, -1.0)
    for first, after in spans:
        scores[first:after] = 1
    return scores


def test_who_is_scored_above_zero_while_somebody_speaks_speaks() -> None:
    """A tenth of the speech is needed, by default, and 0.4 s: of 72 frames with speech 10, of 96 too."""
    voice = Voice(np.ones(FRAMES), np.arange(FRAMES) < 72)
    gone = scored((0, 20))
    gone[36:] = np.nan
    faces = [scored((0, 40)), scored((40, 50)), scored((62, 96)), scored((50, 59), (72, 96)), gone, gone * np.nan]
    said = who_is_scored(faces, voice, FPS, Speech())
    assert said["speaking"] == [True, True, True, False, True, False]
    assert said["scores"] == [0.111, -0.722, -0.722, -0.75, 0.111, None]
    assert said["scored_shares"] == [0.5556, 0.1389, 0.1389, 0.125, 0.2778, 0.0]
    assert said["speech_share"] == 0.75 and said["voice_over_share"] == 0
    strict = who_is_scored(faces, voice, FPS, Speech(least_share=0.3))
    assert strict["speaking"] == [True, False, False, False, False, False]
    assert strict["voice_over_share"] == pytest.approx((72 - 47) / 72, abs=1e-4)  # 0.3 s after it may be theirs


def test_without_speech_nobody_is_scored() -> None:
    none = Voice(np.zeros(FRAMES), np.zeros(FRAMES, bool))
    said = who_is_scored([scored((0, 96))], none, FPS, Speech(least_share=0))
    assert said["speaking"] == [False] and said["scores"] == [None] and said["voice_over_share"] == 0


def test_the_level_tells_when_there_is_speech() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 300 * np.arange(2 * RATE) / RATE)
    tone[RATE // 2 : RATE] = 0
    active = voice_of(tone.astype(np.float32), 48, FPS, SETTINGS).active
    assert active[2:10].all() and not active[14:22].any() and active[26:46].all()


def test_the_stretches_of_speech_are_in_seconds_and_short_gaps_do_not_part_them(tmp_path: Path) -> None:
    time = np.arange(4 * RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * 300 * time) * ((time < 1) | ((time > 1.2) & (time < 2)) | (time > 3))
    write_audio(track_files(tmp_path, "k")["speech"], tone[None].astype(np.float32), RATE)
    people = {"fps": FPS, "frames": FRAMES, "people": []}
    config = DemixConfig(speech=Speech(activity="level", most_voice_over=1))
    for silent, spans in (([], [[0, 2], [3, 4]]), (["speech"], [])):
        record = Record("k", Path("x"), "k", 0, 4, "", {"people": people, "demix": {"silent": silent}})
        found = listen(record, Context(config, tmp_path, None)).figures["spans"]  # type: ignore[arg-type]
        assert np.array(found) == pytest.approx(np.array(spans), abs=0.15)
