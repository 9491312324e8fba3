"""Pictures, videos and sounds in the forms that people have them in: one meaning, and one line for what has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data.in_memory import as_image, as_sound, as_video, seconds_of_sound, seconds_of_video
from shared.utils.errors import UserError

SIZE = (16, 32)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
TENSOR = torch.from_numpy(PICTURE).permute(2, 0, 1).float() / 127.5 - 1


def test_pictures() -> None:
    for form in (PICTURE, PICTURE[None], Image.fromarray(PICTURE), TENSOR, TENSOR[None], [PICTURE]):
        torch.testing.assert_close(as_image(form, SIZE), TENSOR[None], atol=1e-6, rtol=0)
    torch.testing.assert_close(as_image(PICTURE / 255.0, SIZE), TENSOR[None], atol=1e-6, rtol=0)
    assert as_image([PICTURE, Image.fromarray(PICTURE[:, ::-1])], SIZE).shape == (2, 3, *SIZE)
    assert as_image(Image.fromarray(PICTURE).convert("L").resize((64, 64)), SIZE).shape == (1, 3, *SIZE)


def test_videos() -> None:
    clip = RNG.integers(0, 256, (5, *SIZE, 3), np.uint8)
    expected = as_video(clip, 16, SIZE, None)
    assert expected.shape == (1, 3, 5, *SIZE)
    for form in ([Image.fromarray(one) for one in clip], clip[None], expected, expected[0], clip / np.float32(255)):
        torch.testing.assert_close(as_video(form, 16, SIZE, None), expected, atol=1e-6, rtol=0)
        assert seconds_of_video(form, 16) == 5 / 16


def test_sounds() -> None:
    samples = (0.1 * RNG.standard_normal(8000)).astype(np.float32)
    for form in (
        (samples, 16000),
        (samples[None], 16000),
        (list(samples), 16000),
        torch.from_numpy(samples)[None, None],
    ):
        assert torch.equal(as_sound(form, 16000), torch.from_numpy(samples)[None, None])
        assert seconds_of_sound(form, 16000) == 0.5
    assert as_sound((samples, 8000), 16000).shape == (1, 1, 16000)
    assert as_sound((np.stack([samples, samples])[:, None], 16000), 16000).shape == (2, 1, 8000)


@pytest.mark.parametrize(
    ("read", "given", "told"),
    [
        (as_image, PICTURE.astype(np.int32), "an array of int32"),
        (as_image, PICTURE.astype(np.uint16), "an array of uint16"),
        (as_image, PICTURE[..., :2], "an array of uint8 1x16x32x2"),
        (as_image, PICTURE / 100.0, "floats outside"),
        (as_image, np.full((4, 4, 3), np.nan), "floats outside"),
        (as_image, TENSOR[:2], "a tensor of 2x16x32"),
        (as_image, TENSOR.byte(), "a tensor of torch.uint8"),
        (as_image, None, "a NoneType"),
    ],
)
def test_pictures_that_are_none(read, given, told) -> None:
    with pytest.raises(UserError, match=f"image: {told}"):
        read(given, SIZE)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (PICTURE, r"an array of uint8 1x16x32x3; \[T, H, W, 3\]"),
        ([], "give a file, a list of PIL pictures"),
        ([3, 4], "give a file, a list of PIL pictures"),
        (TENSOR, r"a tensor of 3x16x32; \[3, T, H, W\]"),
    ],
)
def test_videos_that_are_none(given, told) -> None:
    with pytest.raises(UserError, match=f"video: {told}"):
        as_video(given, 16, SIZE, None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros(9), "give a file, or samples with their rate"),
        ((np.zeros((2, 9)), 8000), r"samples of 2x9 at 8000 Hz"),
        ((np.zeros(9), 0), "samples of 9 at 0 Hz"),
        ((np.full(9, np.inf), 8000), "NaN or infinity"),
        (torch.zeros(9), r"a tensor of 9; \[B, 1, N\] at 16000 Hz"),
    ],
)
def test_sounds_that_are_none(given, told) -> None:
    with pytest.raises(UserError, match=f"audio: {told}"):
        as_sound(given, 16000)
