"""Clips drawn without a file: those that make_puppets.py draws, of all levels."""

import pytest
import torch

from shared.codecs import tensor_to_frames
from shared.puppets.clip import render_clip
from shared.puppets.drawn import DrawnClips
from shared.puppets.script import sample_spec


def test_levels_in_turn() -> None:
    clips = DrawnClips(6, 3, (64, 64))
    assert len(clips) == 6
    for number, level in enumerate(("simple", "full")):
        drawn, clip = clips[number + 3], render_clip(sample_spec(3, 1, level))
        assert torch.equal(tensor_to_frames(drawn.video), torch.from_numpy(clip.frames))
        assert torch.equal(drawn.audio[0], torch.from_numpy(clip.mix))
    assert clips[2].video.shape[0] == 3
    assert DrawnClips(1, 3, (64, 64), ("shows",))[0].video.shape == clips[2].video.shape
    with pytest.raises(IndexError):
        clips[6]


def test_a_level_that_comes_twice_has_other_clips() -> None:
    clips = DrawnClips(8, 3, (32, 32), ("simple", "full", "simple", "shows"))
    alone = DrawnClips(4, 3, (32, 32), ("simple",))
    for number, index in ((0, 0), (2, 1), (4, 2), (6, 3)):
        assert torch.equal(clips[number].video, alone[index].video)
