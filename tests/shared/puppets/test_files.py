"""Clips of the puppets on the disk: the files agree with the truth, and nothing is made for settings that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared.data.media import probe, read_audio
from shared.puppets.files import make_clips
from shared.utils.errors import UserError


def test_files_agree_with_the_truth(tmp_path: Path) -> None:
    for clip in make_clips(tmp_path / "clips", 2, 1, "full", (64, 64), 0.0, workers=1):
        assert clip.truth is not None and clip.video is not None
        truth = json.loads(clip.truth.read_text())
        info = probe(clip.video)
        assert info.fps == truth["fps"] and (info.height, info.width) == tuple(truth["size"])
        assert info.duration == pytest.approx(truth["duration"], abs=0.5 / truth["fps"])
        stems = [read_audio(path, 16000)[0] for path in clip.tracks.values()]
        assert {len(stem) for stem in stems} == {round(truth["duration"] * 16000)}
        heard = read_audio(clip.video, 16000)[0][: len(stems[0])]
        assert np.corrcoef(sum(stems)[: len(heard)], heard)[0, 1] > 0.95


def test_wrong_settings_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hard"):
        make_clips(tmp_path / "clips", 2, 1, "hard", (64, 64), 0.0, workers=1)
    assert not (tmp_path / "clips").exists()
