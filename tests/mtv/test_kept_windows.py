"""Kept windows that are damaged. (Stopped and gone on with: test_sample_mtv.py.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtv import kept_windows
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


def test_what_is_finished_is_written_now_and_then_within_its_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten windows of 40 s, of which the file takes 1 s for each window in it; the last one is not written here."""
    now = [1000.0]
    monkeypatch.setattr(kept_windows.time, "monotonic", lambda: now[0])
    written: list[int] = []

    def write(path: Path, frames: np.ndarray) -> None:
        assert path.name == "so_far.mp4"
        written.append(len(frames) // 3)
        now[0] += len(frames) // 3

    with KeptWindows.of(tmp_path / "out.mp4", "settings", resume=False) as windows, windows.so_far(write):
        progress = WindowProgress()
        for progress.done in range(1, 11):
            now[0] += 40
            progress.last = torch.zeros(1) if progress.done < 10 else None
            windows.add(np.zeros((3, 2, 2, 3), np.uint8), progress)
    assert written == [1, 2, 3, 5, 8] and sum(written[:-1]) <= 0.06 * (now[0] - 1000)


def test_a_full_disk_costs_the_playable_file_alone(tmp_path: Path) -> None:
    def write(path: Path, frames: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    with KeptWindows.of(tmp_path / "out.mp4", "settings", resume=False) as windows, windows.so_far(write):
        windows.add(np.zeros((3, 2, 2, 3), np.uint8), WindowProgress(1, torch.zeros(1)))
        assert windows.done == 1 and not (windows.folder / "so_far.mp4").exists()
