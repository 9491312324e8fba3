from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.curation.config import DemixConfig
from shared.curation.cut import cut
from shared.curation.record import Context, Record
from shared.data.media import probe, read_audio, read_video
from shared.data.media_write import write_video

RATE = 16000


@pytest.mark.parametrize(("first", "after"), [(0, 48), (13, 37)])
def test_a_clip_has_the_frames_and_the_sound_of_its_span(tmp_path: Path, first: int, after: int) -> None:
    frames = np.stack([np.full((32, 64, 3), 20 + 4 * k, np.uint8) for k in range(48)])
    level = np.linspace(0.1, 0.9, 48)
    tone = np.sin(2 * np.pi * 500 * np.arange(48 * 800) / RATE)
    write_video(tmp_path / "film.mp4", frames, 20, (np.repeat(level, 800) * tone)[None].astype(np.float32), RATE)
    record = Record("k", tmp_path / "film.mp4", "k", first / 20, after / 20, "", {"technical": {"bars": [0.0] * 4}})
    finding = cut(record, Context(DemixConfig(), tmp_path, None))  # type: ignore[arg-type]
    file = tmp_path / finding.figures["files"][0]
    assert finding.figures["frames"] == after - first and finding.figures["bytes"] == file.stat().st_size
    info = probe(file)
    assert info.fps == 20 and info.video_end == pytest.approx((after - first) / 20)
    assert info.audio_end == pytest.approx((after - first) / 20, abs=1e-3)
    assert np.allclose(read_video(file, 20).mean((1, 2, 3)), 20 + 4 * np.arange(first, after), atol=3)
    heard = np.abs(read_audio(file, RATE)[0].reshape(after - first, 800)).max(1)
    assert np.allclose(heard, level[first:after], atol=0.06)


def test_bars_are_cut_off_with_a_margin_and_sides_stay_even(tmp_path: Path) -> None:
    frames = np.full((6, 48, 64, 3), 200, np.uint8)
    frames[:, :8] = frames[:, -7:] = 0
    write_video(tmp_path / "film.mp4", frames, 24)
    bars = {"technical": {"bars": [8 / 48, 7 / 48, 0.0, 0.0]}}
    cut(Record("k", tmp_path / "film.mp4", "k", 0.0, 0.25, "", bars), Context(DemixConfig(), tmp_path, None))  # type: ignore[arg-type]
    clip = read_video(tmp_path / "clips/k.mp4", 24)
    assert clip.shape == (6, 28, 64, 3) and clip.min() > 150 and not probe(tmp_path / "clips/k.mp4").has_audio
