"""Quality of speech as listeners would rate it, 1 to 5: DNSMOS P.835 (arXiv 2110.01763) and P.808 (arXiv 2010.15258).

Reproduced as Microsoft's package computes them: 9.01 s windows every second, shorter sound repeated until it fills one,
the published polynomials on what P.835's network returns.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.perception.installed import find_weights, onnx_session, weights_fingerprint
from shared.utils.mel import hann

Sound = NDArray[np.float32]

RATE = 16000
MODEL = "dnsmos"
WINDOW = int(9.01 * RATE)
N_FFT, HOP, MELS = 321, 160, 120
NAMES = ("signal", "background", "overall", "p808")
CALIBRATION = {
    "signal": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}
"""Polynomials, highest power first, from what the network returns to a mean opinion score."""


def speech_quality(sound: Sound) -> dict[str, float]:
    """Mean over windows of the four scores of NAMES, of mono `sound` [N >= 1] in [-1, 1] at RATE. UserError where
    onnxruntime or the weights are missing; ValueError for no samples."""
    if not len(sound):
        raise ValueError("no samples; sound is needed")
    filled = np.tile(sound, 2 ** max(0, int(np.ceil(np.log2(WINDOW / len(sound)))))).astype(np.float32)
    # whole seconds less 9.01, as the package counts windows
    count = int(len(filled) // RATE - WINDOW / RATE) + 1
    starts = [second * RATE for second in range(max(1, count)) if second * RATE + WINDOW <= len(filled)]
    scores = np.array([_window(filled[start : start + WINDOW]) for start in starts])
    return dict(zip(NAMES, scores.mean(0).tolist(), strict=True))


def log_mel(sound: Sound) -> NDArray[np.float32]:
    """Input of the P.808 network: power on Slaney's mel bands in dB below the loudest, from -40..40 dB to 0..1 and
    floored at 80 dB below it; [N] -> [1 + (N - 1) / HOP, MELS]."""
    values = torch.from_numpy(np.ascontiguousarray(sound))
    window = hann(N_FFT, values.device)
    spectrum = torch.stft(values, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    power = _mels().T @ spectrum.abs().square()
    level = 10 * power.clamp_min(1e-10).log10()
    level = level - 10 * power.max().clamp_min(1e-10).log10()
    result: NDArray[np.float32] = ((level.clamp_min(float(level.max()) - 80) + 40) / 40).T.contiguous().numpy()
    return result


def quality_fingerprint() -> str:
    """Hash of both networks."""
    return weights_fingerprint(MODEL)


def _window(sound: Sound) -> list[float]:
    main, p808 = _sessions()
    raw = main.run(None, {"input_1": sound[None]})[0][0]
    rated = [float(np.polyval(CALIBRATION[name], value)) for name, value in zip(NAMES, raw, strict=False)]
    return [*rated, float(p808.run(None, {"input_1": log_mel(sound[:-HOP])[None]})[0][0][0])]


@cache
def _mels() -> Tensor:
    """Slaney's mel filters [N_FFT // 2 + 1, MELS], each of area one: linear up to 1 kHz, then 27 to a factor of 6.4.
    Not torchaudio's, which take the last bin for half the rate: of an odd N_FFT it is not."""
    linear = 3 / 200  # mels per Hz
    top = 1000 * linear + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, MELS + 2)
    edges = np.where(mels < 1000 * linear, mels / linear, 1000 * 6.4 ** ((mels - 1000 * linear) / 27))
    bins = np.arange(N_FFT // 2 + 1)[:, None] * RATE / N_FFT
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(filters.astype(np.float32))


@cache
def _sessions() -> tuple[Any, Any]:
    main = find_weights(MODEL)
    what = "rating speech"
    return onnx_session(main, what), onnx_session(main.with_name("model_v8.onnx"), what)
