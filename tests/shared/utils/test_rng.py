"""Random generators follow from a seed and names alone."""

from __future__ import annotations

import torch

from shared.utils.rng import derive, generator, numpy_generator


def test_a_stream_is_the_same_each_time_and_on_any_machine() -> None:
    assert derive(0, "a", 1) == 2567054096787269053 == derive(0, "a", "1")
    assert numpy_generator(0, "a").random() == numpy_generator(0, "a").random()
    assert torch.equal(torch.randn(3, generator=generator(0, "a")), torch.randn(3, generator=generator(0, "a")))


def test_other_names_and_other_seeds_give_other_streams() -> None:
    seeds = [derive(0, "a"), derive(1, "a"), derive(0, "b"), derive(0, "a", "b"), derive(0, "ab")]
    assert len(set(seeds)) == 5 and all(0 <= seed < 2**63 for seed in seeds)
