from __future__ import annotations

import numpy as np
import pytest

from shared.curation.loudness import loudness_lufs


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_the_sines_of_the_standard(rate: int) -> None:
    """ITU-R BS.1770-4: 997 Hz at full scale in one channel reads -3.01; and 20 dB less reads 20 less."""
    sine = np.sin(2 * np.pi * 997 * np.arange(3 * rate) / rate)
    assert loudness_lufs(sine, rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(sine / 10, rate) == pytest.approx(-23.01, abs=0.05)


def test_what_is_quiet_does_not_count() -> None:
    """EBU Tech 3341, case 3: 10 s at -36, 60 s at -23, 10 s at -36 read -23 (here shorter)."""
    rate = 16000
    sine = np.sin(2 * np.pi * 997 * np.arange(rate) / rate) * 10 ** (-20 / 20)
    parts = np.concatenate([sine * 10 ** (-13 / 20), *[sine] * 6, sine * 10 ** (-13 / 20)])
    assert loudness_lufs(parts, rate) == pytest.approx(-23, abs=0.2)


def test_silence_and_less_than_a_block_have_none() -> None:
    assert loudness_lufs(np.zeros(16000), 16000) is None
    assert loudness_lufs(np.ones(100), 16000) is None
