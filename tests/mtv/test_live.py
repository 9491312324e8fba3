"""A live puppet: any pieces give the same video, memory is flat, and a slow machine is told and kept up with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from small_driven import FPS, RATE, driven, joint, sound

from mtv.live import LiveFrames, LivePuppet
from mtv.pipeline import MTVPipeline
from shared.utils.errors import UserError

WINDOW = 1.0  # s: 17 frames, of which 12 are new


@pytest.fixture(scope="module")
def pipe() -> MTVPipeline:
    return driven(joint())


def voice(seconds: float) -> np.ndarray:
    return sound("live", seconds)[0].numpy().astype(np.float32)


def said(puppet: LivePuppet, samples: np.ndarray, piece: int, rate: int = RATE) -> Iterator[LiveFrames]:
    for begin in range(0, len(samples), piece):
        yield from puppet.hear(samples[begin : begin + piece], rate)


def test_pieces_of_any_size_make_the_same_video(pipe: MTVPipeline) -> None:
    samples = voice(2.7)
    parts = list(said(LivePuppet(pipe, "a bell", seed=3, steps=1), samples, 777))
    assert [len(part.frames) for part in parts] == [17, 12, 12] and [part.start for part in parts] == [0, 17, 29]
    whole = list(LivePuppet(pipe, "a bell", seed=3, steps=1).hear(samples, RATE))
    for one, other in zip(parts, whole, strict=True):
        assert np.array_equal(one.frames, other.frames)
    assert all(part.delay > 0 and part.seconds > 0 for part in parts)


def test_the_first_window_is_the_pipelines_own(pipe: MTVPipeline) -> None:
    samples = voice(17 / FPS)
    (first,) = LivePuppet(pipe, "a bell", seed=3, steps=1).hear(samples, RATE)
    made = pipe("a bell", speech=(samples, RATE), num_frames=17, num_inference_steps=1, seed=3)
    assert np.array_equal(first.frames, made.video[0])


def test_a_window_begins_with_the_last_frames_and_hears_its_own_sound(pipe: MTVPipeline) -> None:
    samples = voice(2.0)
    _, second = LivePuppet(pipe, "a bell", steps=1).hear(samples, RATE)
    other = samples.copy()
    other[round(17 / FPS * RATE) :] = 0  # what the second window alone hears
    _, changed = LivePuppet(pipe, "a bell", steps=1).hear(other, RATE)
    assert not np.array_equal(second.frames, changed.frames)
    puppet = LivePuppet(pipe, "a bell", steps=1)
    list(puppet.hear(samples[: round(17 / FPS * RATE)], RATE))
    puppet._last = 255 - puppet._last
    (otherwise,) = puppet.hear(samples[round(17 / FPS * RATE) :], RATE)
    assert not np.array_equal(second.frames, otherwise.frames)


def test_memory_is_flat(pipe: MTVPipeline) -> None:
    puppet, kept = LivePuppet(pipe, "a bell", steps=1), []
    for _ in said(puppet, voice(8.0), RATE // 4):
        kept.append((puppet.kept_bytes, len(puppet._came)))
    assert len(kept) == 10 and len(set(kept)) == 1


class Slow:
    """A clock that a window takes forward by `seconds`."""

    def __init__(self, pipe: MTVPipeline, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, sample = 0.0, pipe._sample

        def slow(*arguments: object) -> object:
            self.now += seconds
            return sample(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(pipe, "_sample", slow)

    def __call__(self) -> float:
        return self.now


def test_a_slow_machine_takes_fewer_steps_and_then_leaves_sound_out(pipe, monkeypatch) -> None:
    clock = Slow(pipe, monkeypatch, 1.0)  # a window has .75 s of new frames
    puppet = LivePuppet(pipe, "a bell", steps=2, clock=clock)
    parts = []
    samples = voice(6.0)
    for begin in range(0, len(samples), RATE // 4):
        parts += puppet.hear(samples[begin : begin + RATE // 4], RATE)
    notes = [part.note for part in parts if part.note]
    assert notes == ["1.00 s for 0.75 s of video with 2 steps is too slow: now 1"] and puppet.steps == 1
    assert parts[0].delay == pytest.approx(1.0) and parts[1].seconds == pytest.approx(1.0)
    late = list(puppet.hear(voice(3.0), RATE))  # 3 s at once, of which most are behind
    assert len(late) == 1 and late[0].note == "too slow even with 1 step: 2.2 s of sound are left out"
    assert puppet.left_out == 3 and late[0].start == (len(parts) + 3) * 12 + 5
    quick = LivePuppet(pipe, "a bell", steps=2, clock=lambda: 0.0)
    assert not any(part.note for part in said(quick, voice(4.0), RATE)) and quick.steps == 2


def test_what_does_not_fit_is_refused(pipe: MTVPipeline) -> None:
    puppet = LivePuppet(pipe, "a bell", steps=1)
    list(puppet.hear(voice(0.2), RATE))
    with pytest.raises(UserError, match="came with 16000 Hz and now has 48000 Hz"):
        list(puppet.hear(voice(0.2), 48000))
    with pytest.raises(UserError, match=r"live sound \[2\]: finite samples"):
        list(puppet.hear(np.array([0.0, np.nan], np.float32), RATE))
    with pytest.raises(UserError, match="must be longer"):
        LivePuppet(pipe, "a bell", seconds=0.2)
