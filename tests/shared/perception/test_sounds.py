"""Kinds of sound: YAMNet names noise and tones for what they are; real speech, where there is a recording."""

from __future__ import annotations

import numpy as np
import pytest
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.perception.sounds import (
    HOP,
    MELS,
    MODEL,
    PATCH,
    PATCH_HOP,
    RATE,
    class_names,
    class_probabilities,
    patches,
    sounds_fingerprint,
    tag,
)  # fmt: skip


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32)


def test_patches_overlap_by_half() -> None:
    assert patches(noise(0.1)).shape == (1, PATCH, MELS)
    long = patches(noise(2.0))
    assert long.shape == (3, PATCH, MELS)
    assert (long[0, PATCH_HOP:] == long[1, :PATCH_HOP]).all()
    later = patches(noise(2.0)[HOP:])
    assert (later[0, :-1] == long[0, 1:]).all()
    assert patches(np.zeros(RATE, np.float32)).max() == pytest.approx(np.log(1e-3))


def test_noise_and_tones_are_named() -> None:
    need_model(MODEL, "onnxruntime")
    assert class_probabilities(noise(2.0)).shape == (3, 521) == (3, len(class_names()))
    assert {"White noise", "Static"} & {one.name for one in tag(noise(2.0))}
    tone = (0.2 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    assert {"Dial tone", "Alarm"} <= {one.name for one in tag(tone)}
    assert tag(tone, 1)[0].probability > 0.9 and len(sounds_fingerprint()) == 64


@pytest.mark.slow
def test_speech_is_named() -> None:
    need_model(MODEL, "onnxruntime")
    first = tag(read_audio(next(iter(spoken_lines())), RATE)[0], 1)
    assert first[0].name == "Speech" and first[0].probability > 0.9
