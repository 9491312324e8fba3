"""Media files: sync survives frame rates, containers and offsets; durations are exact; bad files refused."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from recordings import turn_clockwise

from shared.data.media import is_silent, probe, read_audio, read_image, read_video, write_audio, write_video
from shared.data.media_write import write_lossless
from shared.utils.errors import UserError
from shared.utils.levels import rms_dbfs

TICK = Fraction(1, 90000)


def flash_and_click(
    path: Path,
    times: np.ndarray,
    at: float,
    codecs: tuple[str, str] = ("libx264", "aac"),
    late_picture: float = 0.0,
    late_sound: float = 0.0,
) -> None:
    """3 s, stereo 48 kHz; pictures 32x32 at `times`, white for 0.25 s from `at` on; a click at `at`."""
    with av.open(str(path), "w") as container:
        fast = {"preset": "ultrafast"} if codecs[0] == "libx264" else {"deadline": "realtime"}
        video = container.add_stream(codecs[0], rate=30, options=fast)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.codec_context.thread_count = 1
        video.time_base = video.codec_context.time_base = TICK
        audio = container.add_stream(codecs[1], rate=48000, layout="stereo")
        packets = []
        for time in times:
            grey = 255 if at - 1e-6 <= time < at + 0.25 else 20
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(Fraction(time + late_picture) / TICK), TICK
            packets += video.encode(frame.reformat(format="yuv420p"))
        samples = np.zeros((2, 144000), np.float32)
        samples[:, round(at * 48000) : round(at * 48000) + 480] = 0.8 * np.sin(np.arange(480) / 2)
        form, size = audio.codec_context.format.name, audio.codec_context.frame_size or 1024
        for first in range(0, 144000, size):
            piece = samples[:, first : first + size]
            piece = piece if form == "fltp" else piece.T.reshape(1, -1)
            piece = piece if form.startswith("flt") else (piece * 32767).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), form, "stereo")
            sound.sample_rate, sound.time_base = 48000, Fraction(1, 48000)
            sound.pts = first + round(late_sound * 48000)
            packets += audio.encode(sound)
        packets += [*video.encode(None), *audio.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)


def flash_time(path: Path, fps: float, **cut: float) -> float:
    return float((read_video(path, fps, **cut).mean((1, 2, 3)) > 128).argmax() / fps)


def click_time(path: Path, rate: int = 16000, **cut: float) -> float:
    return float((np.abs(read_audio(path, rate, **cut)[0]) > 0.2).argmax() / rate)


def irregular_times() -> np.ndarray:
    steps = np.random.default_rng(0).uniform(0.01, 0.08, 70)
    times = np.cumsum(np.r_[0.0, steps])
    return np.sort(np.r_[times[times < 2.9], 1.0])


@pytest.mark.parametrize("source", [12, 30, 50, "irregular"])
def test_resampling_in_time_keeps_sync(tmp_path: Path, source: int | str) -> None:
    times = irregular_times() if source == "irregular" else np.arange(0, 3 * int(source)) / int(source)
    flash_and_click(tmp_path / "a.mp4", times, at=1.0)
    for fps in (8, 16, 24, 25, 29.97, 60):
        assert abs(flash_time(tmp_path / "a.mp4", fps) - 1.0) <= 0.5 / fps + 1e-6
    assert abs(click_time(tmp_path / "a.mp4") - 1.0) < 0.002


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("a.mov", ("libx264", "pcm_s16le")),
        ("a.mkv", ("libx264", "aac")),
        ("a.webm", ("libvpx-vp9", "libopus")),
        ("a.ts", ("libx264", "aac")),
    ],
)
def test_containers_with_and_without_a_cut(tmp_path: Path, name: str, codecs: tuple[str, str]) -> None:
    path = tmp_path / name
    flash_and_click(path, np.arange(90) / 30, at=2.0, codecs=codecs)
    assert len(read_video(path, 16)) == 48
    for start in (0.0, 0.5, 1.75):
        assert flash_time(path, 16, start=start) == pytest.approx(2.0 - start, abs=1 / 16)
        assert click_time(path, start=start) == pytest.approx(2.0 - start, abs=0.002)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_streams_that_start_late_stay_in_sync(tmp_path: Path, name: str) -> None:
    flash_and_click(tmp_path / name, np.arange(90) / 30, at=1.0, late_sound=0.4)
    assert flash_time(tmp_path / name, 30) == pytest.approx(1.0)
    assert click_time(tmp_path / name) == pytest.approx(1.4, abs=0.002)
    assert probe(tmp_path / name).audio_start == pytest.approx(0.4, abs=0.03)
    flash_and_click(tmp_path / name, np.arange(90) / 30, at=1.0, late_picture=0.4)
    assert flash_time(tmp_path / name, 30) == pytest.approx(1.0)
    assert click_time(tmp_path / name) == pytest.approx(0.6, abs=0.002)


def test_a_cut_has_the_length_that_was_asked_for(tmp_path: Path) -> None:
    flash_and_click(tmp_path / "a.mp4", np.arange(90) / 30, at=1.0)
    assert read_video(tmp_path / "a.mp4", 16, start=0.5, end=1.5).shape == (16, 32, 32, 3)
    assert read_audio(tmp_path / "a.mp4", 16000, start=0.5, end=1.5).shape == (1, 16000)
    assert len(read_video(tmp_path / "a.mp4", 16, start=2.5, end=99.0)) == 8


def test_pictures_that_stand_still_are_held_not_anticipated(tmp_path: Path) -> None:
    flash_and_click(tmp_path / "a.mp4", np.array([0.0, 0.2, 2.0, 2.2]), at=2.0)
    assert flash_time(tmp_path / "a.mp4", 16) == 2.0


def moving_disc(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack([columns * 200 // width, rows * 200 // height, 200 - columns * 200 // width], -1)
    frames = np.repeat(ramp[None].astype(np.uint8), count, 0)
    for index, frame in enumerate(frames):
        frame[(rows - height // 2) ** 2 + (columns - 10 - index) ** 2 < 60] += 40
    return frames


def clicks(rate: int, count: int) -> np.ndarray:
    samples = np.zeros((1, count), np.float32)
    samples[0, [rate // 8, rate // 2, count - rate // 8]] = 0.9
    return samples


@pytest.mark.parametrize(
    ("fps", "count", "rate"),
    [(16, 32, 16000), (24, 49, 16000), (25, 50, 44100), (29.97, 60, 48000), (30000 / 1001, 61, 22050)],
)
def test_written_durations_and_sync_are_exact(tmp_path: Path, fps: float, count: int, rate: int) -> None:
    path, samples = tmp_path / "a.mp4", round(count / fps * rate)
    sound = clicks(rate, samples)
    write_video(path, moving_disc(count), fps, sound, rate)
    info = probe(path)
    assert info.fps == pytest.approx(fps, rel=1e-6) and (info.rate, info.channels) == (rate, 1)
    assert info.video_end == pytest.approx(count / fps, abs=1e-3)
    assert info.audio_end == pytest.approx(count / fps, abs=1e-3)
    assert len(read_video(path, fps)) == count
    heard = read_audio(path, rate)
    assert heard.shape == (1, samples)
    for position in np.flatnonzero(sound[0]):
        near = np.abs(heard[0, position - rate // 20 : position + rate // 20])
        assert abs(near.argmax() - rate // 20) <= 2


@pytest.mark.parametrize("fps", [12, 15, 16, 23, 24, 25, 29, 30])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_lossless_file_returns_what_was_written(tmp_path: Path, fps: int, channels: int) -> None:
    rng, path = np.random.default_rng(fps), tmp_path / "a.mkv"
    height = 47 + channels  # odd ones too
    frames = rng.integers(0, 256, (fps + 5, height, 64, 3), np.uint8)
    frames[5:9] = moving_disc(4)[:, :height, :64]
    count = round(len(frames) / fps * 16000)
    most = 2 ** (15 if fps % 2 else 23)
    sound = (rng.integers(-most, most, (channels, count)) / most).astype(np.float32)
    write_lossless(path, frames, fps, sound, 16000)
    assert np.array_equal(read_video(path, fps), frames)
    assert np.array_equal(read_video(path, fps, (height, 64), 0.0, len(frames) / fps), frames)
    assert np.array_equal(read_audio(path, 16000, mono=False), sound)
    info = probe(path)
    with av.open(str(path)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["ffv1", "flac"]
    assert round(info.fps or 0) == fps and info.video_end == pytest.approx(len(frames) / fps, abs=2e-3)


def test_what_no_lossless_file_can_hold_is_refused(tmp_path: Path) -> None:
    frames, sound = moving_disc(4), np.zeros((1, 4000), np.float32)
    for name, given, samples, said in (
        ("a.mp4", frames, sound, "must end in .mkv"),
        ("a.mkv", frames, np.zeros((3, 4000), np.float32), "3 channels; 1 or 2 are written"),
    ):
        with pytest.raises(UserError, match=said):
            write_lossless(tmp_path / name, given, 16, samples, 16000)
    assert list(tmp_path.iterdir()) == []


def test_written_pictures_come_back(tmp_path: Path) -> None:
    frames = moving_disc(24)
    write_video(tmp_path / "a.mp4", frames, 16)
    difference = read_video(tmp_path / "a.mp4", 16).astype(float) - frames
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 38
    assert np.abs(difference.mean((0, 1, 2))).max() < 0.5  # a wrong colour matrix or range moves the mean
    assert not probe(tmp_path / "a.mp4").has_audio


def test_sound_is_cut_or_filled_to_the_pictures(tmp_path: Path) -> None:
    for seconds in (0.5, 3.0):
        tone = 0.5 * np.sin(np.arange(int(seconds * 16000)) / 5)
        write_video(tmp_path / "a.mp4", moving_disc(16), 16, np.stack([tone, tone]), 16000)
        heard = read_audio(tmp_path / "a.mp4", 16000, mono=False)
        assert heard.shape == (2, 16000)
        assert is_silent(heard[:, 12000:]) == (seconds == 0.5)


def test_stereo_becomes_mono_at_another_rate(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    tone = np.sin(2 * np.pi * 440 * time)
    write_audio(tmp_path / "a.wav", np.stack([0.8 * tone, 0.2 * tone]), 44100)
    heard = read_audio(tmp_path / "a.wav", 16000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert heard.shape == (1, 16000) and heard.dtype == np.float32
    assert np.abs(heard[0] - expected)[200:-200].max() < 0.002
    assert read_audio(tmp_path / "a.wav", 16000, mono=False).shape == (2, 16000)


def test_what_a_lower_rate_cannot_hold_is_filtered_out(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 9500 * np.arange(44100) / 44100)
    write_audio(tmp_path / "a.wav", tone[None], 44100)
    assert rms_dbfs(read_audio(tmp_path / "a.wav", 16000)[:, 500:-500]) < -60


def test_wav_round_trip_is_exact_on_16_bit_values(tmp_path: Path) -> None:
    samples = (np.random.default_rng(0).integers(-32768, 32768, (2, 999)) / 32768).astype(np.float32)
    write_audio(tmp_path / "a.wav", samples, 16000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", 16000, mono=False), samples)


def test_size_keeps_the_aspect_and_cuts_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((4, 64, 128, 3), np.uint8)
    wide[:, :, 32:96] = 200
    write_video(tmp_path / "a.mp4", wide, 16)
    inside = read_video(tmp_path / "a.mp4", 16, (32, 32))
    assert inside.shape == (4, 32, 32, 3) and inside[:, :, 2:-2].min() > 190
    assert read_video(tmp_path / "a.mp4", 16).shape == (4, 64, 128, 3)
    Image.fromarray(wide[0]).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (32, 32))[:, 2:-2].min() > 190
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), wide[0])


def test_a_clip_filmed_upright_comes_back_upright(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.mp4", np.zeros((4, 64, 96, 3), np.uint8)
    frames[:, :, :48] = 220  # the left half; turned a quarter clockwise it is the top
    write_video(path, frames, 16)
    turn_clockwise(path)
    upright = read_video(path, 16)
    assert upright.shape == (4, 96, 64, 3)
    assert upright[:, :40].min() > 200 and upright[:, 56:].max() < 20
    assert read_video(path, 16, (48, 32)).shape == (4, 48, 32, 3)


def test_silence_is_below_minus_45_dbfs() -> None:
    tone = np.sqrt(2) * np.sin(2 * np.pi * np.arange(16000) / 160)
    assert rms_dbfs(tone) == pytest.approx(0.0, abs=1e-6)
    assert not is_silent(tone * 10 ** (-44.9 / 20))
    assert is_silent(tone * 10 ** (-45.1 / 20))
    assert rms_dbfs(np.zeros((1, 0))) == rms_dbfs(np.zeros(5)) == -np.inf


def float_wav(path: Path, value: float) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 800), value, np.float32), "flt", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN"), (np.inf, "infinity"), (3000.0, "3000")])
def test_impossible_samples_are_refused(tmp_path: Path, value: float, reason: str) -> None:
    float_wav(tmp_path / "a.wav", value)
    with pytest.raises(UserError, match=rf"a\.wav.*{reason}"):
        read_audio(tmp_path / "a.wav", 16000)


@pytest.mark.parametrize("content", [b"", b"no media " * 500, None])
def test_unreadable_files_are_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (probe, lambda p: read_video(p, 16), lambda p: read_audio(p, 16000), read_image):
        with pytest.raises(UserError, match=r"a\.mp4: (no such file|the file is empty|broken)"):
            read(path)


def test_a_file_cut_off_is_refused(tmp_path: Path) -> None:
    flash_and_click(tmp_path / "whole.mp4", np.arange(90) / 30, at=1.0)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"half\.mp4"):  # the index is at the end
        probe(tmp_path / "half.mp4")
    noise = np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), np.uint8)
    write_video(tmp_path / "whole.mp4", noise, 16)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"half\.mp4.*whole"):  # the index is at the start
        read_video(tmp_path / "half.mp4", 16)


def test_a_missing_stream_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_disc(4), 16)
    write_audio(tmp_path / "a.wav", clicks(16000, 16000), 16000)
    with pytest.raises(UserError, match=r"a\.mp4: has no audio stream"):
        read_audio(tmp_path / "a.mp4", 16000)
    with pytest.raises(UserError, match=r"a\.wav: has no video stream"):
        read_video(tmp_path / "a.wav", 16)


@pytest.mark.parametrize("cut", [(-1.0, None), (1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (9.0, None), (0.0, 1e-5)])
def test_impossible_cuts_are_refused(tmp_path: Path, cut: tuple[float, float | None]) -> None:
    write_video(tmp_path / "a.mp4", moving_disc(16), 16, clicks(16000, 16000), 16000)
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_video(tmp_path / "a.mp4", 16, None, *cut)
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_audio(tmp_path / "a.mp4", 16000, True, *cut)


@pytest.mark.parametrize(
    ("name", "shape", "fps", "sound", "rate", "reason"),
    [
        ("a.avi", (4, 64, 64, 3), 16, None, None, "must end in .mp4"),
        ("a.mp4", (4, 63, 64, 3), 16, None, None, "even"),
        ("a.mp4", (0, 64, 64, 3), 16, None, None, "frames are"),
        ("a.mp4", (4, 64, 64, 3), 0, None, None, "frames per second"),
        ("a.mp4", (4, 64, 64, 3), 16, np.full((1, 9), np.nan), 16000, "NaN"),
        ("a.mp4", (4, 64, 64, 3), 16, np.zeros((1, 9)), 12345, "12345"),
        ("a.mp4", (4, 64, 64, 3), 16, np.zeros((1, 9)), None, "None Hz"),
        ("a.mp4", (4, 64, 64, 3), 16, np.zeros(9), 16000, r"\[9\]"),
    ],
)
def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path,
    name: str,
    shape: tuple[int, ...],
    fps: float,
    sound: np.ndarray | None,
    rate: int | None,
    reason: str,
) -> None:
    with pytest.raises(UserError, match=rf"{name}.*{reason}"):
        write_video(tmp_path / name, np.zeros(shape, np.uint8), fps, sound, rate)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", moving_disc(4), 16)
    before = (tmp_path / "a.mp4").read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shared.data.media_write._video_frames", fail)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", moving_disc(8), 16)
    assert (tmp_path / "a.mp4").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_sound_of_a_few_samples_a_second_is_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 7, 0, "NONE", ""))
        file.writeframes(bytes(42))
    with pytest.raises(UserError, match=r"a\.wav: sound at 7 Hz; at least 1000 Hz are needed"):
        read_audio(tmp_path / "a.wav", 16000)


def test_the_same_clip_is_the_same_file(tmp_path: Path) -> None:
    """To the byte, thirty times: x264 was not always so where it has AVX-512."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (48, 8, 8, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    sound = (0.1 * rng.standard_normal((1, 48000))).astype(np.float32)
    found = set()
    for _ in range(30):
        write_video(tmp_path / "clip.mp4", frames, 16, sound, 16000)
        found.add((tmp_path / "clip.mp4").read_bytes())
    assert len(found) == 1
