"""Demixing of a manifest's clips: what is told of them; scripts/demix.py's tests run it on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtv.demix import (
    LEAST_DB,
    MOST_DB,
    DemixerChoice,
    Outcome,
    demix_clips,
    residual_dbfs,
    scores_table,
    si_sdr,
)
from shared.data.manifest import Clip
from shared.data.media import write_audio

DRAW = np.random.default_rng(0)
TRUTH, NOISE = DRAW.standard_normal((2, 2, 4000))
NOISE -= (NOISE * TRUTH).sum() / (TRUTH**2).sum() * TRUTH  # orthogonal: the ratio of energies is then the answer


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


@pytest.mark.parametrize("decibel", [-7.0, 0.0, 13.0])
def test_orthogonal_noise_gives_the_ratio_of_energies(decibel: float) -> None:
    noise = NOISE * np.sqrt((TRUTH**2).sum() / (NOISE**2).sum()) * 10 ** (-decibel / 20)
    assert si_sdr(TRUTH + noise, TRUTH) == pytest.approx(decibel)
    assert si_sdr(-0.3 * (TRUTH + noise), TRUTH) == pytest.approx(decibel)


def test_bounds() -> None:
    assert si_sdr(2 * TRUTH, TRUTH) == MOST_DB
    assert si_sdr(0 * TRUTH, TRUTH) == LEAST_DB
    assert si_sdr(NOISE, TRUTH) == LEAST_DB


def test_a_silent_truth_is_measured_by_what_is_left() -> None:
    with pytest.raises(ValueError, match="residual_dbfs"):
        si_sdr(NOISE, np.zeros_like(NOISE))
    assert residual_dbfs(np.full((2, 100), 0.01)) == pytest.approx(-40)
    assert residual_dbfs(np.zeros((1, 100))) == LEAST_DB


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        si_sdr(TRUTH[:1], TRUTH)
