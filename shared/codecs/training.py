"""Train a video codec on clips: minutes to an hour and a half on two cores for one of the puppets.

The picture's error counts MOVING times more where something moves, and its slope counts beside it, so that edges stay
sharp. Latents are decoded with noise on them, as a model's samples have it: without, a codec hides detail in values
that no sampler hits. VARIANCE keeps the latents from growing above the noise instead.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.codecs.base import VideoCodec, extended, frames_to_tensor
from shared.codecs.convolutional import ConvVideoCodec
from shared.codecs.linear import LinearVideoCodec
from shared.codecs.picture_errors import moving_pixels
from shared.codecs.wan import SmallWan, WanVideoCodec
from shared.utils.errors import UserError
from shared.utils.files import replacing
from shared.utils.progress import bar
from shared.utils.rng import derive, generator

MOVING, SLOPE, VARIANCE = 16.0, 0.05, 0.002
"""Weights: of pixels that move, beside 1 for each; of the error's slope; of latents' variance above 1."""
NOISE = 0.1
"""Most of the latents' noise, in their standard deviations; each clip draws its own."""
PATCHES_RATE = 0.5
"""Learning rate of the linear part, of that of the rest: it begins where it is good."""
HIDDEN = 32
"""Convolutions with at least so many channels on both sides are trained by Muon, all else by AdamW."""
WARM_UP, LAST_RATE, LONGEST_AVERAGE = 50, 0.03, 0.999
KEEP_EVERY = 250
STATISTICS_CLIPS = 64


class Trainable(Protocol):
    """A codec as it is trained, a module. Latents here are raw, before they are normalised."""

    temporal_stride: int

    def coefficients(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> raw latents [B, C, F, h, w]."""

    def pixels(self, coefficients: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, 1 + r (F - 1), H, W], not clamped."""

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Take the mean [C] of typical raw latents, and their standard deviation over all channels, a scalar."""


@dataclass(frozen=True)
class CodecFit:
    """How a codec is trained: optimizer steps, clips of a step, latent frames of each, and the learning rate."""

    steps: int
    batch: int = 2
    latents: int = 5
    rate: float = 1.5e-3
    seed: int = 0


def train_video_codec(clips: Sequence[Tensor], codec: Any, fit: CodecFit, kept: Path) -> None:
    """Train `codec`, a `Trainable`, on `clips`, uint8 [T, H, W, 3] each; it then holds the average of its weights.
    Every KEEP_EVERY steps the state goes to the file `kept`, from which the same call goes on to the same result.
    UserError: `kept` belongs to another fit; the loss is not finite."""
    training = _Training(codec, fit, clips)
    first = training.resume(kept)
    for step in bar(range(first, fit.steps), initial=first, total=fit.steps, desc="video codec", unit="step"):
        training.step(step, _batch(clips, codec.temporal_stride, fit, step))
        if (step + 1) % KEEP_EVERY == 0 and step + 1 < fit.steps:
            training.keep(kept, step + 1)
    training.finish(clips)


def trained_codec(
    kind: str, clips: Sequence[Tensor], linear: LinearVideoCodec, fit: CodecFit, kept: Path
) -> VideoCodec:
    """Make and train a video codec on clips: `conv` from `linear` on, `wan` from random weights, with its strides.
    `clips`, `kept` and errors as of `train_video_codec`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(fit.seed, "codec weights"))
        codec: Any = (
            ConvVideoCodec.around(linear) if kind == "conv"
            else SmallWan(linear.latent_channels, linear.spatial_stride)
        )  # fmt: skip
    train_video_codec(clips, codec, fit, kept)
    made: VideoCodec = codec if kind == "conv" else WanVideoCodec(codec.model)
    return made


def _batch(clips: Sequence[Tensor], stride: int, fit: CodecFit, step: int) -> Tensor:
    """Windows [B, 3, T, H, W] of clips, by the number of the step; a short clip stands still at its end."""
    draws, frames = generator(fit.seed, "codec batch", step), 1 + (fit.latents - 1) * stride
    windows = []
    for number in torch.randint(len(clips), (fit.batch,), generator=draws).tolist():
        clip = clips[number]
        start = int(torch.randint(max(1, len(clip) - frames + 1), (), generator=draws))
        window = frames_to_tensor(clip[start : start + frames])[None]
        windows.append(extended(window, frames))
    return torch.cat(windows)


class _Training:
    """Weights, their average, and the optimizers; all randomness is keyed by the step."""

    def __init__(self, codec: Any, fit: CodecFit, clips: Sequence[Tensor]) -> None:
        self.codec, self.fit = codec, fit
        self.parameters = dict(codec.named_parameters())
        self.settings = _settings(fit, self.parameters, clips)
        self.average = {name: weights.detach().clone() for name, weights in self.parameters.items()}
        hidden = {
            name: weights for name, weights in self.parameters.items()
            if weights.ndim >= 4 and min(weights.shape[:2]) >= HIDDEN and ".patches." not in name
        }  # fmt: skip
        self.matrices = {name: nn.Parameter(weights.detach().flatten(1).clone()) for name, weights in hidden.items()}
        rest = {name: weights for name, weights in self.parameters.items() if name not in hidden}
        groups = [
            {"params": [weights for name, weights in rest.items() if (".patches." in name) == linear], "share": share}
            for linear, share in ((False, 1.0), (True, PATCHES_RATE))
        ]
        adam = torch.optim.AdamW(
            [group for group in groups if group["params"]], fit.rate, betas=(0.9, 0.98), weight_decay=0
        )
        self.optimizers: dict[str, tuple[torch.optim.Optimizer, dict[str, Any]]] = {"adam": (adam, rest)}
        if self.matrices:
            muon = torch.optim.Muon(self.matrices.values(), fit.rate, weight_decay=0, adjust_lr_fn="match_rms_adamw")
            self.optimizers["muon"] = muon, self.matrices

    def step(self, step: int, video: Tensor) -> None:
        """Take one step on a batch [B, 3, T, H, W]."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.fit.steps))
        rate = self.fit.rate * min(1.0, (step + 1) / WARM_UP) * (LAST_RATE + (1 - LAST_RATE) * cosine)
        for optimizer, _ in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("share", 1.0)
        loss = self._loss(step, video)
        if not loss.isfinite():
            raise UserError(f"step {step}: the loss of the video codec is {loss.item()}; give a lower learning rate")
        for weights in self.parameters.values():
            weights.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self._move()
        decay = min(LONGEST_AVERAGE, (step + 2) / (step + 11))
        for name, weights in self.parameters.items():
            self.average[name].lerp_(weights.detach(), 1 - decay)

    def _move(self) -> None:
        """Let both optimizers step; Muon's, on convolutions as matrices [out, in x kernel]."""
        for name, matrix in self.matrices.items():
            gradient = self.parameters[name].grad
            assert gradient is not None
            matrix.grad = gradient.flatten(1)
        for optimizer, _ in self.optimizers.values():
            optimizer.step()
        with torch.no_grad():
            for name, matrix in self.matrices.items():
                self.parameters[name].copy_(matrix.view_as(self.parameters[name]))

    def _loss(self, step: int, video: Tensor) -> Tensor:
        draws = generator(self.fit.seed, "codec noise", step)
        with torch.autocast(video.device.type, torch.bfloat16, enabled=_bfloat16_is_fast()):
            latents = self.codec.coefficients(video)
            level = NOISE * torch.rand(len(video), 1, 1, 1, 1, generator=draws)
            decoded = self.codec.pixels(latents + level * torch.randn(latents.shape, generator=draws))
        error = decoded - video
        weights = 1 + MOVING * moving_pixels(video).float()
        square = (weights * error.square()).sum() / weights.sum() / 3
        slope = torch.stack([error.diff(dim=dim).abs().mean() for dim in (-1, -2)]).sum()
        return square + SLOPE * slope + VARIANCE * (latents.square().mean() - 1).clamp_min(0)

    @torch.no_grad()
    def finish(self, clips: Sequence[Tensor]) -> None:
        """Put the average into the codec, and the statistics of its latents over some clips."""
        for name, weights in self.parameters.items():
            weights.copy_(self.average[name])
        chosen = torch.randperm(len(clips), generator=generator(self.fit.seed, "codec statistics"))
        videos = (frames_to_tensor(clips[i])[None] for i in chosen[:STATISTICS_CLIPS].tolist())
        latents = torch.cat([self.codec.coefficients(video).transpose(0, 1).flatten(1) for video in videos], 1)
        mean = latents.mean(1)
        self.codec.normalise(mean, (latents - mean[:, None]).square().mean().sqrt())

    def keep(self, file: Path, step: int) -> None:
        """Write all that the next step depends on."""
        state = {f"weights.{name}": weights.detach() for name, weights in self.parameters.items()}
        state |= {f"average.{name}": weights for name, weights in self.average.items()}
        for kind, (optimizer, named) in self.optimizers.items():
            for name, weights in named.items():
                state |= {f"{kind}.{key}.{name}": value for key, value in optimizer.state[weights].items()}
        with replacing(file) as part:
            metadata = {"step": str(step), "settings": self.settings}
            save_file({name: value.contiguous() for name, value in state.items()}, part, metadata)

    def resume(self, file: Path) -> int:
        """Read what `keep` wrote, if it did; the next step."""
        if not file.exists():
            return 0
        with safe_open(file, "pt") as state:
            metadata = state.metadata()
            if metadata.get("settings") != self.settings:
                raise UserError(f"{file} belongs to a fit with other settings or clips: give the same, or delete it")
            step = int(metadata["step"])
            for name, weights in self.parameters.items():
                weights.data.copy_(state.get_tensor(f"weights.{name}"))
                self.average[name].copy_(state.get_tensor(f"average.{name}"))
            for name, matrix in self.matrices.items():
                matrix.data.copy_(self.parameters[name].flatten(1))
            for key in state.keys():  # noqa: SIM118 - a safetensors file is no mapping
                kind, moment, name = (*key.split(".", 2), "")[:3]
                if kind in self.optimizers:
                    optimizer, named = self.optimizers[kind]
                    optimizer.state[named[name]][moment] = state.get_tensor(key).clone()
        return step


def _settings(fit: CodecFit, parameters: Mapping[str, Tensor], clips: Sequence[Tensor]) -> str:
    """All that a training depends on: how, what and on which clips, as one number."""
    shapes = {name: list(weights.shape) for name, weights in parameters.items()}
    digest = hashlib.sha256(json.dumps([asdict(fit), shapes]).encode())
    for clip in clips:
        digest.update(str(list(clip.shape)).encode())
        digest.update(clip.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 in hardware: twice as fast as float32 where it does."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
