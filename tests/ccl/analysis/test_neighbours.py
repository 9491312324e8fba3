"""Other models are as large as ours in all that both have, give both streams, and refuse what they cannot be."""

from __future__ import annotations

import pytest
import torch

from ccl.analysis import neighbours
from ccl.analysis.benchmark_options import NEIGHBOURS, Step
from ccl.analysis.roofline import count_work
from ccl.flops import Tokens, costs
from shared.utils.errors import UserError

TEXT = 5


def size(grid=(3, 4, 4), audio=13, **changes) -> tuple[dict, neighbours.Size]:
    config = Step(width=64, head_dim=16, layers=2, **changes).config()
    return config, neighbours.Size(config, grid, audio, TEXT, batch=2)


@torch.no_grad()
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_both_streams_come_out_as_they_went_in(name):
    _, of = size(audio_width=32)
    _, forward = neighbours.neighbour(name, of, "cpu")
    video, audio = forward()
    assert video.numel() == 2 * of.tokens.video * of.video.patch_values and audio.numel() == 2 * 13 * 64
    assert video.isfinite().all() and audio.isfinite().all()


@torch.no_grad()
def test_two_wans_are_our_towers_without_what_joins_them():
    config, of = size()
    towers, forward = neighbours.neighbour("wan", of, "cpu")
    ours = costs(config, Tokens(3, 16, 13, TEXT))
    assert sum(p.numel() for p in towers.parameters()) == ours.parameters - ours.cross_modal_parameters
    counted = count_work(forward).flops / 2
    assert counted == pytest.approx(ours.flops - ours.cross_modal_flops, rel=0.05)  # ours has a noise level per frame


@torch.no_grad()
@pytest.mark.parametrize("name", ["ltx2", "kandinsky6"])
def test_the_others_compute_what_our_towers_do_and_join_at_least_as_much(name):
    config, of = size()
    _, forward = neighbours.neighbour(name, of, "cpu")
    ours = costs(config, Tokens(3, 16, 13, TEXT))
    assert 1 < count_work(forward).flops / 2 / (ours.flops - ours.cross_modal_flops) < 1.6


def test_what_a_model_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"ltx2: its feed-forward parts are 4 times"):
        neighbours.neighbour("ltx2", size(ffn=2)[1], "cpu")
    with pytest.raises(UserError, match="kandinsky6: its positions end at 128"):
        neighbours.neighbour("kandinsky6", size(grid=(129, 1, 1))[1], "cpu")
