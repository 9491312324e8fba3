"""TalkNet-ASD (Tao et al. 2021, "Is Someone Speaking?", arXiv 2107.06592): does this face speak what is heard?

    scores = TalkNetScores.load(path)(crops, sound)      # a score per frame, above 0 where the face speaks

Names and shapes of its weights are those of the public `pretrain_TalkSet.model` and `pretrain_AVA.model`:
`model.visualFrontend.frontend3D.0.weight`, ..., `lossAV.FC.bias`; 15,743,965 parameters, and 516 of two heads that are
for training alone, `lossA` and `lossV`, which are left out. Inputs are those of the public demo: the inner half of
SyncNet's crops in grey, four steps of the cepstrum of `shared.perception.syncnet` a frame, and the mean of six passes
over windows of one to six seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.perception.syncnet import COEFFICIENTS, FPS, SIDE, STEPS_PER_FRAME, cepstrum
from shared.perception.weights import load_weights

Array = NDArray[np.float64]

INNER = slice(SIDE // 4, SIDE - SIDE // 4)
"""Rows and columns of a crop that the network sees."""
GREY = (9798, 19235, 3735)
"""Red, green and blue in grey, of 2^15, as OpenCV has them."""
MEAN, DEVIATION = 0.4161, 0.1688  # of grey from 0 to 1
SECONDS = (1, 2, 3, 4, 5, 6)
"""Lengths of windows, one after the other, whose scores are averaged, as in the public demo."""
REACH = 2
"""Frames before and after one that its features follow from; beyond a window's ends there are zeros."""
STEADY = 5
"""Frames whose mean decides, as in the public demo."""
TRAINING = ("lossA.", "lossV.")
WIDTHS = (16, 32, 64, 128)
"""Channels of the sound's four stages, and how many blocks each has: BLOCKS."""
BLOCKS = (3, 4, 6, 3)


class TalkNet(nn.Module):
    """Grey faces [B, T, 112, 112], 0 to 255, and cepstra [B, 4 T, 13] of as many frames -> scores [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({
            "visualFrontend": VideoFrames(),
            "visualTCN": _in_net(*(TemporalBlock() for _ in range(5))),
            "visualConv1D": _in_net(
                nn.Conv1d(512, 256, 5, padding=2), nn.BatchNorm1d(256), nn.ReLU(), nn.Conv1d(256, 128, 1)
            ),
            "audioEncoder": SoundEncoder(),
            "crossA2V": AttentionLayer(128),
            "crossV2A": AttentionLayer(128),
            "selfAV": AttentionLayer(256),
        })  # fmt: skip
        self.lossAV = nn.ModuleDict({"FC": nn.Linear(256, 2)})  # not speaking, speaking

    def forward(self, faces: Tensor, cepstra: Tensor) -> Tensor:
        return self.compare(self.look(faces), cepstra)

    def look(self, faces: Tensor) -> Tensor:
        """Features [B, T, 512] of the frames of faces [B, T, 112, 112]; of each with REACH around it."""
        features: Tensor = self.model["visualFrontend"]((faces / 255 - MEAN) / DEVIATION)
        return features

    def compare(self, features: Tensor, cepstra: Tensor) -> Tensor:
        """Scores [B, T] of features [B, T, 512] and cepstra [B, 4 T, 13]: logits of the second class."""
        video = self.model.get_submodule("visualTCN.net")(features.transpose(1, 2))
        video = self.model.get_submodule("visualConv1D.net")(video).transpose(1, 2)
        audio = self.model["audioEncoder"](cepstra)
        by_sound, by_face = self.model["crossA2V"](audio, video), self.model["crossV2A"](video, audio)
        both = torch.cat([by_sound, by_face], 2)
        scores: Tensor = self.lossAV["FC"](self.model["selfAV"](both, both))[..., 1]
        return scores


class VideoFrames(nn.Module):
    """Pictures [B, T, 112, 112] -> features [B, T, 512]: a convolution over five frames, and a ResNet of each frame."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv3d(1, 64, (5, 7, 7), (1, 2, 2), (REACH, 3, 3), bias=False)
        self.frontend3D = nn.Sequential(
            convolution, nn.BatchNorm3d(64, 1e-3), nn.ReLU(), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        )
        self.resnet = nn.Sequential()
        for number, width in enumerate((64, 128, 256, 512), 1):
            self.resnet.add_module(f"layer{number}", ResidualPair(max(64, width // 2), width))

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.frontend3D(pictures[:, None]).transpose(1, 2)
        return self.resnet(maps.flatten(0, 1)).mean((2, 3)).unflatten(0, maps.shape[:2])


class ResidualPair(nn.Module):
    """Two residual blocks, of which the first halves the picture where it widens."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == width else 2
        self.conv1a = nn.Conv2d(inputs, width, 3, self.stride, 1, bias=False)
        self.conv2a, self.conv1b, self.conv2b = (nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(3))
        self.bn1a, self.outbna, self.bn1b, self.outbnb = (nn.BatchNorm2d(width, 1e-3) for _ in range(4))
        self.downsample = nn.Conv2d(inputs, width, 1, self.stride, bias=False)  # the first pair has it, and no use

    def forward(self, maps: Tensor) -> Tensor:
        beside = maps if self.stride == 1 else self.downsample(maps)
        middle = self.conv2a(self.bn1a(self.conv1a(maps)).relu()) + beside
        return self.outbnb(self.conv2b(self.bn1b(self.conv1b(self.outbna(middle).relu())).relu()) + middle).relu()


class TemporalBlock(nn.Module):
    """Three frames of each channel [B, 512, T], then all channels of a frame, beside what came in."""

    def __init__(self) -> None:
        super().__init__()
        over_time = nn.Conv1d(512, 512, 3, padding=1, groups=512, bias=False)
        before = nn.ReLU(), nn.BatchNorm1d(512), over_time, nn.PReLU(), GlobalNorm(512)
        self.net = nn.Sequential(*before, nn.Conv1d(512, 512, 1, bias=False))

    def forward(self, values: Tensor) -> Tensor:
        return values + self.net(values)


class GlobalNorm(nn.Module):
    """Norm over channels and time together of values [B, C, T]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(1, width, 1)), nn.Parameter(torch.zeros(1, width, 1))

    def forward(self, values: Tensor) -> Tensor:
        variance, mean = torch.var_mean(values, (1, 2), correction=0, keepdim=True)
        return self.gamma * (values - mean) * (variance + 1e-8).rsqrt() + self.beta


class SoundEncoder(nn.Module):
    """Cepstra [B, 4 T, 13] -> [B, T, 128]: a ResNet of 34 layers that weighs its channels, and a mean over the rest of
    the coefficients."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, WIDTHS[0], 7, (2, 1), 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        inputs = WIDTHS[0]
        for number, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
            first = WeighedBlock(inputs, width, 2 if number in (2, 3) else 1)
            rest = (WeighedBlock(width, width, 1) for _ in range(count - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            inputs = width

    def forward(self, cepstra: Tensor) -> Tensor:
        maps = self.bn1(self.conv1(cepstra.transpose(1, 2)[:, None])).relu()
        for number in range(1, len(BLOCKS) + 1):
            maps = self.get_submodule(f"layer{number}")(maps)
        return maps.mean(2).transpose(1, 2)


class WeighedBlock(nn.Module):
    """A residual block whose channels are weighed by their means (Hu et al. 2018); each first norm follows its ReLU."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        weigh = nn.Sequential(nn.Linear(width, width // 8), nn.ReLU(), nn.Linear(width // 8, width), nn.Sigmoid())
        self.se = nn.ModuleDict({"fc": weigh})
        self.downsample: nn.Module = nn.Identity()
        if inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        values = self.bn2(self.conv2(self.bn1(self.conv1(maps).relu())))
        weights: Tensor = self.se["fc"](values.mean((2, 3)))
        return (values * weights[..., None, None] + self.downsample(maps)).relu()


class AttentionLayer(nn.Module):
    """A layer of a transformer: `stream` [B, T, C] is read by the frames of `other` [B, T, C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, 8, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, stream: Tensor, other: Tensor) -> Tensor:
        stream = self.norm1(stream + self.self_attn(other, stream, stream, need_weights=False)[0])
        result: Tensor = self.norm2(stream + self.linear2(self.linear1(stream).relu()))
        return result


class TalkNetScores:
    """Scores of a face's frames."""

    def __init__(self, model: TalkNet) -> None:
        self.model = model.eval()

    @classmethod
    def load(cls, path: Path) -> TalkNetScores:
        """Load a safetensors file of the published names. UserError as `load_weights`."""
        return cls(load_weights(TalkNet(), path, drop=TRAINING))

    def __call__(self, crops: NDArray[np.uint8], sound: NDArray[np.float32]) -> Array:
        """Score the frames of crops uint8 [T, 224, 224, 3] at 25 frames per second, as `crop_faces` makes them, against
        their sound [N] at 16 kHz, [F]: those of which there is sound to the end, so that the last has no score."""
        raw, half = self.raw(crops, sound), STEADY // 2
        return np.array([raw[max(0, at - half) : at + half + 1].mean() for at in range(len(raw))])

    @torch.inference_mode()
    def raw(self, crops: NDArray[np.uint8], sound: NDArray[np.float32]) -> Array:
        """Scores [F] before the mean over STEADY frames."""
        steps = torch.from_numpy(cepstrum(sound)).float()
        count = min(len(steps) // STEPS_PER_FRAME, len(crops))
        if count < 1:
            return np.zeros(0)
        faces = torch.from_numpy(grey_faces(crops[:count]))
        sounds = steps[: count * STEPS_PER_FRAME].view(count, STEPS_PER_FRAME * COEFFICIENTS)
        whole, cut = self._features(faces, REACH), self._features(faces, 0)
        total = torch.zeros(count)
        for seconds in SECONDS:
            for start in range(0, count, seconds * FPS):
                end = min(start + seconds * FPS, count)
                seen = _window(whole, cut, start, end)
                heard = sounds[start:end].reshape(1, -1, COEFFICIENTS)
                total[start:end] += self.model.compare(seen[None], heard)[0]
        scores: Array = (total / len(SECONDS)).double().numpy()
        return scores

    def _features(self, faces: Tensor, around: int) -> Tensor:
        """Features [T, 512] of faces [T, 112, 112], a second at a time, and so many frames around it; beyond zeros."""
        parts = []
        for start in range(0, len(faces), FPS):
            first = max(0, start - around)
            parts.append(self.model.look(faces[None, first : start + FPS + around])[0, start - first :][:FPS])
        return torch.cat(parts)


def grey_faces(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Make crops [T, 224, 224, 3] what the network sees, [T, 112, 112], 0 to 255."""
    grey: NDArray[np.int32] = (crops[:, INNER, INNER].astype(np.int32) @ np.array(GREY, np.int32) + 2**14) >> 15
    return grey.astype(np.float32)


def _window(whole: Tensor, cut: Tensor, start: int, end: int) -> Tensor:
    """Features of a window of whole seconds, of those of all frames and of those that are cut at each second: they
    differ by the zeros that stand beyond a cut. So each frame is looked at twice, and not once in each pass."""
    seen = whole[start:end].clone()
    if start:
        seen[:REACH] = cut[start:end][:REACH]
    if end < len(whole):
        seen[-REACH:] = cut[end - REACH : end]
    return seen


def _in_net(*layers: nn.Module) -> nn.ModuleDict:
    """Name layers as the public file does, `net.0`, `net.1` ..."""
    return nn.ModuleDict({"net": nn.Sequential(*layers)})
