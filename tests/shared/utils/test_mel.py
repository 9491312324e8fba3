"""Log-mel levels of tones whose level is known."""

from __future__ import annotations

import math

import pytest
import torch

from shared.utils.mel import decibels, hann, mel_filters, sine_power


def test_a_full_scale_sine_has_power_one_and_lies_on_its_band() -> None:
    window = hann(512, torch.device("cpu"))
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(512) / 16000)
    power = sine_power(torch.fft.rfft(tone * window), window)
    assert float(power.max()) == pytest.approx(1, abs=1e-4) and int(power.argmax()) == 32
    filters = mel_filters(512, 64, 16000)
    levels = decibels(power @ filters, -70.0)
    assert filters.shape == (257, 64) and levels.min() == -70 and levels.max() > -3


def test_levels_have_a_floor() -> None:
    assert decibels(torch.tensor([0.0, 1e-9, 0.01, 1.0]), -70.0).tolist() == pytest.approx([-70, -70, -20, 0])
