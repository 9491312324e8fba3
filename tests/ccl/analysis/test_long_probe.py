"""The probe of long clips on a tiny pipeline: windows, stretches, and clips that do not depend on one another."""

from __future__ import annotations

import pytest
from small import pipeline, transformer

from ccl.analysis.long_probe import LongProbe
from shared.utils.errors import UserError


def test_long_clips_are_read_stretch_by_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, asked = pipeline(transformer()), []
    stream = pipe.stream

    def told(*texts, **options):
        asked.append((texts, options))
        return stream(*texts, num_inference_steps=1, **options)

    monkeypatch.setattr(pipe, "stream", told)
    found = LongProbe(pipe, 2, 16.0, 3).measure()
    assert [options["duration"] for _, options in asked] == [16.0, 16.0]
    assert asked[0][1]["seed"] != asked[1][1]["seed"] and asked[0][0] != asked[1][0]
    assert set(found) == {"agreement", "mouths"} and set(found["mouths"]) == {"0 s", "10 s", "a minute"}
    assert set(found["mouths"]["10 s"]["per_clip"]) == {"0", "1"}
    again = LongProbe(pipe, 1, 16.0, 3).measure()
    for name in ("0 s", "10 s"):
        assert again["mouths"][name]["per_clip"]["0"] == found["mouths"][name]["per_clip"]["0"]


def test_scripts_have_whole_frames_a_second() -> None:
    pipe = pipeline(transformer())
    pipe.register_to_config(fps=23.976)
    with pytest.raises(UserError, match=r"have whole frames a second, and this checkpoint has 23\.976"):
        LongProbe(pipe, 1, 4.0, 0)
