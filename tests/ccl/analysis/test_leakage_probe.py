"""Leakage of stand-ins for a pipeline whose leakage is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ccl.analysis.leakage_probe import LeakageProbe, choose_partners
from shared.codecs import frames_to_tensor
from shared.data.dataset import Sample
from shared.evaluation.leakage import sounding_region
from shared.puppets.clip import PuppetClip, render_clip, sample_spec


class Follower:
    """a2v whose picture changes by the given sound's level: inside the sounding regions alone, or everywhere."""

    config = SimpleNamespace(fps=16.0)
    audio_codec = SimpleNamespace(sample_rate=16000)

    def __init__(self, region: np.ndarray) -> None:
        self.region, self.calls = region, []  # type: ignore[var-annotated]

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, captions: list[str], audio_captions: list[str], **call: Any) -> SimpleNamespace:
        self.calls.append(call)
        levels = (200 * call["audio"].abs().mean((1, 2))).round().numpy().astype(np.uint8)
        frames = np.zeros((len(captions), 2, 64, 64, 3), np.uint8)
        frames[:, :, self.region] = levels[:, None, None, None]
        return SimpleNamespace(video=frames)


def clips(count: int) -> list[PuppetClip]:
    return [render_clip(sample_spec(41, index)) for index in range(count)]


def sample(clip: PuppetClip, gain: float) -> Sample:
    video, audio = frames_to_tensor(torch.from_numpy(clip.frames)), torch.full((1, 32000), gain)
    return Sample(clip.truth["id"], video, audio, clip.caption, clip.audio_caption, True, True)


def test_partners_are_of_equal_length_and_of_one_mood_if_there_are() -> None:
    truths = [{"mood": mood, "music": True} for mood in ("warm", "cold", "warm", "cold", "warm")]
    assert choose_partners([32, 32, 32, 64, 16], truths) == {0: 2, 1: 2, 2: 0}


def test_who_changes_the_sounding_regions_alone_leaks_nothing() -> None:
    made = clips(2)
    truths = [clip.truth for clip in made]
    samples = [sample(clip, gain) for clip, gain in zip(made, (0.1, 0.5), strict=True)]
    region = sounding_region(truths, (64, 64))
    for where, leaks in ((region, 0.0), (np.ones_like(region), 1.0)):
        pipeline = Follower(where)
        probe = LeakageProbe(pipeline, samples, truths, [0.0, 0.0], {0: 1, 1: 0}, steps=2, batch=2, seed=0)  # type: ignore[arg-type]
        result = probe.leakage("a2v")
        assert result["mean"] == leaks and list(result["per_clip"]) == [one.id for one in samples]
        own, other = pipeline.calls
        assert own["seed"] == other["seed"] and torch.equal(own["audio"], other["audio"].flip(0))
