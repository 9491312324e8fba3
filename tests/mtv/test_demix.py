"""Demixing of a manifest's clips: what is told of them; scripts/demix.py's tests run it on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtv.demix import DemixerChoice, Outcome, demix_clips, scores_table
from shared.data.manifest import Clip
from shared.data.media import write_audio


def test_the_table_has_means_medians_and_what_is_left_on_silence() -> None:
    clip = Clip(id="a", audio=Path("a.wav"), caption="")
    scores = [{"speech": (4.0, -2.0), "music": (-60.0, None)}, {"speech": (8.0, 0.0)}, {"speech": (9.0, 2.0)}, None]
    rows = scores_table([Outcome(clip, scores=one) for one in scores]).splitlines()[2:]
    assert rows == [
        "| speech | 3 | 7.0 (8.0) | 0.0 | 0 | - |",
        "| effects | 0 | - | - | 0 | - |",
        "| music | 0 | - | - | 1 | -60.0 |",
    ]


def test_a_clip_that_fails_costs_only_itself(tmp_path: Path) -> None:
    sound = (0.1 * np.random.default_rng(0).standard_normal((1, 16000))).astype(np.float32)
    write_audio(tmp_path / "a.wav", sound, 16000)
    clips = [Clip(id=name, audio=tmp_path / "a.wav", caption="") for name in ("up/down", "a")]
    outcomes = list(demix_clips(tmp_path, clips, tmp_path / "out", DemixerChoice("dsp"), workers=1, measure=False))
    assert "'up/down' cannot name a folder" in outcomes[0].error and not outcomes[1].error
    assert sorted(outcomes[1].clip.tracks) == ["effects", "music", "speech"]
    assert all(path.is_file() for path in outcomes[1].clip.tracks.values())
