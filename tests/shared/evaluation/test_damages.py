"""Damages of drawn clips are what they are called, and the table says what metrics say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.evaluation.damages import (
    DAMAGES,
    DrawnClip,
    DrawnMedia,
    cell,
    check_needs,
    damage_table,
    drawn_clips,
    measured,
)
from shared.evaluation.metrics.base import ClipMedia, Result


@pytest.fixture(scope="module")
def clips() -> list[DrawnClip]:
    return list(drawn_clips(2))


class Seen:
    """Tells how many frames differ from the one before, and refuses silence; `lag_ms`: of its first loud moment."""

    needs = frozenset({"video", "audio", "text"})

    def clip(self, media: ClipMedia) -> Result:
        loud = np.flatnonzero(np.abs(media.audio(16000)) > 1e-3)
        if not len(loud):
            return Result(None, "silent")
        moved = np.any(np.diff(media.frames().astype(int), axis=0), axis=(1, 2, 3))
        return Result(float(moved.sum()), facts={"lag_ms": round(loud[0] / 16)})


def test_damages_are_what_they_are_called(clips: list[DrawnClip]) -> None:
    one, other = clips
    made: dict[str, DrawnClip] = {damage.what: damage.make(one, other) for damage in DAMAGES}
    assert all(clip.frames.shape == one.frames.shape and len(clip.sound) == len(one.sound) for clip in made.values())
    assert np.array_equal(made["every second frame twice"].frames[1::2], one.frames[0::2][: len(one.frames) // 2])
    assert (made["one frame all the time"].frames == one.frames[len(one.frames) // 2]).all()
    sharp = [np.abs(np.diff(clip.frames.astype(int), axis=2)).mean() for clip in (made["frames blurred"], one)]
    assert sharp[0] < sharp[1]
    assert made["text of another clip"].text == other.text != one.text
    assert np.array_equal(made["sound of another clip"].sound, other.sound) and not made["silence"].sound.any()
    by = round(0.2 * one.spec.rate)
    assert np.array_equal(made["sound 200 ms late"].sound[by:], one.sound[:-by])
    assert np.array_equal(made["sound 200 ms early"].sound[:-by], one.sound[by:])


def test_a_drawn_clip_is_read_as_a_file(clips: list[DrawnClip]) -> None:
    media = DrawnMedia(clips[0])
    assert media.duration == 4 and media.speech(16000) is None and media.text == clips[0].text
    assert media.frames(2, (16, 32)).shape == (8, 16, 32, 3) and len(media.audio(8000)) == 32000
    assert media.frames() is clips[0].frames


def test_the_table(clips: list[DrawnClip]) -> None:
    metrics: dict[str, Any] = {"seen": Seen()}
    assert check_needs(metrics) == []
    metrics["seen"].needs = frozenset({"speech"})
    assert check_needs(metrics) == ["seen"]
    found = measured(clips, metrics)
    lines = damage_table(found).splitlines()
    assert lines[0] == "| damage | seen |" and len(lines) == 2 + len(DAMAGES)
    rows = dict(line.strip("| ").split(" | ", 1) for line in lines[2:])
    assert rows["silence"] == "2 refused: silent" and rows["one frame all the time"].startswith(
        "0.00 [0.00, 0.00]; lag"
    )
    values = {name: found[name]["seen"][0] for name in ("none", "every second frame twice", "sound 200 ms late")}
    assert values["every second frame twice"].value < values["none"].value  # type: ignore[operator]
    assert values["sound 200 ms late"].facts["lag_ms"] - values["none"].facts["lag_ms"] == pytest.approx(200, abs=1)
    assert cell([Result(1.0), Result(None, "no face")]) == "1.00 [1.00, 1.00]; 1 refused: no face"
