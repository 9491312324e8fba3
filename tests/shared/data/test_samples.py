"""Decoded sound as float samples, whatever its format and rate; tests of reading are in test_media.py."""

from __future__ import annotations

import av
import numpy as np
import pytest

from shared.data.samples import float_samples, resample


@pytest.mark.parametrize(
    ("form", "values", "expected"),
    [
        ("s16", [-32768, 0, 16384], [-1.0, 0.0, 0.5]),
        ("s32", [-(2**31), 0, 2**30], [-1.0, 0.0, 0.5]),
        ("u8", [0, 128, 192], [-1.0, 0.0, 0.5]),
        ("flt", [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
        ("dbl", [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
    ],
)
def test_sample_formats_have_one_scale(form: str, values: list[float], expected: list[float]) -> None:
    kind = {"s16": np.int16, "s32": np.int32, "u8": np.uint8, "flt": np.float32, "dbl": np.float64}[form]
    packed = np.repeat(np.array(values, kind), 2)[None]  # left and right are equal
    planar = np.repeat(np.array(values, kind)[None], 2, 0)
    for array, layout in ((packed, form), (planar, f"{form}p")):
        found = float_samples(av.AudioFrame.from_ndarray(array, layout, "stereo"))
        assert found.dtype == np.float32 and found.tolist() == [expected, expected]


def test_resampling_keeps_the_length_in_seconds_and_every_channel() -> None:
    time = np.arange(48000) / 48000
    sound = np.stack([0.5 * np.sin(2 * np.pi * pitch * time) for pitch in (200, 300, 400)]).astype(np.float32)
    found = resample(sound, 48000, 16000)
    assert found.shape == (3, 16000)
    assert np.abs(found - sound[:, ::3])[:, 200:-200].max() < 0.002
    assert resample(sound, 48000, 48000) is sound
