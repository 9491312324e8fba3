"""What is told of who speaks in a manifest's clips; scripts/demix.py's tests run it on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtv.demix_speakers import SpeakerScore, measure_speakers, speakers_table, tell_speakers
from shared.data.manifest import Clip
from shared.data.media import write_audio


def test_the_table_has_errors_by_the_number_of_people() -> None:
    scores = [SpeakerScore(2, 2, 10, 100), SpeakerScore(2, 2, 0, 300), SpeakerScore(2, 1, 40, 100)]
    rows = speakers_table([*scores, SpeakerScore(1, 2, 5, 50)]).splitlines()[2:]
    assert rows == ["| 1 | 1 | 0 | 10.0% (10.0%) | - |", "| 2 | 3 | 2 | 10.0% (10.0%) | 2.5% |"]


def test_people_are_counted_and_two_at_once_are_named() -> None:
    one = {"speech1": [[0.0, 1.0]], "overlap": []}
    two = {"speech1": [[0.0, 1.0]], "speech2": [[0.5, 1.5]], "overlap": [[0.5, 1.0]]}
    said = tell_speakers({"a": one, "b": two, "c": one}).splitlines()
    assert said == [
        "people who speak: 1 in 2 clips, 2 in 1 clips",
        "two voices at once, which are not parted: 0.5 s in 1 clips (b)",
    ]
    assert "(0, 1, 2, 3, 4 and 2 more)" in tell_speakers({str(k): two for k in range(7)})


def test_the_true_tracks_say_who_speaks(tmp_path: Path) -> None:
    """One second of each; the second starts half a second into the first."""
    rows = np.zeros((3, 32000), np.float32)
    rows[0, :16000] = rows[1, 8000:24000] = 0.1
    files = {}
    for name, row in zip(("speech1", "speech2", "speech3"), rows, strict=True):
        files[name] = tmp_path / f"{name}.wav"
        write_audio(files[name], row[None], 16000)
    clip = Clip(id="a", audio=files["speech1"], caption="", tracks=files)
    right = measure_speakers(clip, {"speech1": [[0.5, 1.5]], "speech2": [[0.0, 1.0]], "overlap": [[0.5, 1.0]]})
    assert right is not None and right[:2] == (2, 2) and right.frames == pytest.approx(200, abs=6)
    assert right.wrong <= 6
    half = measure_speakers(clip, {"speech1": [[0.0, 1.0]], "overlap": []})
    assert half is not None and half.found == 1 and half.wrong == pytest.approx(100, abs=6)
    assert measure_speakers(clip.model_copy(update={"tracks": {"speech": files["speech3"]}}), {"overlap": []}) is None
