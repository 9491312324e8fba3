"""Kept windows that are damaged. (Stopped and gone on with: test_sample_mtv.py.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtv.kept_windows import KeptWindows
from mtv.windows import WindowProgress
from shared.utils.errors import UserError


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Two windows of three frames."""
    with KeptWindows.of(tmp_path / "out.mp4", "settings", resume=False) as windows:
        progress = WindowProgress()
        for progress.done in (1, 2):
            progress.last = torch.full((1, 3, 2, 2, 2), float(progress.done))
            windows.add(np.full((3, 2, 2, 3), progress.done, np.uint8), progress)
    return tmp_path / "out.mp4"


def test_windows_come_back_to_the_bit(kept: Path) -> None:
    with KeptWindows.of(kept, "settings", resume=True) as windows:
        progress = windows.progress()
        assert progress.done == 2 and torch.equal(progress.last, torch.full((1, 3, 2, 2, 2), 2.0))
        assert windows.video()[:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]
        told = pytest.raises(UserError, match=r"process \d+ on .* makes out\.mp4; let it end, or give another name")
        with told, KeptWindows.of(kept, "settings", resume=True):
            pass


@pytest.mark.parametrize(("name", "size"), [("windows.safetensors", 40), ("windows.safetensors", 0), ("frames", 70)])
def test_damaged_windows_are_told(kept: Path, name: str, size: int) -> None:
    file = Path(f"{kept}.partial") / name
    file.write_bytes(file.read_bytes()[:size])
    told = pytest.raises(UserError, match=f"{name} is damaged .*; delete .* to begin anew")
    with told, KeptWindows.of(kept, "settings", resume=True):
        pass
