"""A clip as one picture: each file and each reading adds its panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.evaluation.figures import ClipFigure
from shared.utils.errors import UserError

TIMES = np.arange(16) / 8
PICTURES = np.full((8, 32, 32, 3), 128, np.uint8)
SOUND = np.sin(np.arange(32000) / 5).astype(np.float32)


def test_each_part_has_its_panel() -> None:
    curves = [("video", TIMES, TIMES / 2), ("audio", TIMES, 1 - TIMES / 2)]
    assert len(ClipFigure(2.0, PICTURES).draw().axes) == 1
    assert len(ClipFigure(2.0, None, SOUND, 16000).draw().axes) == 2
    figure = ClipFigure(2.0, PICTURES, SOUND, 16000, curves).draw()
    assert len(figure.axes) == 4 and len(figure.axes[-1].lines) == 2
    assert {panel.get_xlim() for panel in figure.axes} == {(0.0, 2.0)}


def test_onsets_cross_all_panels() -> None:
    figure = ClipFigure(2.0, PICTURES, SOUND, 16000, onsets={"video": [0.5, 1.0], "audio": np.array([0.52])}).draw()
    for panel in figure.axes:
        marks = [[float(line[0, 0]) for line in lines.get_segments()] for lines in panel.collections]
        assert marks == [[0.5, 1.0], [0.52]]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        ClipFigure(2.0, PICTURES).save(tmp_path / "file" / "strip.png")
