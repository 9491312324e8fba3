from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.scores import (
    MEANING,
    SCORES,
    ClipReading,
    clip_scores,
    correlation,
    events,
    face_scores,
    fixed_times_f1,
    lags,
    score_task,
)
from shared.puppets.clip import render_clip, sample_spec
from shared.puppets.picture import render
from shared.puppets.readers import AudioReading, VideoReading, mouth_range, read_picture, read_sound
from shared.puppets.script import MOODS, Spec


@pytest.fixture(scope="module")
def readings() -> list[ClipReading]:
    specs = [sample_spec(32, i) for i in range(12)]
    clips = [render_clip(spec) for spec in specs]
    return [
        ClipReading(s, read_picture(c.frames, s.fps, s), read_sound(c.mix, s.rate))
        for s, c in zip(specs, clips, strict=True)
    ]


def deaf(audio: AudioReading) -> AudioReading:
    return AudioReading(np.zeros(0), np.zeros_like(audio.loudness), "")


def test_every_score_has_a_meaning() -> None:
    assert {name for names in SCORES.values() for name in names} == set(MEANING)


def test_a_constant_curve_is_uncorrelated() -> None:
    assert correlation(np.ones(9), np.arange(9.0)) == 0
    assert correlation(np.arange(9.0), 3 * np.arange(9.0)) == pytest.approx(1)


def test_truth_scores_near_one_and_its_headline_is_one(readings: list[ClipReading]) -> None:
    scores = score_task("t2av", readings, readings)
    for name in ("event_f1", "mouth_correlation", "colour", "mood_video", "count_audio", "count_video"):
        score = scores[name]
        assert score.value is not None and score.value > 0.95, name
        assert score.headline == pytest.approx(1)
        assert score.floor is not None and score.floor < 0.65, name


def test_silence_scores_zero(readings: list[ClipReading]) -> None:
    scores = score_task("v2a", [replace(r, audio=deaf(r.audio)) for r in readings], readings)
    assert scores["event_f1"].value == 0 and scores["mouth_correlation"].value == 0
    assert scores["event_f1"].headline is not None and scores["event_f1"].headline < 0


def test_clips_without_events_do_not_count(readings: list[ClipReading]) -> None:
    quiet = replace(readings[0].spec, props=())
    nothing = replace(readings[0].video, onsets=np.zeros(0))
    reading = ClipReading(quiet, nothing, deaf(readings[0].audio))
    assert clip_scores(reading)["event_f1"] == (0, 0)


def test_a_wrong_colour_is_wrong(readings: list[ClipReading]) -> None:
    reading = next(r for r in readings if r.spec.props)
    thing = reading.video.objects[0]
    other = thing._replace(colour="red" if thing.colour != "red" else "blue")
    wrong = replace(reading, video=replace(reading.video, objects=(other,)))
    assert clip_scores(wrong)["object_colour"] == (0, 1)
    absent = replace(reading, video=replace(reading.video, objects=(thing._replace(gain=0.0),)))
    assert clip_scores(absent)["object_colour"] == (0, 1)


def test_the_speaker_is_the_mouth_that_moves_with_speech() -> None:
    scripts = (sample_spec(32, i, "full") for i in range(300))
    spec = next(
        s
        for s in scripts
        if len(s.characters) == 2
        and all(c.visible for c in s.characters)
        and sum(bool(c.syllables) for c in s.characters) == 1
    )
    speaking = [float(bool(c.syllables)) for c in spec.characters]
    wave = np.sin(np.arange(spec.frames) / 2) + 1
    loudness = np.interp(np.arange(0, spec.duration, 0.005), spec.frame_times(), wave)
    audio = AudioReading(np.zeros(0), loudness, "")
    for order, right in ((1, 1.0), (-1, 0.0)):
        mouths = tuple(wave * share for share in speaking[::order])
        reading = ClipReading(spec, VideoReading(np.zeros(0), spec.fps, mouths, (), (), spec.mood), audio)
        assert clip_scores(reading)["speaker"] == (right, 1)


def test_lag_is_video_minus_audio(readings: list[ClipReading]) -> None:
    late = [replace(r, video=replace(r.video, onsets=r.audio.onsets + 0.05)) for r in readings]
    assert lags(late)["all"] == pytest.approx(50)


def test_fixed_times_are_better_than_nothing_and_worse_than_truth() -> None:
    score = fixed_times_f1([sample_spec(32, i) for i in range(60)], "simple", clips=200)
    assert score is not None and 0.25 < score < 0.5


def test_intervals_hold_the_value_and_follow_the_seed(readings: list[ClipReading]) -> None:
    half = [replace(r, audio=deaf(r.audio)) if i % 2 else r for i, r in enumerate(readings)]
    first, again = (score_task("v2a", half, readings, seed=3)["event_f1"] for _ in range(2))
    assert first == again
    assert first.value is not None and first.value_interval is not None
    assert first.value_interval[0] < first.value < first.value_interval[1]


def test_events_are_sorted() -> None:
    spec = next(s for s in (sample_spec(32, i, "full") for i in range(99)) if len(s.props) == 2)
    assert list(events(spec)) == sorted(events(spec)) and len(events(spec)) >= 2


@pytest.fixture(scope="module")
def spec() -> Spec:
    return next(s for s in (sample_spec(32, i) for i in range(20)) if s.characters and s.props)


@pytest.mark.parametrize("opening", [0.0, 0.3, 1.0])
def test_the_opening_is_that_of_the_stage(spec: Spec, opening: float) -> None:
    frames = render(spec, [np.full(spec.frames, opening)])
    scores = face_scores(read_picture(frames, spec.fps, spec))
    assert scores["face_visible"] == (1, 1)
    assert scores["mouth_opening"] == (pytest.approx(opening, abs=0.06), 1)


def test_a_face_that_is_not_there_has_no_opening(spec: Spec) -> None:
    empty = render(replace(spec, characters=()), [])
    scores = face_scores(read_picture(empty, spec.fps, spec))
    assert scores == {"face_visible": (0, 1), "mouth_opening": (0, 0)}


@pytest.mark.parametrize("mood", MOODS)
def test_wide_and_shut_are_far_apart_in_any_light(mood: str) -> None:
    shut, wide = mouth_range(mood)
    assert wide - shut > 0.3
