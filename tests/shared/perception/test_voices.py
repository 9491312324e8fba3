"""Voice activity: noise and tones are no speech; a real voice is, where there is a recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perception import need_model, spoken_lines

from shared.data.media import read_audio
from shared.perception.voices import RATE, STEP, speech_probability, speech_share, voices_fingerprint


@pytest.fixture(autouse=True)
def detector() -> None:
    need_model("", "silero_vad")
    need_model("", "onnxruntime")


def test_noise_and_tones_are_no_speech() -> None:
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(RATE + 7).astype(np.float32)
    assert speech_probability(noise).shape == (-(-len(noise) // STEP),)
    assert speech_share(noise) == 0
    assert speech_share(np.sin(np.arange(RATE) * 0.3).astype(np.float32)) == 0
    assert speech_share(noise[:0]) == 0
    assert (speech_probability(noise) == speech_probability(noise)).all()  # nothing is left over from the last call
    assert len(voices_fingerprint()) == 64


def test_the_threads_of_torch_stay_as_they_are() -> None:
    torch.set_num_threads(2)
    speech_share(np.zeros(RATE, np.float32))
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_a_voice_is_found_where_it_is() -> None:
    voice = read_audio(next(iter(spoken_lines())), RATE)[0]
    padded = np.concatenate([np.zeros(RATE, np.float32), voice])
    probability = speech_probability(padded)
    assert probability[: RATE // STEP].max() < 0.3 and (probability[RATE // STEP :] > 0.5).mean() > 0.7
