"""Colours: tags, their absence, both ranges, HDR and alpha come back as the colours that were filmed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from odd_media import greys, patch, write_frames

from shared.data.colour import check_colours, tell_mapped
from shared.data.doctor import examine
from shared.data.manifest import Clip
from shared.data.media import probe, read_video
from shared.utils.errors import UserError

COLOURS = ((200, 40, 40), (40, 180, 60), (50, 60, 210), (120, 120, 120), (250, 250, 250))
BT709, BT601, PQ, HLG = 1, 5, 16, 18


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "filmed", "tagged"),
    [
        (64, 64, BT709, True), (64, 64, BT601, True), (64, 64, BT601, False), (576, 64, BT601, False),
        (720, 64, BT709, False), (64, 1280, BT709, False), (720, 64, BT601, True), (720, 64, BT709, True),
    ],
)  # fmt: skip
def test_colours_come_back(tmp_path: Path, height: int, width: int, filmed: int, tagged: bool, full: bool) -> None:
    tags = (filmed if tagged else 2, 2 if full else 1, 2, 2)
    frames = [patch(rgb, height, width, filmed, full, tagged) for rgb in COLOURS]
    write_frames(tmp_path / "a.mp4", frames, "libx264", tags)
    read = read_video(tmp_path / "a.mp4", 16, (32, 32))[:, 16, 16]
    assert np.abs(read.astype(int) - COLOURS).max() <= 4
    assert probe(tmp_path / "a.mp4").colours is None


@pytest.mark.parametrize(("number", "name"), [(8, "YCgCo"), (14, "ICtCp"), (10, "BT.2020 with constant luminance")])
def test_colours_that_cannot_be_read_are_named(tmp_path: Path, number: int, name: str) -> None:
    frames = [patch((200, 40, 40), 64, 64, BT709, False) for _ in range(3)]
    for frame in frames:
        frame.colorspace = number
    write_frames(tmp_path / "a.mp4", frames, "libx264", (number, 1, 2, 2))
    with pytest.raises(UserError, match=rf"a\.mp4: its colours are {name}, which cannot be read"):
        read_video(tmp_path / "a.mp4", 16)


def test_dolby_vision_without_a_base_layer_is_named() -> None:
    metadata = SimpleNamespace(type=SideDataType.DOVI_METADATA)
    for transfer, told in ((2, "Dolby Vision alone"), (PQ, "")):
        frame = SimpleNamespace(colorspace=2, color_trc=transfer, color_primaries=2, side_data=[metadata])
        if told:
            with pytest.raises(UserError, match=rf"b\.mp4: its colours are those of {told}"):
                check_colours(Path("b.mp4"), frame)
        else:
            check_colours(Path("b.mp4"), frame)


def pq(nits: float) -> float:
    """Signal of SMPTE ST 2084 for so many candela per square metre."""
    power = (nits / 10000) ** (2610 / 16384)
    return float(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


#: By hand from ITU-R BT.2408: white paper is 203 cd/m2, 75 % of HLG, which ends at 1000.
NITS = (0, 1, 20, 100, 203, 600, 1000, 4000)
PQ_SIGNALS, HLG_SIGNALS = [pq(nits) for nits in NITS], [0, 0.25, 0.5, 0.75, 0.9, 1]
DISPLAY = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400:"


@pytest.mark.parametrize(("transfer", "signals", "name"), [(PQ, PQ_SIGNALS, "PQ"), (HLG, HLG_SIGNALS, "HLG")])
def test_hdr_is_tone_mapped_and_told(
    tmp_path: Path, transfer: int, signals: list[float], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.mp4"
    write_frames(path, [greys(signals, transfer) for _ in range(3)], "libx265", (9, 1, transfer, 9))
    read = read_video(path, 16)[1, 16, 16::32].astype(int)
    assert np.ptp(read, axis=1).max() <= 2  # grey stays grey
    levels = read[:, 0]
    assert levels[0] <= 2 and levels[-1] >= 253
    assert (np.diff(levels[: NITS.index(1000) + 1]) > 8).all()  # below 1000 every step stays one: nothing is cut
    white = levels[signals.index(pq(203) if transfer == PQ else 0.75)]
    assert abs(white - 173) <= 4  # the same white in both
    if transfer == PQ:  # as from a display of 1000 cd/m2 that the file names
        write_frames(
            tmp_path / "b.mp4", [greys(signals, PQ) for _ in range(3)], "libx265", (9, 1, PQ, 9), extra=DISPLAY
        )
        assert np.abs(read_video(tmp_path / "b.mp4", 16)[1, 16, 16::32] - read).max() <= 2
    caplog.clear()
    read_video(path, 16)
    assert not caplog.messages  # it has been said
    told = f"is HDR ({name}); it is read tone-mapped to BT.709"
    assert probe(path).colours == f"HDR ({name})"
    found = examine(Clip(id="a", video=path, caption="x"))
    assert told in found.warnings and found.facts["colours"] == f"HDR ({name})"


def test_files_are_named_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    tell_mapped.cache_clear()
    for number in [*range(30), *range(30)]:
        tell_mapped(Path(f"{number}.mp4"), "HDR (HLG)")
    assert caplog.messages[:20] == [f"{k}.mp4: is HDR (HLG); it is read tone-mapped to BT.709" for k in range(20)]
    assert caplog.messages[20:] == ["further files in HDR or BT.2020 are not named"]


@pytest.mark.parametrize(
    ("codec", "ending", "form"),
    [
        ("prores_ks", "mov", "yuva444p10le"), ("png", "mov", "rgba"), ("qtrle", "mov", "argb"),
        ("ffv1", "mkv", "yuva420p"), ("libvpx-vp9", "webm", "yuva420p"),
    ],
)  # fmt: skip
def test_alpha_shows_white_and_no_hidden_colour(tmp_path: Path, codec: str, ending: str, form: str) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0], pixels[:, 32:, 3] = 200, 255  # red, its left half transparent
    frames = [av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format=form) for _ in range(3)]
    write_frames(tmp_path / f"a.{ending}", frames, codec)
    for first, *_ in (read_video(tmp_path / f"a.{ending}", 16), read_video(tmp_path / f"a.{ending}", 16, (32, 32))):
        assert first[:, : len(first) // 2 - 3].min() > 250
        assert np.abs(first[4:-4, -8:].astype(int) - (200, 0, 0)).max() <= 6
