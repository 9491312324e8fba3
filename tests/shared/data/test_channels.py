"""Many channels become one by BS.775, told by their names; silence is another thing than channels that cancel."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import tone, write_odd

from shared.data import channels
from shared.data.channels import downmix, gains, loudest_dbfs, named_layout, spread
from shared.data.dataset import ClipDataset, check_clip
from shared.data.manifest import Clip
from shared.data.media import probe, read_audio, read_mono, write_audio
from shared.utils.errors import UserError
from shared.utils.levels import rms_dbfs

FRONT = 0.5**0.5
LAYOUTS = {
    "mono": [1],
    "stereo": [0.5, 0.5],
    "downmix": [0.5, 0.5],
    "2.1": [FRONT, FRONT, 0],
    "3.0": [FRONT, FRONT, 1],
    "3.0(back)": [FRONT, FRONT, 0.5],
    "4.0": [FRONT, FRONT, 1, 0.5],
    "quad": [FRONT, FRONT, 0.5, 0.5],
    "5.0": [FRONT, FRONT, 1, 0.5, 0.5],
    "5.1": [FRONT, FRONT, 1, 0, 0.5, 0.5],
    "5.1(side)": [FRONT, FRONT, 1, 0, 0.5, 0.5],
    "hexagonal": [FRONT, FRONT, 1, 0.5, 0.5, 0.5],
    "6.1": [FRONT, FRONT, 1, 0, 0.5, 0.5, 0.5],
    "7.1": [FRONT, FRONT, 1, 0, 0.5, 0.5, 0.5, 0.5],
    "7.1(wide)": [FRONT, FRONT, 1, 0, 0.5, 0.5, FRONT, FRONT],
    "7.1.4": [FRONT, FRONT, 1, 0, *[0.5] * 8],
    "ambisonic 1": [1, 0, 0, 0],
    "3 channels": [FRONT, FRONT, 1],
    "6 channels": [FRONT, FRONT, 1, 0, 0.5, 0.5],
    "8 channels": [FRONT, FRONT, 1, 0, 0.5, 0.5, 0.5, 0.5],
    "10 channels": [0.1] * 10,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_channel_has_its_gain(layout: str) -> None:
    expected = LAYOUTS[layout]
    assert gains(layout) == pytest.approx(expected)
    for index, gain in enumerate(expected):
        samples = np.zeros((len(expected), 100), np.float32)
        samples[index] = 0.8
        assert downmix(samples, layout) == pytest.approx(np.full((1, 100), 0.8 * gain))


@pytest.mark.parametrize(("layout", "codec"), [("5.1", "aac"), ("5.1(side)", "ac3"), ("7.1", "pcm_s16le")])
@pytest.mark.parametrize("channel", [0, 2, 3, 4])
def test_channels_of_files_have_their_gains(tmp_path: Path, layout: str, codec: str, channel: int) -> None:
    expected = LAYOUTS[layout][channel]
    samples = np.zeros((len(LAYOUTS[layout]), 48000), np.float32)
    samples[channel] = tone(1.0, channels=1, pitch=60, level=0.4)[0]
    path = write_odd(tmp_path / "a.mkv", "matroska", sounds=[samples], layout=layout, codecs=(None, codec))
    heard = read_audio(path, 48000)[0, 6000:-6000]
    assert np.sqrt(2) * np.sqrt(np.square(heard).mean()) == pytest.approx(0.4 * expected, rel=0.05, abs=0.002)


def test_a_sum_is_turned_down_only_where_its_peak_passes_1() -> None:
    quiet, loud = np.full((6, 10), 0.2, np.float32), np.full((6, 10), 0.5, np.float32)
    loud[:, 5] = 0.1
    total = 2 * FRONT + 2
    assert downmix(quiet, "5.1")[0] == pytest.approx(np.full(10, 0.2 * total))
    assert downmix(loud, "5.1")[0] == pytest.approx(np.r_[[1.0] * 5, 0.2, [1.0] * 4])


def test_channels_are_spread_by_name() -> None:
    mono, stereo = np.full((1, 3), 0.5, np.float32), np.array([[0.1] * 3, [0.2] * 3], np.float32)
    assert spread(mono, "mono", "stereo").tolist() == [[0.5] * 3, [0.5] * 3]
    assert spread(mono, "mono", "5.1")[:, 0].tolist() == [0, 0, 0.5, 0, 0, 0]
    assert spread(mono, "mono", "quad")[:, 0].tolist() == [0.5] * 4
    assert spread(stereo, "stereo", "5.1")[:, 0] == pytest.approx([0.1, 0.2, 0, 0, 0, 0])
    surround = np.ones((6, 3), np.float32) * 0.1
    assert spread(surround, "5.1", "7.1")[:, 0] == pytest.approx([0, 0, 0.1 * (2 * FRONT + 2), 0, 0, 0, 0, 0])
    assert spread(surround, "5.1", "5.1") is surround


def test_one_and_two_channels_are_their_mean_to_the_bit() -> None:
    samples = np.random.default_rng(0).standard_normal((2, 999)).astype(np.float32)
    np.testing.assert_array_equal(downmix(samples, "stereo"), samples.mean(0, keepdims=True))
    np.testing.assert_array_equal(downmix(samples[:1], "1 channels"), samples[:1])


def test_every_layout_of_ffmpeg_has_a_rule() -> None:
    names = (
        "2.1 3.1 3.1.2 4.1 5.1.2 5.1.2(back) 5.1.4 6.0 6.0(front) 6.1(back) 6.1(front) 7.0 7.0(front) 7.1(wide-side)"
    )
    names += " 7.1.2 7.2.3 9.1.4 9.1.6 22.2 cube octagonal hexadecagonal quad(side) 5.0(side) binaural"
    for name in names.split():
        assert named_layout(name) == name


def test_channels_without_names_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = np.zeros((6, 16000), np.float32)
    samples[2] = tone(1.0, 16000, 1)[0]
    soundfile.write(tmp_path / "a.wav", samples.T, 16000)
    channels._tell.cache_clear()
    with caplog.at_level(logging.WARNING):
        heard = [read_audio(tmp_path / "a.wav", 16000) for _ in range(2)]
    assert np.abs(heard[0]).max() == pytest.approx(0.5, abs=1e-3)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/a.wav: its 6 channels have no names; they are taken for 5.1, the order of a wav"
    ]


def test_a_layout_that_changes_is_read_as_mono() -> None:
    pieces = [(0, np.full((1, 4), 0.5, np.float32)), (4, np.full((6, 4), 0.1, np.float32))]
    found, layout = channels.one_layout(Path("a.ts"), pieces, ["mono", "5.1"])
    assert layout == "mono" and [piece.shape for _, piece in found] == [(1, 4), (1, 4)]
    assert found[1][1][0, 0] == pytest.approx(0.1 * (2 * FRONT + 2))


def sample_of(path: Path):
    return ClipDataset([Clip(id="a", audio=path, caption="")], 8.0, (16, 16), 16000)[0]


def test_silence_is_judged_on_the_loudest_channel(tmp_path: Path) -> None:
    left = tone(1.0, 16000, 1, level=np.sqrt(2) * 10 ** (-42 / 20))[0]
    write_audio(tmp_path / "left.wav", np.stack([left, 0 * left]), 16000)  # -48 dBFS RMS as a mean
    check_clip(sample_of(tmp_path / "left.wav"), False, True)
    write_audio(tmp_path / "quiet.wav", 0.5 * np.stack([left, left]), 16000)
    with pytest.raises(UserError, match=r"clip 'a': its sound is silent \(-48\.0 dBFS RMS\)"):
        check_clip(sample_of(tmp_path / "quiet.wav"), False, True)


def test_channels_that_cancel_are_told_apart_from_silence(tmp_path: Path) -> None:
    sound = tone(1.0, 16000, 1)[0]
    write_audio(tmp_path / "a.wav", np.stack([sound, -sound]), 16000)
    with pytest.raises(UserError, match=r"its channels cancel each other: -9\.0 dBFS RMS in one, -(inf|\d+\.\d) in"):
        check_clip(sample_of(tmp_path / "a.wav"), False, True)


def test_dialogue_in_the_centre_keeps_its_level_and_thunder_alone_is_silence(tmp_path: Path) -> None:
    for channel in (2, 3):
        samples = np.zeros((6, 48000), np.float32)
        samples[channel] = tone(1.0, channels=1, pitch=60, level=0.01)[0]  # -43 dBFS RMS
        path = write_odd(tmp_path / "a.wav", "wav", sounds=[samples], layout="5.1")
        assert probe(path).layout == "5.1"
        if channel == 2:
            check_clip(sample_of(path), False, True)
            assert read_mono(path, 16000)[1] == pytest.approx(-43.0, abs=0.1)
        else:  # the LFE is left out by the standard
            with pytest.raises(UserError, match="its sound is silent"):
                check_clip(sample_of(path), False, True)


def test_the_loudest_of_one_channel_is_its_mix() -> None:
    sound = tone(0.1, channels=2)
    assert loudest_dbfs(sound[:1], "mono") == -np.inf
    assert loudest_dbfs(np.stack([sound[0], 0 * sound[0]]), "stereo") == rms_dbfs(sound[0])
