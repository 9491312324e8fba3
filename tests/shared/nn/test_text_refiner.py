"""The text refiner: it begins as nothing, lets words meet, and leaves padding alone."""

from __future__ import annotations

import pytest
import torch

from shared.nn.dit import DiTStream, StreamConfig
from shared.nn.text_refiner import MOST_TOKENS, TextRefiner
from tests.shared.nn.test_dit import SIZES, randomise


def text(*lengths: int) -> torch.Tensor:
    tokens = torch.randn(len(lengths), 6, 12, generator=torch.Generator().manual_seed(0))
    return tokens * (torch.arange(6) < torch.tensor(lengths)[:, None])[..., None]


@torch.no_grad()
def test_begins_as_nothing_and_learns() -> None:
    refiner, given = TextRefiner(12, 2, 3), text(4, 6)
    assert torch.equal(refiner(given), given)
    with torch.enable_grad():
        refiner(given).square().sum().backward()
    assert all(
        block.attn1.to_out[0].weight.grad.any() and block.ff.net[-1].weight.grad.any() for block in refiner.blocks
    )


@torch.no_grad()
def test_words_meet_and_padding_does_not() -> None:
    refiner, given = TextRefiner(12, 2, 3), text(4, 6)
    randomise(refiner)
    refined = refiner(given)
    assert not refined[0, 4:].any() and refined[0, :4].any(-1).all()
    torch.testing.assert_close(refiner(given[:1, :4]), refined[:1, :4], rtol=0, atol=1e-6)  # shorter: no padding
    other = given.clone()
    other[0, 3] *= -1
    assert (refiner(other)[0, :3] - refined[0, :3]).abs().amax(-1).min() > 1e-4
    assert torch.equal(refiner(other)[1], refined[1])
    swapped = refiner(given[:, [1, 0, 2, 3, 4, 5]])
    assert (swapped[:, 2:4] - refined[:, 2:4]).abs().max() > 1e-4  # their order counts


@torch.no_grad()
def test_a_stream_with_one_reads_refined_text() -> None:
    torch.manual_seed(0)
    refined = DiTStream(StreamConfig(**SIZES, text_layers=1, text_heads=3)).eval()
    plain = DiTStream(StreamConfig(**SIZES)).eval()
    randomise(refined.text_refiner)
    latents, sigma = torch.randn(2, 4, 3, 8, 4), torch.tensor([0.25, 0.9])
    for parameter in (refined.proj_out.weight,):
        torch.nn.init.normal_(parameter)
    missing = plain.load_state_dict(refined.state_dict(), strict=False)
    assert not missing.missing_keys and all(name.startswith("text_refiner.") for name in missing.unexpected_keys)
    expected = plain(latents, sigma, refined.text_refiner(text(4, 6)))
    torch.testing.assert_close(refined(latents, sigma, text(4, 6)), expected)
    assert (expected - plain(latents, sigma, text(4, 6))).abs().max() > 1e-4


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="text_heads 5 must divide text_dim 12"):
        StreamConfig(**SIZES, text_layers=1, text_heads=5)
    with pytest.raises(ValueError, match=f"a text of {MOST_TOKENS + 1} tokens"):
        TextRefiner(12, 1, 3)(torch.ones(1, MOST_TOKENS + 1, 12))
