"""A live puppet is measured as its speech comes in: times add up, lips that follow are told from lips that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_driven import RATE, driven, joint

from ccl.analysis import live_benchmark as live
from ccl.analysis.benchmark_options import Live
from mtv.live import LiveFrames
from shared.data.media_write import write_audio
from shared.puppets.clip import render_clip
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


def test_lips_of_true_clips_follow_and_others_do_not() -> None:
    spec = next(live._speakers(16))
    clip = render_clip(spec)
    speech = sum(stem for name, stem in clip.stems.items() if name.startswith("speech"))
    parts = [LiveFrames(clip.frames[:17], 0, 1.0, 1.0), LiveFrames(clip.frames[17:], 17, 1.0, 1.0)]
    follows, shifted = live._lips(parts, speech, spec.rate, spec)
    assert follows > 0.9 > shifted + 0.2
    still = [LiveFrames(np.zeros_like(clip.frames), 0, 1.0, 1.0)]
    assert live._lips(still, speech, spec.rate, spec) == (0.0, 0.0)


def test_a_recording_is_as_long_as_asked_for_and_never_silent() -> None:
    sound = live.recorded(RATE, 5.0)
    assert len(sound) == 5 * RATE and np.abs(sound).max() <= 1
    assert all(part.std() > live.HISS / 2 for part in np.array_split(sound, 50))
    assert np.array_equal(sound, live.recorded(RATE, 5.0))
