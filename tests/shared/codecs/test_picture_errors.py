"""Errors where they show: pixels that move, and the borders of cells."""

import pytest
import torch

from shared.codecs.picture_errors import border_jumps, decibels, moving_pixels, picture_loss


def test_what_moves_and_what_is_beside_it() -> None:
    video = torch.zeros(1, 3, 3, 8, 8)
    video[:, 1, 1:, 4, 4] = 0.2
    video[:, :, 2, 0, 0] = 0.1  # too little
    moves = moving_pixels(video)
    assert moves.shape == (1, 1, 3, 8, 8)
    assert not moves[:, :, (0, 2)].any()
    assert moves[0, 0, 1].sum() == 9
    assert moves[0, 0, 1, 3:6, 3:6].all()


def test_borders_show_where_cells_differ() -> None:
    cells = torch.rand(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    blocks = cells.repeat_interleave(8, -1).repeat_interleave(8, -2)
    across, inside = border_jumps(blocks, 8)
    assert inside == 0
    assert across > 0.1
    noise = torch.rand(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    across, inside = border_jumps(noise, 8)
    assert across / inside == pytest.approx(1, abs=0.02)


def test_loss_of_a_clip() -> None:
    video = torch.zeros(1, 3, 2, 16, 16)
    video[:, :, 1, 5, 5] = 1
    loss = picture_loss(video, video + 0.5, 8)
    assert decibels(loss.square / loss.pixels) == pytest.approx(10 * torch.log10(torch.tensor(16.0)).item())
    assert loss.moving == 27
    assert loss.moving_square == pytest.approx(0.25 * 27)
    assert (loss.across, loss.inside) == (0, 0)
