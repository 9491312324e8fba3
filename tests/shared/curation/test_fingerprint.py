from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import FPS, RATE, Segment

from shared.curation.config import DemixConfig, Duplicates
from shared.curation.duplicates import Print, is_near, picture_distance, sound_distance
from shared.curation.fingerprint import GRID, MOMENTS, from_hex, picture_bits, take, to_hex
from shared.curation.record import Context, Record
from shared.data.media import read_audio, read_video
from shared.data.media_write import write_video


def prints(path: Path, start: float, end: float) -> Print:
    figures = take(Record("k", path, "k", start, end), Context(DemixConfig(), path.parent, None)).figures  # type: ignore[arg-type]
    return Print(from_hex(figures["pictures"]), from_hex(figures["sound"]))


def test_a_copy_that_is_smaller_quieter_and_cut_is_near_and_others_are_not(
    film: tuple[Path, list[Segment]], tmp_path: Path
) -> None:
    spans = [(segment.first / FPS, segment.after / FPS) for segment in film[1] if not segment.title]
    true = [prints(film[0], *span) for span in spans]
    for number, (first, last) in enumerate(spans):
        frames = read_video(film[0], FPS, (48, 72), first + 1 / FPS, last)
        sound = read_audio(film[0], RATE, True, first + 1 / FPS, last) * 0.4
        write_video(tmp_path / "copy.mp4", frames, FPS, sound, RATE)
        copy = prints(tmp_path / "copy.mp4", 0.0, len(frames) / FPS)
        assert copy.pictures.shape == (MOMENTS, GRID * GRID)
        seen = [picture_distance(one, copy) for one in true]
        heard = [sound_distance(one, copy) for one in true]
        # with room on both sides, for encoders differ from machine to machine
        assert seen.pop(number) < 0.08 and min(seen) > 0.12, (number, seen)
        assert heard.pop(number) < 0.27 and min(heard) > 0.35, (number, heard)
        for by in ("both", "either"):
            assert [is_near(one, copy, Duplicates(by=by)) for one in true] == [n == number for n in range(len(true))]


def test_bits_are_of_neighbours() -> None:
    ramp = np.repeat(np.linspace(0, 255, 68)[None, :, None], 30, 0).repeat(3, 2).astype(np.uint8)
    assert picture_bits(ramp).all() and not picture_bits(ramp[:, ::-1]).any()


def test_digits_keep_the_bits() -> None:
    bits = np.random.default_rng(0).random((3, 16)) > 0.5
    assert (from_hex(to_hex(bits)) == bits).all()


@pytest.mark.parametrize("frames", [1, 2])
def test_clips_of_few_pictures_have_all_moments(tmp_path: Path, frames: int) -> None:
    write_video(
        tmp_path / "x.mp4", np.full((frames, 32, 32, 3), 90, np.uint8), 2, np.zeros((1, RATE), np.float32), RATE
    )
    assert prints(tmp_path / "x.mp4", 0.0, frames / 2).pictures.shape == (MOMENTS, GRID * GRID)
