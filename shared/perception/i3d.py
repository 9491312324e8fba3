"""I3D: Inception-v1 inflated to three dimensions (Carreira and Zisserman, arXiv 1705.07750), for Fréchet distances.

Names and shapes of its weights are those of the public PyTorch conversion of DeepMind's (RGB, Kinetics-400):
`Conv3d_1a_7x7.conv3d.weight`, `Mixed_3b.b1a.bn.running_mean`, ..., `logits.conv3d.bias`; 12,697,264 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 400
#: Inputs and the six widths of each inception block: 1x1; 1x1 and 3x3 twice; 1x1 after the pool.
MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def same_padding(values: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad [..., T, H, W] by zeros as TensorFlow's SAME does: the odd one comes after."""
    sides: list[int] = []
    for length, size, step in zip(values.shape[-3:], kernel, stride, strict=True):
        total = max(size - (length % step or step), 0)
        sides = [total // 2, total - total // 2, *sides]
    return functional.pad(values, sides)


class SamePool(nn.Module):
    """Maximum pooling with SAME padding."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, values: Tensor) -> Tensor:
        return functional.max_pool3d(same_padding(values, self.kernel, self.stride), self.kernel, self.stride)


class ConvUnit(nn.Module):
    """Convolution with SAME padding, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, values: Tensor) -> Tensor:
        padded = same_padding(values, self.conv3d.kernel_size, self.conv3d.stride)
        return functional.relu(self.bn(self.conv3d(padded)))


class InceptionBlock(nn.Module):
    """Four branches side by side: 1x1, two of 1x1 and 3x3, and a pool with 1x1."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.b0 = ConvUnit(inputs, widths[0])
        self.b1a, self.b1b = ConvUnit(inputs, widths[1]), ConvUnit(widths[1], widths[2], 3)
        self.b2a, self.b2b = ConvUnit(inputs, widths[3]), ConvUnit(widths[3], widths[4], 3)
        self.b3a, self.b3b = SamePool((3, 3, 3), (1, 1, 1)), ConvUnit(inputs, widths[5])

    def forward(self, values: Tensor) -> Tensor:
        branches = (self.b0(values), self.b1b(self.b1a(values)), self.b2b(self.b2a(values)), self.b3b(self.b3a(values)))
        return torch.cat(branches, dim=1)


class Logits(nn.Module):
    """The last layer: a convolution of size 1 with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, CLASSES, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv3d(values)


class I3D(nn.Module):
    """Logits of Kinetics' 400 classes, mean over time, of videos in [-1, 1], at least 9 frames of 193 pixels a side:
    [B, 3, T, H, W] -> [B, 400]. The published form is 224 pixels, pooled as 2 x 7 x 7."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = ConvUnit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = ConvUnit(64, 64)
        self.Conv3d_2c_3x3 = ConvUnit(64, 192, 3)
        for name, (inputs, widths) in MIXED.items():
            self.add_module(name, InceptionBlock(inputs, widths))
        self.logits = Logits()
        flat, cube = SamePool((1, 3, 3), (1, 2, 2)), SamePool((3, 3, 3), (2, 2, 2))
        mixed = [self.get_submodule(name) for name in MIXED]
        stem = [self.Conv3d_1a_7x7, flat, self.Conv3d_2b_1x1, self.Conv3d_2c_3x3, flat]
        self._order = [*stem, *mixed[:2], cube, *mixed[2:7], SamePool((2, 2, 2), (2, 2, 2)), *mixed[7:]]

    def forward(self, videos: Tensor) -> Tensor:
        values = videos
        for step in self._order:
            values = step(values)
        return self.logits(functional.avg_pool3d(values, (2, 7, 7), 1)).mean((2, 3, 4))
