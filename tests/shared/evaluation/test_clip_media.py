"""A clip decoded once gives what the readers give that decode it anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_clips import RATE, moving, tone

from shared.data.manifest import Clip
from shared.data.media import read_audio, read_video
from shared.data.media_write import write_audio, write_video
from shared.evaluation import clip_media
from shared.evaluation.clip_media import FileMedia, shown_at
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "a.mp4", moving(30), 12, tone(2.5)[None], RATE)
    for name, hertz in (("speech1", 300.0), ("speech2", 500.0)):
        write_audio(folder / f"{name}.wav", tone(2.0, hertz)[None], RATE)
    tracks = {name: folder / f"{name}.wav" for name in ("speech1", "speech2")}
    return Clip(id="a", video=folder / "a.mp4", caption="", tracks=tracks)


@pytest.mark.parametrize("fps", [None, 12.0, 6.0, 5.0, 8.0, 25.0, 30.0])
@pytest.mark.parametrize("span", [(0.0, None), (0.5, 1.75)])
def test_frames_are_those_of_the_reader(clip: Clip, fps: float | None, span: tuple[float, float | None]) -> None:
    cut = clip.model_copy(update={"start": span[0], "end": span[1]})
    frames = FileMedia(cut).frames(fps)
    read = read_video(str(clip.video), fps or 12.0, None, *span)
    assert len(frames) == len(read)
    whole = len(read) - (span[1] is not None)  # the reader knows what comes just after the cut
    assert np.array_equal(frames[:whole], read[:whole])


@pytest.mark.parametrize("size", [(16, 16), (48, 40)])
def test_a_size_is_covered_and_cut_as_the_reader_does(clip: Clip, size: tuple[int, int]) -> None:
    frames, read = FileMedia(clip).frames(6.0, size), read_video(str(clip.video), 6.0, size)
    assert frames.shape == read.shape  # the reader scales what the file holds, this the RGB that was made of it
    assert np.abs(frames.astype(int) - read).mean() < 2.0


def test_sound_is_that_of_the_reader_and_speech_the_sum_of_its_tracks(clip: Clip) -> None:
    media = FileMedia(clip)
    for rate in (RATE, 8000):
        assert np.array_equal(media.audio(rate), read_audio(str(clip.audio), rate)[0])
    speech = media.speech(RATE)
    assert speech is not None and np.allclose(speech, tone(2.0, 300.0) + tone(2.0, 500.0), atol=1e-3)
    assert media.duration == pytest.approx(2.5) and media.fps == 12


def test_each_file_is_decoded_once(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(clip_media, "read_video", lambda *given: decoded.append(given) or read_video(*given))
    media = FileMedia(clip)
    for fps in (None, 6.0, 8.0, 6.0):
        media.frames(fps)
    assert len(decoded) == 1


def test_it_says_what_it_has(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(1.5)[None], RATE)
    media = FileMedia(Clip(id="a", audio=tmp_path / "a.wav", caption=""))
    assert [need for need in ("video", "audio", "text", "speech", "reference") if media.has(need)] == [
        "audio",
        "reference",
    ]
    assert media.fps == 0 and media.duration == pytest.approx(1.5) and media.speech(RATE) is None
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match="broken or not media"):
        FileMedia(Clip(id="b", video=tmp_path / "b.mp4", caption="")).has("video")


def test_pictures_on_show_at_another_rate() -> None:
    assert shown_at(4, 8, 4).tolist() == [0, 2]
    assert shown_at(2, 4, 8).tolist() == [0, 0, 1, 1] or shown_at(2, 4, 8).tolist() == [0, 1, 1, 1]
    assert shown_at(1, 8, 1).tolist() == [0]
