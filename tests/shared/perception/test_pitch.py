"""Pitch of tones with overtones, and two of them at once; silence and noise have neither."""

from __future__ import annotations

import numpy as np
import pytest

from shared.perception.pitch import HOP, RATE, frame_count, pitch_of, two_voices


def voice(hertz: float, seconds: float = 0.8, level: float = 0.1) -> np.ndarray:
    """Overtones up to 3 kHz, weaker upwards: as a voice, with its first overtone the strongest."""
    time = np.arange(round(seconds * RATE)) / RATE
    count = int(3000 / hertz)
    parts = [np.sin(2 * np.pi * k * hertz * time + k * k) / (1 + abs(k - 2)) for k in range(1, count + 1)]
    return (level * np.sum(parts, axis=0)).astype(np.float32)


@pytest.mark.parametrize("hertz", [82.0, 110.0, 147.3, 220.0, 330.0])
def test_the_pitch_of_a_voice_is_its_own_and_no_octave_of_it(hertz: float) -> None:
    pitch = pitch_of(voice(hertz))
    inner = slice(5, -5)
    assert len(pitch.hertz) == 80 and (pitch.likeness[inner] > 0.9).all()
    assert pitch.hertz[inner] == pytest.approx(hertz, rel=0.01)


def test_silence_and_noise_have_no_pitch() -> None:
    assert not pitch_of(np.zeros(RATE, np.float32)).likeness.any()
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert np.median(pitch_of(noise).likeness) < 0.5
    assert not two_voices(noise).any() and not two_voices(np.zeros(RATE, np.float32)).any()


@pytest.mark.parametrize(("low", "high"), [(110.0, 190.0), (120.0, 200.0), (150.0, 260.0)])
def test_two_voices_are_found_while_both_sound(low: float, high: float) -> None:
    sound = np.concatenate([voice(low), voice(low) + voice(high), voice(high)])
    found = two_voices(sound)
    assert found[85:155].mean() > 0.8
    assert not found[:75].any() and not found[165:].any()


def test_voices_an_octave_apart_pass_for_one() -> None:
    assert not two_voices(voice(110.0) + voice(220.0)).any()


def test_one_voice_over_another_that_is_much_softer_is_one() -> None:
    assert not two_voices(voice(110.0) + voice(190.0, level=0.01)).any()


@pytest.mark.parametrize("samples", [0, 1, HOP, HOP + 1, 7 * HOP])
def test_every_sound_has_its_frames(samples: int) -> None:
    sound = np.zeros(samples, np.float32)
    assert len(pitch_of(sound).hertz) == len(two_voices(sound)) == frame_count(samples)


def test_long_sound_is_worked_on_in_blocks_that_do_not_show() -> None:
    sound = np.tile(voice(147.3, 0.5), 24)  # 1200 frames
    pitch = pitch_of(sound)
    assert pitch.hertz[950:1050] == pytest.approx(pitch_of(sound[RATE * 5 :]).hertz[450:550], rel=1e-6)
