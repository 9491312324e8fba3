"""Joint long clips: windows share frames and sound, what is shared stays, and nothing is lost between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny import transformer

from ccl.long_clip import joined
from ccl.pipeline import CCLPipeline
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.encoders import HashedWords
from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def pipe() -> CCLPipeline:
    made = CCLPipeline(
        transformer(), LinearVideoCodec(latent_channels=4), LinearAudioCodec(latent_channels=5, iterations=2),
        HashedWords(dim=12, max_length=4), *(FlowMatchEulerDiscreteScheduler(shift=x) for x in (1.5, 1.2)),
        height=32, width=32,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def test_windows_make_every_frame_and_sample_once(pipe: CCLPipeline) -> None:
    parts = list(pipe.stream(["a bell", "a drum"], num_frames=40, window=17, overlap=9, num_inference_steps=2, seed=3))
    made = joined(parts)
    assert len(parts) == 4 and made.video.shape == (2, 40, 32, 32, 3) and made.audio.shape == (2, 40_000)
    assert np.abs(made.audio).max() <= 1 and made.audio.std() > 0
    first = pipe(["a bell", "a drum"], num_frames=17, num_inference_steps=2, seed=3)
    assert np.array_equal(made.video[:, :17], first.video)
    stays = 8000 + 8960 - 640  # the second begins at 0.5 s and shares 0.5625 s, of which 13 latents of 40 ms stay
    assert np.array_equal(made.audio[:, :stays], first.audio[:, :stays])


def test_what_is_shared_is_given_to_the_next_window(pipe: CCLPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = CCLPipeline.__call__

    def seen(self, *arguments, **options):
        calls.append(options)
        return plain(self, *arguments, **options)

    monkeypatch.setattr(CCLPipeline, "__call__", seen)
    parts = list(pipe.stream("a bell", num_frames=25, window=17, overlap=9, num_inference_steps=1))
    assert "video" not in calls[0] and calls[1]["keep"] == [(0, 9 / 16)] and calls[1]["keep_audio"] == [(0, 0.52)]
    assert np.array_equal(calls[1]["video"], parts[0].video[:, 8:]) and calls[0]["seed"] != calls[1]["seed"]
    sound, rate = calls[1]["audio"]
    assert rate == 16000 and np.array_equal(sound[:, 0, :8320], parts[0].audio[:, 8000:])


def test_windows_meet_without_a_step(pipe: CCLPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two windows of different constant sound: over 40 ms one goes over into the other."""
    plain, levels = CCLPipeline.__call__, iter([-0.5, 0.5])

    def constant(self, *arguments, **options):
        made = plain(self, *arguments, **options)
        made.audio[:] = next(levels)
        return made

    monkeypatch.setattr(CCLPipeline, "__call__", constant)
    made = joined(list(pipe.stream("a bell", num_frames=25, window=17, overlap=9, num_inference_steps=1)))
    assert made.audio[0, 16_000] == -0.5 and made.audio[0, -1] == 0.5
    assert np.abs(np.diff(made.audio[0])).max() < 2 / 640 and (np.diff(made.audio[0]) != 0).sum() > 600


def test_prompts_change_over_the_time_of_the_whole_clip(pipe: CCLPipeline) -> None:
    arguments = {"num_frames": 25, "window": 17, "overlap": 9, "num_inference_steps": 1}
    plain, changed, late = (
        joined(list(pipe.stream(TimedPrompts(times, texts), **arguments)))
        for times, texts in (((0.0,), ("bell",)), ((0.0, 1.2), ("bell", "drum")), ((0.0, 9.0), ("bell", "drum")))
    )
    assert np.array_equal(changed.video[:, :17], plain.video[:, :17])
    assert not np.array_equal(changed.video[:, 17:], plain.video[:, 17:])
    assert np.array_equal(late.video, plain.video) and np.array_equal(late.audio, plain.audio)


def test_one_window_is_the_plain_clip(pipe: CCLPipeline) -> None:
    arguments = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(4), "duration": 13 / 16}
    (made,) = pipe.stream("a bell", **arguments)
    plain = pipe("a bell", **(arguments | {"generator": torch.Generator().manual_seed(4)}))
    assert np.array_equal(made.video, plain.video) and np.array_equal(made.audio, plain.audio)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "how long"),
        ({"num_frames": 25, "audio": "x.wav"}, "audio: a long clip is made of texts and a first image"),
        ({"num_frames": 25, "output_type": "latent"}, "output_type latent"),
        ({"num_frames": 25, "overlap": 8}, "share 8 frames, which fill no whole latents; give 9"),
        ({"num_frames": 40, "overlap": 1, "window": 17}, "share no two latents of sound"),
        ({"num_frames": 25, "num_steps": 2}, "unknown keyword num_steps"),
    ],
)
def test_what_does_not_go_with_windows_is_told(pipe: CCLPipeline, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(pipe.stream("a bell", **{"num_inference_steps": 1} | options))
