"""Vowels are read from pixels and from the mix, and what shows none is not taken for one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shared.puppets.clip import PuppetClip, render_clip
from shared.puppets.readers import HeardSyllable, read_sound
from shared.puppets.scene_fit import canonical
from shared.puppets.shows import sample_show
from shared.puppets.sound import vowels_at
from shared.puppets.spec import Character, Spec
from shared.puppets.vowels import (
    MouthReading,
    formed_syllables,
    read_mouth_shape,
    read_syllables,
    vowel_agreement,
)

Clips = list[tuple[Spec, PuppetClip, list[MouthReading]]]


def read(spec: Spec, frames: np.ndarray) -> list[MouthReading]:
    pixels, pan = canonical(frames), spec.pan_offsets()
    seen = [c for c in spec.characters if c.visible]
    return [read_mouth_shape(pixels, pan, c.side, c.kind, spec.mood, spec.fps) for c in seen]


def speaking(clips: Clips) -> Iterator[tuple[MouthReading, Character, list[float]]]:
    for spec, clip, mouths in clips:
        visible = [(i, c) for i, c in enumerate(spec.characters) if c.visible]
        for mouth, (i, person) in zip(mouths, visible, strict=True):
            yield mouth, person, clip.truth["characters"][i]["mouth"]


@pytest.fixture(scope="module")
def clips() -> Clips:
    specs = [shot for i in range(24) for shot in sample_show(31, i, (64, 64)).shots]
    specs = [spec for spec in specs if any(c.syllables for c in spec.characters)]
    return [(spec, clip, read(spec, clip.frames)) for spec, clip in ((spec, render_clip(spec)) for spec in specs)]


def test_vowels_are_seen(clips: Clips) -> None:
    read = [mouth.vowel(s.start, s.end) == s.vowel for mouth, person, _ in speaking(clips) for s in person.syllables]
    assert len(read) > 100 and np.mean(read) > 0.95


def test_opening_is_seen_whatever_the_vowel(clips: Clips) -> None:
    pairs = [(mouth.opening, true) for mouth, person, true in speaking(clips) if person.syllables]
    assert min(np.corrcoef(opening, true)[0, 1] for opening, true in pairs) > 0.93


def test_who_is_silent_keeps_the_mouth_shut(clips: Clips) -> None:
    shut = [mouth for mouth, person, _ in speaking(clips) if not person.syllables]
    assert shut and all(mouth.opening.max() < 0.15 and mouth.vowel(0, 1) is None for mouth in shut)


def test_syllables_and_vowels_are_heard_in_the_mix(clips: Clips) -> None:
    right, loud = [], [clip for spec, clip, _ in clips if spec.music and spec.props]
    assert len(loud) > 8
    for spec, clip, _ in clips:
        true = sorted((s.start, s.end, s.vowel) for c in spec.characters for s in c.syllables)
        heard = read_syllables(clip.mix, spec.rate)
        assert len(heard) == len(true)
        for (start, end, vowel), one in zip(true, heard, strict=True):
            right.append(vowel == one.vowel)
            assert start - 0.03 < one.start < one.end < end + 0.03
    assert len(right) > 100 and np.mean(right) > 0.95


def test_loudness_is_heard_whatever_the_vowel(clips: Clips) -> None:
    for spec, clip, _ in clips:
        opening = np.sum([c["mouth"] for c in clip.truth["characters"]], axis=0)
        loudness = read_sound(clip.mix, spec.rate).loudness_at(spec.frame_times())
        assert np.corrcoef(opening, loudness)[0, 1] > 0.95


def test_a_mouth_forms_few_vowels_and_noise_none() -> None:
    misfit = np.full((8, 5), 0.02)
    misfit[:4, 1], misfit[4:, 3], misfit[6, 2] = 0.0, 0.0, -0.0005  # a frame that is a little nearer is no syllable
    opening, syllables = formed_syllables(MouthReading(np.ones(8), misfit, np.tile(np.arange(5.0), (8, 1)), 8.0))
    assert [s.vowel for s in syllables] == [1, 3] and opening.tolist() == [1] * 4 + [3] * 4
    person = Character("man", "left", "red", 0.0, True, syllables, ())
    assert vowels_at(person, np.arange(8) / 8).tolist() == [1] * 4 + [3] * 4


def total(pairs: list[tuple[int, int]]) -> float:
    return sum(hits for hits, _ in pairs) / sum(count for _, count in pairs)


def test_agreement_has_a_ceiling_and_a_floor(clips: Clips) -> None:
    whole = [(mouths, read_syllables(clip.mix, 16000)) for spec, clip, mouths in clips
             if all(c.visible for c in spec.characters)]  # fmt: skip
    assert total([vowel_agreement(mouths, heard) for mouths, heard in whole]) > 0.95
    shuffled = [vowel_agreement(mouths, whole[i - 1][1]) for i, (mouths, _) in enumerate(whole)]
    assert total(shuffled) < 0.35
    assert vowel_agreement([], whole[0][1])[0] == 0 and vowel_agreement(whole[0][0], []) == (0, 0)


@pytest.mark.parametrize("fake", ["blurred", "frozen", "grey"])
def test_fakes_do_not_agree(clips: Clips, fake: str) -> None:
    pairs = []
    for spec, clip, _ in clips[:16]:
        frames = {
            "blurred": gaussian_filter(clip.frames, (3, 4, 4, 0)),
            "frozen": np.repeat(clip.frames[:1], spec.frames, 0),
            "grey": np.full_like(clip.frames, 128),
        }[fake]
        pairs.append(vowel_agreement(read(spec, frames), read_syllables(clip.mix, spec.rate)))
    assert total(pairs) < 0.4


def test_silence_and_noise_are_no_syllables() -> None:
    assert read_syllables(np.zeros(16000, np.float32), 16000) == []
    hiss = 0.001 * np.random.default_rng(0).standard_normal(32000)
    assert read_syllables(hiss, 16000) == []


def test_the_mouth_that_is_open_counts() -> None:
    shut = MouthReading(np.zeros(4), np.eye(5)[[0, 0, 0, 0]], np.zeros((4, 5)), 4.0)
    opened = MouthReading(np.ones(4), 1 - np.eye(5)[[2, 2, 2, 2]], np.ones((4, 5)), 4.0)
    assert vowel_agreement([shut, opened], [HeardSyllable(0.2, 0.6, 2)]) == (1, 1)
    assert vowel_agreement([shut, opened], [HeardSyllable(0.2, 0.6, 1)]) == (0, 1)
    assert vowel_agreement([shut], [HeardSyllable(0.2, 0.6, 1)]) == (0, 1)
