from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.curation.config import DemixConfig
from shared.curation.record import Context, Finding, Record
from shared.curation.technical import bars_of, examine
from shared.data.media_write import write_video

RATE = 16000


def noise(seconds: float = 2.0, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, level, (1, round(seconds * RATE))).clip(-1, 1).astype(np.float32)


def moving(height: int = 48, width: int = 64, frames: int = 24) -> np.ndarray:
    ramp = np.linspace(40, 220, width)
    return np.stack([np.broadcast_to(np.roll(ramp, 4 * k)[None, :, None], (height, width, 3)) for k in range(frames)])


def examined(tmp_path: Path, frames: np.ndarray, sound: np.ndarray | None, **settings: float) -> Finding:
    write_video(tmp_path / "x.mp4", frames.astype(np.uint8), 12, sound, RATE if sound is not None else None)
    config = DemixConfig.model_validate({"technical": {"least_side": 32} | settings})
    record = Record("k", tmp_path / "x.mp4", "k", 0.0, len(frames) / 12)
    return examine(record, Context(config, tmp_path, None))  # type: ignore[arg-type]


def test_a_clip_that_has_all_is_kept(tmp_path: Path) -> None:
    finding = examined(tmp_path, moving(), noise())
    assert finding.verdict == "keep", finding
    figures = finding.figures
    assert figures["size"] == [48, 64] == figures["picture"] and figures["fps"] == 12 and figures["frames"] == 24
    assert figures["level_dbfs"] == pytest.approx(-20, abs=0.5) and figures["frozen_share"] == 0


@pytest.mark.parametrize(
    ("cause", "frames", "sound", "settings"),
    [
        ("small", moving(), noise(), {"least_side": 64}),
        ("slow", moving(), noise(), {"least_fps": 24}),
        ("no sound", moving(), None, {}),
        ("silent", moving(), noise(level=0.001), {}),
        ("silent", moving(), np.concatenate([noise(0.1), noise(1.9, 0)], 1), {"most_silent": 0.5}),
        ("black", np.concatenate([moving(frames=12), moving(frames=12) * 0]), noise(), {}),
        ("frozen", np.repeat(moving(frames=2), 12, 0), noise(), {}),
        ("clipped", moving(), np.sign(np.sin(np.arange(2 * RATE) / 30))[None].astype(np.float32), {}),
    ],
)
def test_each_rule_drops_by_its_name(
    tmp_path: Path, cause: str, frames: np.ndarray, sound: np.ndarray | None, settings: dict[str, float]
) -> None:
    finding = examined(tmp_path, frames, sound, **settings)
    assert (finding.verdict, finding.cause) == ("drop", cause) and finding.reason


def test_bars_of_a_letterbox_do_not_count_as_picture(tmp_path: Path) -> None:
    frames = moving()
    frames = frames.copy()
    frames[:, :8] = frames[:, -8:] = 0
    finding = examined(tmp_path, frames, noise(), least_side=40)
    assert finding.figures["bars"][:2] == pytest.approx([8 / 48, 8 / 48], abs=1 / 48)
    assert finding.cause == "small" and "has 3" in finding.reason


def test_bars_are_read_from_the_brightest_pixels() -> None:
    lit = np.zeros((10, 20), np.uint8)
    assert bars_of(lit) == [0.0] * 4
    lit[2:9, 5:20] = 200
    assert bars_of(lit) == [0.2, 0.1, 0.25, 0.0]
