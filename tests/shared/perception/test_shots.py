"""TransNet V2 has the shapes of its weights, and tells of every picture once; with the weights it finds cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.perception.installed import find_weights
from shared.perception.shots import MODEL, Transitions, TransNetV2
from shared.utils.errors import UserError


class Numbers(nn.Module):
    """In place of the network: of a window, the brightness of each picture as a probability."""

    def forward(self, pictures: Tensor) -> Tensor:
        assert pictures.shape == (1, 100, 27, 48, 3) and pictures.dtype == torch.uint8
        return torch.logit(pictures.float().mean((2, 3, 4)) / 255)


@pytest.mark.parametrize("count", [1, 49, 50, 75, 76, 173])
def test_every_picture_is_told_of_once_and_in_order(count: int) -> None:
    film, seen = np.arange(1, count + 1).astype(np.uint8), Transitions(Numbers())
    pictures = np.broadcast_to(film[:, None, None, None], (count, 54, 96, 3))
    found = [value for picture in pictures for value in seen.take(picture)] + seen.rest()
    assert np.array(found) * 255 == pytest.approx(film, abs=1e-3)


def test_the_network_is_that_of_the_weights() -> None:
    torch.manual_seed(0)
    model = TransNetV2().eval()
    assert sum(value.numel() for value in model.parameters()) == 7_616_258
    assert {"SDDCNN.0.DDCNN.1.Conv3D_8.layers.0.weight", "frame_sim_layer.projection.bias"} <= {*model.state_dict()}
    pictures = torch.randint(0, 256, (1, 12, 27, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = model(pictures)
        dark = model(pictures // 2)
    assert found.shape == (1, 12) and not torch.allclose(found, dark)


@pytest.mark.slow
def test_cuts_and_dissolves_are_found() -> None:
    try:
        find_weights(MODEL)
    except UserError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    scenes = [np.kron(rng.integers(0, 255, (9, 16, 3)), np.ones((6, 6, 1))) for _ in range(3)]
    share = np.clip((np.arange(60) - 25) / 10, 0, 1)[:, None, None, None]
    film = np.concatenate([np.repeat(scenes[0][None], 40, 0), scenes[1] * (1 - share) + scenes[2] * share])
    seen = Transitions()
    found = np.array([value for picture in film.astype(np.uint8) for value in seen.take(picture)] + seen.rest())
    assert found[39] > 0.5 and found[66:74].max() > 0.5
    assert (np.delete(found, [38, 39, 40, *range(60, 80)]) < 0.5).all()
