"""Kinds of sound: YAMNet's 521 classes of AudioSet (Apache-2.0), quantised to eight bits."""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from shared.perception.installed import find_weights, onnx_session, weights_fingerprint
from shared.utils.mel import hann

Array = NDArray[np.float64]
Sound = NDArray[np.float32]

RATE = 16000
MODEL = "yamnet"
WINDOW, HOP, N_FFT, MELS, BAND = 400, 160, 512, 64, (125.0, 7500.0)
"""Samples of a spectrum, and between two; its size; mel bands, and their range in Hz."""
PATCH, PATCH_HOP = 96, 48
"""Spectra of one patch, 0.96 s, and between two."""
INPUT, OUTPUT = (0.047937885, 144), (0.7565417, 190)
"""Scale and zero of the network's eight-bit input, and of the logits that it returns."""


class Tag(NamedTuple):
    """A class of AudioSet and its probability."""

    name: str
    probability: float


def tag(sound: Sound, most: int = 5) -> list[Tag]:
    """Name what is heard in mono `sound` [N] at RATE: the `most` probable classes, the mean over patches."""
    mean = class_probabilities(sound).mean(0)
    best = np.argsort(-mean, kind="stable")[:most]
    return [Tag(class_names()[i], float(mean[i])) for i in best]


def class_probabilities(sound: Sound) -> Array:
    """Probability of each class in each patch of mono `sound` [N] at RATE: [patches, 521]. Sound shorter than a patch
    is followed by silence. UserError where onnxruntime or the weights are missing."""
    session = onnx_session(find_weights(MODEL), "naming sounds")
    quantised = np.clip(np.round(patches(sound) / INPUT[0] + INPUT[1]), 0, 255).astype(np.uint8)
    logits = [session.run(None, {"audio": patch[None, None]})[0][0] for patch in quantised]
    values = OUTPUT[0] * (np.array(logits, np.float64) - OUTPUT[1])
    probabilities: Array = 1 / (1 + np.exp(-values))
    return probabilities


def patches(sound: Sound) -> NDArray[np.float32]:
    """Log-mel patches [patches, PATCH, MELS] of the magnitude spectra of mono `sound` [N]."""
    least = (PATCH - 1) * HOP + N_FFT
    values = torch.from_numpy(np.pad(np.asarray(sound, np.float32), (0, max(0, least - len(sound)))))
    window = hann(WINDOW, values.device)
    spectrum = torch.stft(values, N_FFT, HOP, WINDOW, window, center=False, return_complex=True).abs()
    level = torch.log(_mels().T @ spectrum + 1e-3)
    result: NDArray[np.float32] = level.T.unfold(0, PATCH, PATCH_HOP).transpose(1, 2).contiguous().numpy()
    return result


@cache
def class_names() -> tuple[str, ...]:
    """Names of the classes, in order."""
    with find_weights(MODEL).with_name("yamnet_class_map.csv").open(encoding="utf-8", newline="") as rows:
        return tuple(row["display_name"] for row in csv.DictReader(rows))


def sounds_fingerprint() -> str:
    """Hash of the network and of the list of its classes."""
    return weights_fingerprint(MODEL)


@cache
def _mels() -> Tensor:
    return melscale_fbanks(N_FFT // 2 + 1, *BAND, MELS, RATE, mel_scale="htk")
