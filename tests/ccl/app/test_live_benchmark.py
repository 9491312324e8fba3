"""A live puppet is measured as its speech comes in, when it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_driven import RATE, driven, joint

from ccl.analysis.benchmark_options import Live
from ccl.app import live_benchmark as live
from shared.data.media_write import write_audio
from shared.utils.errors import UserError


def test_what_comes_in_real_time_is_measured() -> None:
    waits: list[float] = []
    found, table = live.live_benchmark(Live(seconds=3.0, steps=1), driven(joint()), waits.append)
    assert len(waits) == 12 and waits[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.1)  # as it is said
    assert found["frames"] == 41 and found["steps"] == 1 and found["left_out"] == 0 and found["seconds"] == 3.0
    assert found["busy"] > 0 and 0 < found["delay"]["median"] <= found["longest_delay"]
    assert -1 <= found["lips"] <= 1 and "puppets: 3.0 s of speech, windows of 17 frames, 1 steps; 1 at the end" in table


def test_own_sounds_are_heard_and_have_to_be_long_enough(tmp_path: Path) -> None:
    write_audio(tmp_path / "voice.wav", np.zeros((1, RATE), np.float32), RATE)
    with pytest.raises(UserError, match=r"1 s of sound fill no two windows"):
        live.live_benchmark(Live(speech=tmp_path / "voice.wav", steps=1), driven(joint()), lambda _: None)
