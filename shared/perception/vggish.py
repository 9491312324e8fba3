"""VGGish (Hershey et al., arXiv 1609.09430), 128 features of 0.96 s of sound, for Fréchet audio distances.

Names and shapes of its weights are those of the public PyTorch conversion of Google's: `features.0.weight`, ...,
`embeddings.4.bias`; 72,141,184 parameters. Its PCA, 8-bit steps and the ReLU that the conversion has after the last
layer are no part of the embedding that Google's present code gives, nor of this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.perception.weights import load_weights
from shared.utils.fingerprint import weights_fingerprint

RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512  # Hz, and samples
BANDS, LOWEST, HIGHEST, OFFSET = 64, 125.0, 7500.0, 0.01
FRAMES = 96  # of an example, 0.96 s; examples do not overlap
DIMENSION = 128


def mel_matrix() -> Tensor:
    """Triangular filters [FFT/2 + 1, BANDS] whose sides are straight over mels (not over Hz), and none at 0 Hz."""

    def mels(hertz: Any) -> Any:
        return 1127.0 * np.log1p(hertz / 700.0)

    bins = mels(np.linspace(0, RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(mels(LOWEST), mels(HIGHEST), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    filters[0] = 0.0
    return torch.from_numpy(filters).float()


def examples(sound: NDArray[np.float32]) -> Tensor:
    """Log-mel magnitudes of sound [N] at 16 kHz, cut into whole examples: [K, 96, 64], K >= 0."""
    if len(sound) < WINDOW:
        return torch.zeros(0, FRAMES, BANDS)
    frames = torch.from_numpy(sound).unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)
    levels = torch.log(torch.fft.rfft(frames, FFT).abs() @ mel_matrix() + OFFSET)
    count = len(levels) // FRAMES
    return levels[: count * FRAMES].unflatten(0, (count, FRAMES)) if count else torch.zeros(0, FRAMES, BANDS)


class VGGish(nn.Module):
    """Embeds examples [K, 96, 64] -> [K, 128]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for widths in ((64,), (128,), (256, 256), (512, 512)):
            for width in widths:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, DIMENSION)
        )

    def forward(self, values: Tensor) -> Tensor:
        return self.embeddings(self.features(values[:, None]).permute(0, 2, 3, 1).flatten(1))  # channels last, as TF


class VGGishFeatures:
    """A row of features for each whole 0.96 s of a sound."""

    rate, dimension = RATE, DIMENSION
    least_seconds = ((FRAMES - 1) * HOP + WINDOW) / RATE

    def __init__(self, model: nn.Module, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.device, self.batch = model.to(device).eval(), device, batch

    @classmethod
    def load(cls, path: Path, device: str = "cpu", batch: int = 16) -> VGGishFeatures:
        """Load the weights in a safetensors file; its PCA, if there, is left out. UserError as `load_weights`."""
        return cls(load_weights(VGGish(), path, ("pproc.",)), device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to the sound, and which features they are."""
        return {
            "features": "VGGish embedding, no last ReLU, no PCA", "rate": RATE, "window": FRAMES * HOP / RATE,
            "hop": FRAMES * HOP / RATE, "mel": [BANDS, LOWEST, HIGHEST],
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def __call__(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of sound [N] at 16 kHz -> [K, 128]."""
        parts = examples(sound).split(self.batch)
        return torch.cat([self.model(part.to(self.device)).float().cpu() for part in parts]).numpy()
