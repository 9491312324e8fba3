from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.curation.config import DemixConfig
from shared.curation.cut import COPIED, cut
from shared.curation.record import Context, Record
from shared.data.media import probe, read_audio, read_video
from shared.data.media_write import (
    add_video_stream,
    encoded,
    sound_source,
    video_frame,
    write_streams,
    write_video,
)

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


def test_pictures_that_begin_with_a_key_frame_are_copied(tmp_path: Path) -> None:
    """Key frames are at 0, 48 and 96: of the spans two fit them, one begins within, the last has bars."""
    rng = np.random.default_rng(0)
    frames = np.kron(rng.integers(0, 255, (144, 4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    sound = rng.normal(0, 0.1, (1, 96000)).astype(np.float32)

    def pictures(container: Any) -> Iterator[Any]:
        stream = add_video_stream(container, 64, 64, Fraction(24))
        stream.codec_context.options = {"crf": "14", "x264-params": "keyint=48:min-keyint=48:scenecut=0"}
        return encoded(stream, (video_frame(one, number, Fraction(1, 24)) for number, one in enumerate(frames)))

    write_streams(tmp_path / "film.mp4", [pictures, sound_source(sound, 16000, "mono", Fraction(6))], 16000)
    true = read_video(tmp_path / "film.mp4", 24)
    found = []
    for begin, end, bars in ((48, 96, 0.0), (60, 96, 0.0), (96, 144, 0.0), (48, 96, 0.1)):
        technical = {"technical": {"bars": [bars, bars, 0.0, 0.0]}}
        record = Record(f"{begin}{end}{bars}", tmp_path / "film.mp4", "k", begin / 24, end / 24, "", technical)
        figures = cut(record, Context(DemixConfig(), tmp_path, None)).figures  # type: ignore[arg-type]
        made = read_video(tmp_path / figures["files"][0], 24)
        assert len(made) == end - begin
        is_same = made.shape == true[begin:end].shape and np.array_equal(made, true[begin:end])
        found.append((figures["codec"] == COPIED, is_same))
        assert probe(tmp_path / figures["files"][0]).duration == pytest.approx((end - begin) / 24, abs=0.01)
    assert [is_copied for is_copied, _ in found] == [is_same for _, is_same in found] == [True, False, True, False]
