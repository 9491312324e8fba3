"""The readers against the stage's ground truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.event_scores import TOLERANCE, match
from shared.evaluation.scores import events
from shared.puppets import readers
from shared.puppets.clip import PuppetClip, render_clip, sample_spec
from shared.puppets.readers import VideoReading, flash_onsets, read_picture, read_sound
from shared.puppets.scene_fit import Mention, canonical, read_layout
from shared.puppets.script import Spec

Clips = list[tuple[Spec, PuppetClip]]


@pytest.fixture(scope="module")
def clips() -> Clips:
    specs = [sample_spec(31, i, "simple") for i in range(10)]
    full = [sample_spec(31, i, "full") for i in range(30)]
    specs += [s for s in full if s.duration == 2 and all(prop.visible for prop in s.props)][:6]
    return [(spec, render_clip(spec)) for spec in specs]


@pytest.fixture(scope="module")
def pictures(clips: Clips) -> list[VideoReading]:
    return [read_picture(clip.frames, spec.fps, spec) for spec, clip in clips]


def found(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    hits = sum(2 * len(match(read, true, TOLERANCE)) for read, true in pairs)
    return hits / sum(len(read) + len(true) for read, true in pairs)


def test_onsets_are_read_from_the_audio(clips: Clips) -> None:
    pairs = [(readers.read_onsets(clip.mix, spec.rate), events(spec)) for spec, clip in clips]
    assert found(pairs) > 0.97
    gaps = [a - b for read, true in pairs for a, b in match(read, true, TOLERANCE)]
    assert np.abs(gaps).max() < 0.005


def test_onsets_are_read_from_the_video(clips: Clips, pictures: list[VideoReading]) -> None:
    pairs = [(picture.onsets, events(spec)) for picture, (spec, _) in zip(pictures, clips, strict=True)]
    assert found(pairs) > 0.97
    gaps = [a - b for read, true in pairs for a, b in match(read, true, TOLERANCE)]
    assert abs(np.mean(gaps)) < 0.015


def test_loudness_follows_the_mouth(clips: Clips) -> None:
    for spec, clip in clips:
        opening = np.sum([c["mouth"] for c in clip.truth["characters"]] or [[0.0]], axis=0)
        if np.ptp(opening) > 0:
            loudness = read_sound(clip.mix, spec.rate).loudness_at(spec.frame_times())
            assert np.corrcoef(opening, loudness)[0, 1] > 0.97


def test_mouths_are_read(clips: Clips, pictures: list[VideoReading]) -> None:
    for picture, (_, clip) in zip(pictures, clips, strict=True):
        true = [c["mouth"] for c in clip.truth["characters"] if c["visible"]]
        for mouth, opening in zip(picture.mouths, true, strict=True):
            assert np.ptp(opening) == 0 or np.corrcoef(mouth, opening)[0, 1] > 0.93


def test_who_stands_where(clips: Clips, pictures: list[VideoReading]) -> None:
    for reading, (spec, _) in zip(pictures, clips, strict=True):
        assert reading.mood == spec.mood
        people = [c for c in spec.characters if c.visible]
        props = [prop for prop in spec.props if prop.visible]
        assert [(t.slot, t.colour) for t in reading.people] == [(c.side, c.shirt) for c in people]
        assert [(t.slot, t.colour, t.size) for t in reading.objects] == [
            (prop.slot, prop.colour, prop.size) for prop in props
        ]


def test_pace_of_the_music(clips: Clips) -> None:
    right = [readers.read_pace(clip.mix, s.rate) == s.mood.split()[1] for s, clip in clips if s.music]
    assert np.mean(right) > 0.9


def test_silence_has_no_onsets_and_no_music() -> None:
    reading = read_sound(np.zeros(32000, np.float32), 16000)
    assert len(reading.onsets) == 0 and reading.pace == "" and reading.loudness.max() == 0


def test_noise_does_not_hide_onsets(clips: Clips) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for spec, clip in clips:
        noisy = clip.mix + 0.003 * rng.standard_normal(len(clip.mix)).astype(np.float32)
        pairs.append((readers.read_onsets(noisy, spec.rate), events(spec)))
    assert found(pairs) > 0.95


def test_another_size_reads_alike() -> None:
    spec = next(s for s in (sample_spec(31, i) for i in range(50)) if s.characters and s.props)
    wide = replace(spec, size=(96, 128))
    reading = read_picture(render_clip(wide).frames, spec.fps, spec)
    assert reading.objects[0].colour == spec.props[0].colour
    assert len(match(reading.onsets, events(spec), TOLERANCE)) == len(events(spec)) == len(reading.onsets)


def test_a_missing_face_is_not_found() -> None:
    spec = replace(sample_spec(31, 0), characters=(), music=False)
    frames = canonical(render_clip(spec).frames)
    slot = "left" if spec.props and spec.props[0].slot == "right" else "right"
    assert not read_layout(frames, [Mention("man", slot)]).detections[0].found


def test_the_camera_is_followed() -> None:
    spec = replace(next(s for s in (sample_spec(31, i) for i in range(50)) if s.characters), pan=(-0.05, 0.05))
    clip = render_clip(spec)
    layout = read_layout(canonical(clip.frames), [Mention(spec.characters[0].kind)])
    assert np.abs(layout.pan - spec.pan_offsets()).max() < 0.012


def test_a_spread_flash_is_one_onset() -> None:
    flash = np.array([0, 0, 0.1, 0.3, 0.32, 0.1, 0, 0, 0, 0, 0.8, 0.4, 0.2, 0.1])
    onsets = flash_onsets(flash, 10.0)
    assert onsets == pytest.approx([0.23, 0.95], abs=0.011)


def test_two_peaks_that_share_one_rise_are_in_order() -> None:
    """Half of the lower, later one is passed before half of the other: noise of an untrained model does that."""
    flash = np.array([0, 0, 0.45, 1.0, 0.6, 0.55, 0.9, 0.3, 0.0, 0.0])
    onsets = flash_onsets(flash, 16.0)
    assert len(onsets) == 2 and list(onsets) == sorted(onsets)
