"""SyncNet (Chung and Zisserman 2016, "Out of time"): five frames of a face and 0.2 s of sound in one space, in which
what was said together is near.

Names and shapes of its weights are those of the public `syncnet_v2.model`: `netcnnaud.0.weight`, ...,
`netcnnlip.19.bias`; 13,631,616 parameters. Its inputs are OpenCV's pictures (blue first, 0 to 255) and the
coefficients of the package python_speech_features on 16-bit samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn import functional

from shared.perception.weights import load_weights
from shared.utils.fingerprint import weights_fingerprint

Array = NDArray[np.float64]

FPS, RATE, SIDE = 25, 16000, 224
WINDOW, STEPS, STEPS_PER_FRAME = 5, 20, 4  # frames of a face, steps of 10 ms of its sound, steps in a frame
SHIFTS = 15
"""Frames by which the sound is moved either way."""
FRAME, HOP, FFT = 400, 160, 512  # samples
BANDS, COEFFICIENTS, LIFTER, EMPHASIS = 26, 13, 22, 0.97


def mel_filters() -> Array:
    """Triangles over whole bins of the spectrum, evenly spaced in mels from 0 Hz to half the rate, [BANDS, 257]."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = np.floor((FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE)
    low, centre, high = (edges[at : at + BANDS, None] for at in range(3))
    bins = np.arange(FFT // 2 + 1)
    rises, falls = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.where(bins < centre, np.maximum(rises, 0), np.maximum(falls, 0))


def cepstrum(sound: NDArray[np.float32]) -> Array:
    """Mel cepstrum of sound [N] in [-1, 1] every 10 ms, [T, 13]: of 16-bit samples, no window, orthonormal DCT,
    liftered, the first coefficient replaced by the log energy; the end is filled up with zeros."""
    samples = np.clip(np.round(sound.astype(np.float64) * 32768), -32768, 32767)
    samples = np.append(samples[:1], samples[1:] - EMPHASIS * samples[:-1])
    count = 1 + max(0, -(-(len(samples) - FRAME) // HOP))
    padded = np.pad(samples, (0, (count - 1) * HOP + FRAME - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2 / FFT
    energy, bands = power.sum(1), power @ mel_filters().T
    least = np.finfo(float).eps
    values = dct(np.log(np.where(bands == 0, least, bands)), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    values *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    values[:, 0] = np.log(np.where(energy == 0, least, energy))
    result: Array = values
    return result


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Two networks that embed in one space: `sound` [B, 1, 13, 20] and `face` [B, 3, 5, 224, 224] -> [B, 1024]."""

    def __init__(self) -> None:
        super().__init__()
        sounds: list[nn.Module] = []
        inputs = 1
        for width, kernel, padding, pool in (
            (64, (3, 3), 1, nn.MaxPool2d(1)),
            (192, (3, 3), 1, nn.MaxPool2d(3, (1, 2))),
            (384, (3, 3), 1, None),
            (256, (3, 3), 1, None),
            (256, (3, 3), 1, nn.MaxPool2d(3, 2)),
            (512, (5, 4), 0, None),
        ):
            sounds += [nn.Conv2d(inputs, width, kernel, padding=padding), nn.BatchNorm2d(width), nn.ReLU()]
            sounds += [pool] if pool else []
            inputs = width
        faces: list[nn.Module] = []
        inputs = 3
        for width, size, stride, padding, pool_padding in (
            (96, (5, 7, 7), 2, 0, 0),
            (256, (1, 5, 5), 2, 1, 1),
            (256, (1, 3, 3), 1, 1, None),
            (256, (1, 3, 3), 1, 1, None),
            (256, (1, 3, 3), 1, 1, 0),
            (512, (1, 6, 6), 1, 0, None),
        ):
            convolution = nn.Conv3d(inputs, width, size, (1, stride, stride), (0, padding, padding))
            faces += [convolution, nn.BatchNorm3d(width), nn.ReLU()]
            if pool_padding is not None:
                faces += [nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, pool_padding, pool_padding))]
            inputs = width
        self.netcnnaud, self.netfcaud, self.netfclip = nn.Sequential(*sounds), _head(), _head()
        self.netcnnlip = nn.Sequential(*faces)

    def sound(self, values: Tensor) -> Tensor:
        return self.netfcaud(self.netcnnaud(values).flatten(1))

    def face(self, values: Tensor) -> Tensor:
        return self.netfclip(self.netcnnlip(values).flatten(1))


def mean_distances(faces: Tensor, sounds: Tensor) -> Array:
    """Mean distance of faces [T, D] from the sounds [T, D] that come k - SHIFTS frames later, [2 SHIFTS + 1]; before
    and after the sound there are zeros, as published."""
    around = functional.pad(sounds, (0, 0, SHIFTS, SHIFTS))
    count = len(faces)
    each = [functional.pairwise_distance(faces, around[k : k + count]).mean() for k in range(2 * SHIFTS + 1)]
    return torch.stack(each).double().cpu().numpy()


class SyncNetDistances:
    """Distances of a face's frames from the sound at every shift."""

    def __init__(self, model: SyncNet, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.device, self.batch = model.to(device).eval(), device, batch
        #: What metrics keep of a clip, so that several of them read it once.
        self.of_clips: WeakKeyDictionary[Any, dict[Any, tuple[str, list[Array]]]] = WeakKeyDictionary()

    @classmethod
    def load(cls, path: Path, device: str = "cpu", batch: int = 16) -> SyncNetDistances:
        """Load the weights in a safetensors file. UserError as `load_weights`."""
        return cls(load_weights(SyncNet(), path), device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to pictures and sound."""
        return {
            "fps": FPS, "rate": RATE, "size": [SIDE, SIDE], "range": [0, 255], "channels": "BGR", "window": WINDOW,
            "cepstrum": [FRAME, HOP, FFT, BANDS, COEFFICIENTS, LIFTER, EMPHASIS], "shifts": SHIFTS,
            "beyond_the_sound": "zeros",
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.uint8], sound: NDArray[np.float32]) -> Array:
        """Mean distances at shifts of -15 to 15 frames, [31], of crops uint8 [T, 224, 224, 3] (red first) at 25 frames
        per second and their sound [N] at 16 kHz; the shorter of both counts. ValueError below six frames of both."""
        count = min(len(crops), len(sound) * FPS // RATE) - WINDOW  # one window is left out, as published
        if count < 1:
            raise ValueError(f"{count + WINDOW} frames of face and sound; {WINDOW + 1} are needed")
        pictures = torch.from_numpy(np.ascontiguousarray(crops[..., ::-1])).permute(3, 0, 1, 2)
        steps = torch.from_numpy(cepstrum(sound)).float().T
        faces, sounds = [], []
        for start in range(0, count, self.batch):
            places = range(start, min(start + self.batch, count))
            seen = torch.stack([pictures[:, at : at + WINDOW] for at in places]).to(self.device).float()
            heard = torch.stack([steps[:, STEPS_PER_FRAME * at :][:, :STEPS] for at in places])[:, None]
            faces.append(self.model.face(seen))
            sounds.append(self.model.sound(heard.to(self.device)))
        return mean_distances(torch.cat(faces), torch.cat(sounds))
