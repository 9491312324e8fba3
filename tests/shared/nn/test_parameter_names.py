"""Whose a parameter is: names of a stream, of a joint model, and back."""

from __future__ import annotations

import pytest
from tiny import transformer

from shared.nn.dit import DiTStream
from shared.nn.parameter_names import joint_name, part_of, stream_name


@pytest.mark.parametrize("stream", ["video", "audio"])
def test_every_parameter_of_a_stream_has_its_name_in_the_joint_model_and_back(stream):
    model = transformer()
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    own = DiTStream(getattr(model, f"{stream}_stream").config).state_dict()
    names = {joint_name(stream, name): name for name in own}
    assert {name: own[mine].shape for name, mine in names.items()} == {
        name: shape for name, shape in shapes.items() if part_of(name) == f"{stream}_stream"
    }
    assert all(stream_name(name) == (stream, mine) for name, mine in names.items())


def test_what_joins_the_streams_is_of_neither():
    parts = {name: part_of(name) for name, _ in transformer().named_parameters()}
    assert set(parts.values()) == {"video_stream", "audio_stream", "fusion"}
    assert all((stream_name(name) is None) == (part == "fusion") for name, part in parts.items())


def test_other_models_have_their_outermost_modules():
    assert part_of("blocks.3.attn1.to_q.weight") == "blocks" and part_of("proj_out.bias") == "proj_out"
    assert stream_name("blocks.3.attn1.to_q.weight") is None
