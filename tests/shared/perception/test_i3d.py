"""I3D: the published layout, SAME padding, and the smallest video that it takes."""

from __future__ import annotations

import pytest
import torch

from shared.perception.i3d import I3D, SamePool, same_padding

#: Shapes of the public conversion, a few of each kind.
PUBLISHED = {
    "Conv3d_1a_7x7.conv3d.weight": [64, 3, 7, 7, 7],
    "Conv3d_1a_7x7.bn.running_var": [64],
    "Conv3d_2c_3x3.conv3d.weight": [192, 64, 3, 3, 3],
    "Mixed_3b.b1b.conv3d.weight": [128, 96, 3, 3, 3],
    "Mixed_4e.b2a.bn.bias": [32],
    "Mixed_4f.b3b.conv3d.weight": [128, 528, 1, 1, 1],
    "Mixed_5c.b0.conv3d.weight": [384, 832, 1, 1, 1],
    "logits.conv3d.weight": [400, 1024, 1, 1, 1],
    "logits.conv3d.bias": [400],
}


@pytest.fixture(scope="module")
def network() -> I3D:
    torch.manual_seed(0)
    return I3D().eval()


def test_the_layout_is_the_published_one(network: I3D) -> None:
    state = network.state_dict()
    assert {name: list(state[name].shape) for name in PUBLISHED} == PUBLISHED
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264
    assert len(state) == 57 * 6 + 2  # 57 convolutions with a batch norm of five, and the logits


def test_padding_is_same() -> None:
    for length, kernel, stride in ((8, 7, 2), (9, 7, 2), (5, 3, 2), (4, 2, 2), (6, 3, 1)):
        values = torch.ones(1, 1, length, length, length)
        pooled = SamePool((kernel,) * 3, (stride,) * 3)(values)
        assert pooled.shape[-1] == -(-length // stride)
    padded = same_padding(torch.ones(1, 1, 8, 1, 1), (7, 1, 1), (2, 1, 1))[0, 0, :, 0, 0]
    assert padded.tolist() == [0, 0, *[1] * 8, 0, 0, 0]  # the odd one comes after, as in TensorFlow


@torch.inference_mode()
def test_logits_of_the_smallest_video(network: I3D) -> None:
    logits = network(torch.rand(1, 3, 9, 193, 193) * 2 - 1)
    assert logits.shape == (1, 400) and logits.isfinite().all() and logits.std() > 0
