"""What is given to a pipeline decides its task, and must have a use there."""

from __future__ import annotations

import pytest
import torch
from tiny import noise

from ccl.given import Given, with_first
from ccl.routing import Task
from ccl.sampler import Clean
from shared.utils.errors import UserError

SOUND, VIDEO, SPANS = torch.zeros(1, 1, 10), torch.zeros(1, 3, 4, 8, 8), [(0.0, 1.0)]


@pytest.mark.parametrize(
    ("given", "task"),
    [
        (Given(), Task.T2AV),
        (Given(audio=SOUND), Task.A2V),
        (Given(video=VIDEO), Task.V2A),
        (Given(video=VIDEO, keep=SPANS), Task.T2AV),
        (Given(audio=SOUND, keep_audio=SPANS), Task.T2AV),
        (Given(audio=SOUND, video=VIDEO, keep=SPANS), Task.T2AV),
        (Given(speech="x.wav"), Task.PART),
        (Given(effects="x.wav", video=VIDEO, keep=SPANS), Task.PART),
    ],
)
def test_auto_goes_by_what_is_given(given, task):
    assert given.task("auto") is task


@pytest.mark.parametrize(
    ("task", "given", "kept"),
    [
        ("t2av", Given(video=VIDEO, audio=SOUND, keep=SPANS), {"video", "audio"}),
        ("t2av", Given(video=VIDEO, audio=SOUND, keep=SPANS, keep_audio=[(1.0, 2.0)]), {"video", "audio"}),
        ("t2v", Given(video=VIDEO, keep=SPANS), {"video"}),
        ("t2a", Given(audio=SOUND, keep=SPANS), {"audio"}),
        ("a2v", Given(video=VIDEO, audio=SOUND, keep=SPANS), {"video"}),  # the sound is whole
        ("v2a", Given(video=VIDEO, audio=SOUND, keep_audio=SPANS), {"audio"}),
    ],
)
def test_spans_are_those_of_streams_that_are_made(task, given, kept):
    assert set(given.kept(given.task(task))) == kept
    if given.keep_audio and given.keep:
        assert given.kept(Task.T2AV)["audio"] == [(1.0, 2.0)]


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("t2av", Given(keep=SPANS), "keep: task t2av makes no stream of which a part is given"),
        ("a2v", Given(audio=SOUND, keep=SPANS), "keep: task a2v makes no stream"),
        ("t2av", Given(video=VIDEO, keep=SPANS, keep_audio=SPANS), "keep_audio: task t2av makes no sound"),
        ("t2av", Given(audio=SOUND, keep=SPANS, keep_audio=SPANS), "keep: task t2av makes no stream"),
        ("t2av", Given(video=VIDEO, audio=SOUND, keep_audio=SPANS), "does not read a given video"),
        ("t2v", Given(video=VIDEO, audio=SOUND, keep=SPANS), "does not read a given audio"),
        ("v2a", Given(video=VIDEO, keep=SPANS), "keep: task v2a makes no stream"),
        ("auto", Given(video=VIDEO, audio=SOUND), "nothing is left to make"),
        ("auto", Given(speech="a", effects="b"), "given_speech and given_effects"),
        ("t2av", Given(speech="a"), "task t2av has no use for a given track"),
        ("part", Given(), "task part needs a given track"),
        ("part", Given(speech="a", audio=SOUND), "task part does not read a given audio"),
    ],
)
def test_what_has_no_use_is_refused(task, given, message):
    with pytest.raises(UserError, match=message):
        given.task(task)


def test_an_image_is_the_first_clean_latent_beside_kept_ones():
    first, others = noise("first", 1, 4, 1, 4, 4), noise("others", 1, 4, 3, 4, 4)
    alone = with_first(first, None, 3)
    assert alone.mask.tolist() == [True, False, False] and torch.equal(alone.latents[:, :, :1], first)
    beside = with_first(first, Clean(others, torch.tensor([False, False, True])), 3)
    assert beside.mask.tolist() == [True, False, True]
    assert torch.equal(beside.latents, torch.cat([first, others[:, :, 1:]], dim=2))
    with pytest.raises(UserError, match="image and keep both give the first frame"):
        with_first(first, Clean(others, torch.tensor([True, False, False])), 3)
