"""The contact sheet of generated clips: captions in their order, seeds 0, 1, 2 and so on, nothing chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.evaluation.held_out import HeldOut, TaskSamples
from shared.evaluation.sheet import COUNT, sheet_jobs, write_sheet
from shared.puppets.script import sample_spec

SPECS = [sample_spec(61, index) for index in range(30)]
CAPTIONS = [(f"caption {index}", "sound") for index in range(30)]
HELD_OUT = HeldOut(SPECS, CAPTIONS, [], [], (8, 8))


def test_jobs_are_by_all_defaults() -> None:
    jobs = sheet_jobs(HELD_OUT, 16)
    assert [job.clips for job in jobs] == [[*range(16)], [*range(16, COUNT)]]
    call = jobs[0].arguments
    assert call == {"prompt": [f"caption {i}" for i in range(16)], "task": "t2av", "seed": [*range(16)], "duration": 2}


def test_the_picture_holds_every_clip(tmp_path: Path) -> None:
    clips: dict[int, Any] = {i: {"frames": np.full((8, 32, 32, 3), 40 * i, np.uint8)} for i in (2, 0, 1)}
    write_sheet(tmp_path / "new/sheet.png", HELD_OUT, TaskSamples(clips, 0.0))
    sheet = np.asarray(Image.open(tmp_path / "new/sheet.png"))
    width = sheet.shape[1] // 3
    assert [sheet[16, k * width + 16, 0] for k in range(3)] == [0, 40, 80]
