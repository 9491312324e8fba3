"""Given parts: an embedding that adds nothing at first, tracks from files and arrays, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import AUDIO, CONFIG, inputs, noise, transformer
from torch import nn

from ccl.parts import GivenPart, PartEmbedding, draw_track, read_track
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.data.media_write import write_audio
from shared.utils.errors import UserError

BOTH = ["speech", "effects"]
PART = GivenPart(noise("part", 2, *AUDIO), torch.tensor([0, 1]))


def with_part(audio: StreamInput, part: GivenPart | None = PART) -> StreamInput:
    return StreamInput(audio.latents, audio.sigma, audio.text, audio.clock, part)


def test_a_new_embedding_changes_nothing_and_learns_at_once():
    torch.manual_seed(0)
    model = DualStreamTransformer(**CONFIG, parts=BOTH).eval()
    torch.manual_seed(0)
    plain = DualStreamTransformer(**CONFIG).eval()
    assert {name for name in model.state_dict() if name not in plain.state_dict()} == {
        "part_embedding.patch.weight", "part_embedding.track.weight",
    }  # fmt: skip
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for one in (model, plain):
        nn.init.normal_(one.audio_stream.proj_out.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    video, audio = inputs()
    given = model(Task.PART.route, video, with_part(audio))
    without = plain(Task.T2AV.route, video, audio)
    assert all(torch.equal(*pair) for pair in zip(given, without, strict=True))
    given[1].square().mean().backward()
    assert all(parameter.grad.any() for parameter in model.part_embedding.parameters())


def test_a_trained_embedding_acts_on_task_part_alone():
    model = transformer(parts=BOTH)
    video, audio = inputs()
    with torch.no_grad():
        plain, given = (model(Task.T2AV.route, video, one)[1] for one in (audio, with_part(audio)))
        other = model(Task.T2AV.route, video, with_part(audio, GivenPart(PART.latents, torch.tensor([1, 1]))))[1]
    assert not torch.allclose(plain, given, atol=1e-3)
    assert not torch.allclose(other[0], given[0], atol=1e-3)  # which track it is
    torch.testing.assert_close(other[1], given[1], rtol=0, atol=1e-6)
    assert torch.equal(model(Task.T2AV.route, video, audio)[1], plain)


def test_a_model_without_parts_takes_none():
    video, audio = inputs()
    with pytest.raises(ValueError, match="a model without parts"):
        transformer()(Task.PART.route, video, with_part(audio))


@pytest.mark.parametrize(("parts", "message"), [(["music"], "'music'"), (["speech", "speech"], "twice")])
def test_parts_that_are_none_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        PartEmbedding(4, 8, parts)


def test_a_folder_says_its_parts(tmp_path):
    transformer(parts=["effects"]).save_pretrained(tmp_path)
    loaded = DualStreamTransformer.from_pretrained(tmp_path)
    assert list(loaded.config.parts) == ["effects"] and loaded.part_embedding.track.weight.shape[0] == 1


def test_tracks_are_drawn_by_clip_and_step_from_those_there():
    drawn = [draw_track(0, 3, f"clip{i}", BOTH) for i in range(200)]
    assert 70 < drawn.count("speech") < 130 and drawn[5] == draw_track(0, 3, "clip5", BOTH)
    assert {draw_track(0, step, "clip0", BOTH) for step in range(20)} == set(BOTH)
    assert draw_track(0, 3, "clip0", ["effects"]) == "effects"


def wave(count: int = 8000) -> np.ndarray:
    return (0.3 * np.sin(np.arange(count) / 7)).astype(np.float32)


def test_a_track_is_a_file_or_samples_of_any_rate(tmp_path):
    write_audio(tmp_path / "speech.wav", wave()[None], 8000)
    read = read_track(tmp_path / "speech.wav", 16000, "given_speech")
    assert read.shape == (1, 1, 16000)
    for given in (wave(), wave()[None], torch.from_numpy(wave())[None, None]):
        assert torch.allclose(read_track((given, 8000), 16000, "given_speech"), read, atol=1e-3)
    same = read_track((np.stack([wave(), wave()[::-1]])[:, None], 16000), 16000, "given_speech")
    assert torch.equal(same[0, 0], torch.from_numpy(wave())) and same.shape == (2, 1, 8000)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros(8000), 8000), "given_speech: its sound is silent"),
        ((np.stack([wave(), 0 * wave()])[:, None], 8000), "given_speech: its sound is silent"),
        ((np.stack([wave(), wave()]), 8000), "given_speech: samples of 2x8000 at 8000 Hz"),
        ((np.zeros(0), 8000), "samples of 0 at 8000 Hz"),
        ((wave(), 0), "at 0 Hz"),
        ((np.full(100, np.nan), 8000), "NaN or infinity"),
        (wave(), "give a file, or samples with their rate"),
        (3, "give a file, or samples with their rate"),
        ("nowhere.wav", "nowhere.wav"),
    ],
)
def test_a_track_that_is_none_is_refused_in_one_line(given, message):
    with pytest.raises(UserError, match=message):
        read_track(given, 16000, "given_speech")
