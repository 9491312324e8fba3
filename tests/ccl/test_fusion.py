"""The interface behind which the streams of a block read one another, with a fusion of a user's own."""

from __future__ import annotations

import pytest
import torch
from tiny import CONFIG, FRAMES, SIDE, TOKENS, inputs, rotary_arguments, transformer
from torch import Tensor, nn

from ccl.baselines import FUSIONS
from ccl.context_attention import AudioContextAttention, KeyValue, VideoContextAttention
from ccl.fusion import Fusion
from ccl.routing import Task
from ccl.tarp import align
from shared.nn.rope import time_rotary


class MeanAttention(nn.Module):
    """Adds to every token what is learned from the mean of the other stream."""

    def __init__(self, query_dim: int, context_dim: int, heads: int, head_dim: int, context_tokens: int) -> None:
        super().__init__()
        self.to_v = nn.Linear(context_dim, query_dim)

    def key_value(self, y: Tensor) -> KeyValue:
        return y, self.to_v(y.mean(1, keepdim=True))

    def unconditional(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def forward(self, x: Tensor, key_value: KeyValue) -> Tensor:
        return key_value[1].expand_as(x)


class MeanFusion(Fusion):
    directions = {"video": MeanAttention, "audio": MeanAttention}  # noqa: RUF012

    def rotary_arguments(self, alignment, grid, scale):
        return {}, {}


@torch.no_grad()
def test_a_fusion_of_ones_own_needs_a_class_and_a_name(monkeypatch):
    monkeypatch.setitem(FUSIONS, "mean", MeanFusion)
    model, (video, audio) = transformer(fusion="mean"), inputs()
    assert model.config.fusion == "mean" and model.has_unconditional
    own = {name for name, _ in model.blocks[1].fusion.named_parameters()}
    assert own == {f"{stream}.to_v.{kind}" for stream in ("video", "audio") for kind in ("weight", "bias")}
    v = model(Task.T2AV.route, video, audio)[0]
    _, other = inputs("b")
    assert not torch.allclose(model(Task.T2AV.route, video, other)[0], v, atol=1e-3)
    alone = model(Task.T2V.route, video, None)[0]
    assert torch.equal(alone, model.video_stream(video.latents, video.sigma, video.text))
    assert torch.equal(alone, model(Task.T2AV.route.unconditional, video, other)[0])


@pytest.mark.parametrize(
    ("settings", "size"), [({}, 15), ({"window_from": "counts"}, 15), ({"window_from": "rates"}, 18)]
)
def test_ccas_arguments_are_partition_and_time(settings, size):
    """A model that does not say what its window comes from has it from counts."""
    model, given = transformer(cca_time_scale=6.25, **settings), inputs()
    video, audio = rotary_arguments(model, *given)
    expected = align(given[0].clock, given[1].clock, window_from=model.config.window_from)
    assert torch.equal(video["alignment"].window, expected.window)
    assert expected.window.shape == (FRAMES, size)
    assert torch.equal(audio["alignment"].frame, expected.frame)
    dim = CONFIG["cca_head_dim"]
    assert torch.equal(video["rotary"], time_rotary(6.25 * expected.window_offset, dim))
    assert torch.equal(audio["rotary"], time_rotary(6.25 * expected.offset, dim))


@torch.no_grad()
@pytest.mark.parametrize("stream", ["video", "audio"])
def test_a_direction_is_as_wide_as_its_reader_and_reads_the_other(stream):
    fusion = transformer().blocks[0].fusion
    direction, other = (fusion.video, 36) if stream == "video" else (fusion.audio, 48)
    assert type(direction) is (VideoContextAttention if stream == "video" else AudioContextAttention)
    tokens = {"video": FRAMES * (SIDE // 2) ** 2, "audio": TOKENS}
    k, v = direction.key_value(torch.ones(1, 7, other))
    assert k.shape == v.shape == (1, 7, CONFIG["cca_heads"], CONFIG["cca_head_dim"])
    x = torch.ones(1, tokens[stream], 84 - other)
    assert direction.unconditional(x).shape == x.shape
