"""What a user gave goes into a new mp4 as it is: pictures at their own times, sound with its channels and level."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from recordings import flashes, tone, turn_clockwise, write_odd

from shared.data.given import given_pictures, given_sound
from shared.data.media import probe, read_audio, read_video, reading, timed_pictures
from shared.data.media_write import picture_source, sound_source, write_streams
from shared.utils.errors import UserError

STEADY = np.arange(50) / 25
UNSTEADY = np.r_[0.0, np.cumsum(np.random.default_rng(0).uniform(0.01, 0.08, 49))]
FLASHES = UNSTEADY[[5, 20, 41]]
B_FRAMES = {"preset": "medium", "bf": "3"}


def shown(path: Path) -> list[tuple[float, float]]:
    """Time and brightness of every picture."""
    with reading(path) as file:
        return [(time, float(frame.to_ndarray(format="gray").mean())) for frame, time, _ in timed_pictures(file, 0.0)]


def with_new_sound(path: Path, end: float) -> Path:
    out = path.with_name("out.mp4")
    made = sound_source(tone(3.0, 16000, 1), 16000, "mono", Fraction(end))
    write_streams(out, [given_pictures(path, end), made], 16000)
    return out


def codecs(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.codec.canonical_name for stream in container.streams]


@pytest.mark.parametrize(
    ("form", "how", "codec"),
    [
        ("mp4", {}, "h264"),
        ("mp4", {"video": B_FRAMES}, "h264"),
        ("mov", {}, "h264"),
        ("matroska", {"video": B_FRAMES, "piped": True}, "h264"),
        ("mpegts", {}, "h264"),
        ("webm", {"codecs": ("libvpx-vp9", "libopus")}, "vp9"),
        ("webm", {}, "h264"),  # of VP8, which mp4 does not take
        ("mp4", {"codecs": ("libx265", "aac")}, "hevc"),
        ("matroska", {"codecs": ("libx265", "aac"), "video": {"bf": "4"}}, "hevc"),
        ("mpegts", {"codecs": ("libx265", "aac")}, "hevc"),
        ("webm", {"codecs": ("libsvtav1", "libopus")}, "av1"),
        ("mp4", {"codecs": ("libsvtav1", "aac")}, "av1"),
        ("mov", {"codecs": ("prores_ks", "pcm_s16le")}, "h264"),
        ("mov", {"codecs": ("qtrle", "pcm_s16le")}, "h264"),
        ("mov", {"codecs": ("mjpeg", "pcm_s16le")}, "mjpeg"),
        ("matroska", {"codecs": ("ffv1", "flac")}, "h264"),
    ],
)
def test_every_picture_keeps_its_time(tmp_path: Path, form: str, how: dict, codec: str) -> None:
    path = tmp_path / f"a.{form}"
    write_odd(path, form, UNSTEADY, flashes(UNSTEADY, FLASHES, 64), [tone(2.5)], **how)
    before = shown(path)
    out = with_new_sound(path, before[-1][0] + 0.1)
    after = shown(out)
    assert codecs(out) == [codec, "aac"]
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert [light for _, light in after] == pytest.approx([light for _, light in before], abs=3)
    bright = [time for time, light in after if light > 128]
    assert bright == pytest.approx(list(FLASHES - UNSTEADY[0]), abs=1e-3)
    with av.open(str(out)) as container:  # Apple's players know HEVC by one name alone
        assert container.streams.video[0].codec_context.codec_tag == "hvc1" or codec != "hevc"


def test_a_cut_keeps_what_is_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_odd(tmp_path / "a.mp4", "mp4", UNSTEADY, flashes(UNSTEADY, FLASHES), [tone(2.5)])
    out = with_new_sound(tmp_path / "a.mp4", 1.0)
    assert len(shown(out)) == (UNSTEADY < 1.0).sum()
    assert probe(out).video_end == pytest.approx(1.0, abs=1e-3) == probe(out).audio_end
    rising = [np.full((48, 48, 3), 20 + 4 * k, np.uint8) for k in range(50)]
    write_odd(tmp_path / "b.mp4", "mp4", STEADY, rising, [tone(2.0)], video=B_FRAMES)
    with caplog.at_level(logging.WARNING):
        out = with_new_sound(tmp_path / "b.mp4", 1.0)
    before, after = shown(tmp_path / "b.mp4")[:25], shown(out)
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert [light for _, light in after] == pytest.approx([light for _, light in before], abs=3)
    assert probe(out).video_end == pytest.approx(1.0, abs=1e-3)
    assert "b.mp4: its pictures are encoded again, at their own times: some need" in caplog.text


def test_a_broadcast_cut_anywhere_begins_with_a_picture_that_can_be_shown(tmp_path: Path) -> None:
    rising = [np.full((48, 48, 3), 20 + 4 * k, np.uint8) for k in range(50)]
    path = write_odd(tmp_path / "a.ts", "mpegts", STEADY, rising, [tone(2.0)], video={"g": "20"})
    data = path.read_bytes()
    path.write_bytes(data[:376] + data[len(data) // 5 // 188 * 188 :])  # its tables, and all from within a group
    out = with_new_sound(path, probe(path).video_end or 0.0)
    before, after = np.array(shown(path)), np.array(shown(out))
    after[:, 0] -= probe(out).audio_start or 0.0  # the sound begins where the first pictures are missing
    assert before.shape == after.shape and before[0, 0] > 0.1
    assert np.abs(before - after).max() < 1e-3
    with av.open(str(out)) as container:
        assert next(container.demux(video=0)).is_keyframe


def test_edit_lists_and_rotation_go_along(tmp_path: Path) -> None:
    path, times = tmp_path / "a.mp4", STEADY - 0.4  # 0.4 s are hidden by an edit list
    half = np.zeros((48, 64, 3), np.uint8)
    half[:, :32] = 220
    write_odd(path, "mp4", times, [half] * 50, [tone(2.0)], late_sound=-0.4, video=B_FRAMES)
    turn_clockwise(path)
    given = read_video(path, 25)
    out = read_video(with_new_sound(path, 1.6), 25)
    assert given.shape == out.shape == (40, 64, 48, 3)
    np.testing.assert_array_equal(out, given)
    assert out[0, :28].min() > 200 and out[0, 36:].max() < 20


def with_new_pictures(path: Path, seconds: float = 1.6, track: int | None = None) -> Path:
    out = path.with_name("out.mp4")
    frames = np.stack(flashes(STEADY[: round(seconds * 25)], []))
    pictures, speed = picture_source(out, frames, 25.0)
    info = probe(path, track)
    write_streams(out, [pictures, given_sound(path, track, len(frames) / speed)], info.rate)
    return out


def voices(channels: int, rate: int = 48000) -> np.ndarray:
    """Another pitch and level in every channel, 2 s."""
    fade = np.minimum(1, np.arange(2 * rate) / (0.05 * rate)).astype(np.float32)
    return np.concatenate([tone(2.0, rate, 1, 60 + 12 * k, 0.1 + 0.05 * k) for k in range(channels)]) * fade


@pytest.mark.parametrize(
    ("form", "layout", "how", "codec"),
    [
        ("wav", "stereo", {}, "aac"),
        ("wav", "5.1", {}, "aac"),
        ("wav", "7.1.4", {}, "pcm_s16le"),
        ("wav", "stereo", {"rate": 192000}, "pcm_s16le"),
        ("wav", "stereo", {"rate": 12345}, "pcm_f32le"),  # without a layout's name, which mp4 needs
        ("mp4", "5.1", {}, "aac"),
        ("mp3", "stereo", {}, "mp3"),
        ("flac", "stereo", {}, "flac"),
        ("ogg", "stereo", {}, "opus"),
        ("adts", "stereo", {}, "aac"),
        ("matroska", "5.1(side)", {"codecs": (None, "ac3")}, "ac3"),
    ],
)
def test_a_given_sound_keeps_channels_rate_and_level(
    tmp_path: Path, form: str, layout: str, how: dict, codec: str
) -> None:
    rate = how.get("rate", 48000)
    sound = voices(av.AudioLayout(layout).nb_channels, rate)
    path = write_odd(tmp_path / f"a.{form}", form, sounds=[sound], layout=layout, **how)
    out = with_new_pictures(path)
    info = probe(out)
    assert codecs(out) == ["h264", codec]
    assert (info.rate, info.layout) == (rate, layout)
    assert info.video_end == pytest.approx(1.6) and info.audio_end == pytest.approx(1.6, abs=1e-3)
    given, found = (read_audio(file, rate, False, end=1.5) for file in (path, out))
    for before, after in zip(given, found, strict=True):
        count = min(len(before), len(after))
        assert np.abs(before - after)[: count - 100].max() < 0.1  # half a millisecond of mkv's clock, AAC
        assert np.square(after).mean() == pytest.approx(np.square(before).mean(), rel=0.03)


@pytest.mark.parametrize("form", ["mp4", "matroska"])
@pytest.mark.parametrize("late", [-0.5, 0.5])
def test_the_sound_of_a_film_stays_on_its_timeline(tmp_path: Path, form: str, late: float) -> None:
    click = np.zeros((2, 96000), np.float32)
    click[:, 48000:48480] = tone(0.01, 48000, 2, 2000)
    times = STEADY + max(0.0, -late)
    path = write_odd(tmp_path / "a", form, times, flashes(times, []), [click], late_sound=max(0.0, late))
    out = with_new_pictures(path)
    places = [int((np.abs(read_audio(file, 48000)[0]) > 0.2).argmax()) for file in (path, out)]
    assert places[0] / 48000 == pytest.approx(1.0 + late, abs=0.002)
    assert places[1] == pytest.approx(places[0], abs=48)


def test_the_chosen_track_is_carried(tmp_path: Path) -> None:
    path = write_odd(tmp_path / "a.mp4", "mp4", sounds=[tone(2.0, pitch=300), tone(2.0, pitch=700)], default=1)
    for track, pitch in ((None, 700), (1, 300), (2, 700)):
        heard = read_audio(with_new_pictures(path, track=track), 16000)[0, :16000]
        assert np.abs(np.fft.rfft(heard)).argmax() == pytest.approx(pitch, abs=2)


def test_many_channels_without_names_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voices(10).T, 48000)
    with pytest.raises(UserError, match=r"a\.wav: its 10 channels have no names, which mp4 needs; give stereo or 5\.1"):
        given_sound(tmp_path / "a.wav", None, Fraction(1))
    soundfile.write(tmp_path / "a.wav", voices(6).T, 48000)
    assert probe(with_new_pictures(tmp_path / "a.wav")).layout == "5.1"
