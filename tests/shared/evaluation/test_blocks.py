"""Blockiness and sharpness, against the truth and against blur, noise, and blocks that do not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.blocks import block_scores, gradients
from shared.evaluation.fakes import blurred, shuffled_blocks
from shared.puppets.clip import render_clip, sample_spec
from shared.puppets.regions import regions
from shared.puppets.sound import mouth_opening

SPEC = next(
    s for s in (sample_spec(32, i) for i in range(99)) if s.props and s.props[0].kind == "ball" and s.characters
)
CLIP = render_clip(SPEC)
MASKS = regions(SPEC, [mouth_opening(SPEC, character) for character in SPEC.characters])


def scores(frames: np.ndarray, cell: tuple[int, int] = (8, 8)) -> dict[str, float]:
    pairs = block_scores(frames, CLIP.frames, MASKS, cell)
    return {name: above / below for name, (above, below) in pairs.items()}


@pytest.mark.parametrize("cell", [(8, 8), (16, 8), (5, 7)])
def test_cells_of_any_size_are_found_by_their_own_size(cell: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    height, width = cell
    levels = rng.integers(0, 200, (4, 64 // height + 1, 64 // width + 1, 3))
    flat = levels.repeat(height, 1).repeat(width, 2)[:, :64, :64] + rng.integers(0, 8, (4, 64, 64, 3))
    everywhere, frames = np.ones((4, 64, 64), bool), flat.astype(np.uint8)
    assert gradients(frames, everywhere, cell).blockiness > 10
    assert gradients(frames, everywhere, (height + 1, width + 2)).blockiness < 2
    assert gradients(frames, np.zeros_like(everywhere), cell).blockiness != 0  # nan: nothing to be measured


def test_truth_shows_no_borders_and_is_sharp() -> None:
    assert set(scores(CLIP.frames).values()) == {1.0}


@pytest.mark.parametrize("region", ["objects", "people", "rest"])
def test_shuffled_blocks_show_in_every_region(region: str) -> None:
    made, _ = shuffled_blocks(SPEC, CLIP.frames, CLIP.mix)
    assert sorted(made.ravel()) == sorted(CLIP.frames.ravel())
    assert scores(made)[f"blockiness_{region}"] > 5


def test_blur_does_not_pass_for_smoothness() -> None:
    found = scores(blurred(SPEC, CLIP.frames, CLIP.mix)[0])
    assert found["blockiness_people"] < 1.1 and found["sharpness_people"] < 0.4 and found["sharpness_objects"] < 0.4
    assert found["energy_people"] == pytest.approx(found["sharpness_people"])


def test_noise_does_not_pass_for_sharpness() -> None:
    noise = np.random.default_rng(0).normal(0, 25, CLIP.frames.shape)
    made = np.clip(CLIP.frames + noise, 0, 255).astype(np.uint8)
    assert scores(made)["sharpness_people"] < 0.8 and scores(made)["sharpness_rest"] < 0.1
    assert scores(made)["energy_people"] == pytest.approx(1 / scores(made)["sharpness_people"])


def test_a_flat_picture_is_neither_blocky_nor_sharp_and_a_mosaic_is_both_found_out() -> None:
    assert scores(np.full_like(CLIP.frames, 99))["sharpness_rest"] == 0
    mosaic = CLIP.frames[:, 4::8, 4::8].repeat(8, 1).repeat(8, 2)
    assert scores(mosaic)["blockiness_objects"] > 2 and scores(mosaic)["sharpness_objects"] == 0
