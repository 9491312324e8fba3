"""The embedded video codec of good pictures: a convolutional autoencoder around the linear one (docs/codecs.md).

Patches that are decoded one by one leave their borders in the picture. Here every patch also depends on its
neighbours, and on the past: linear from the latents around it (a lapped transform), and through residual blocks at
several scales, each of which sees the latent frame before. What it adds is learned; it starts from the linear codec.
"""

import copy
import itertools
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from shared.codecs.base import CausalVideo, bounded
from shared.codecs.linear import LinearVideoCodec
from shared.nn.memory_alignment import AlignedModelMixin
from shared.utils.errors import UserError


class ConvVideoCodec(CausalVideo, AlignedModelMixin, ModelMixin, ConfigMixin):
    """Implements `shared.codecs.base.VideoCodec`, in fp32; trained by `shared.codecs.training`.

    A latent frame is an image of 3 r channels (r frames; frame 0 is repeated r times, as by the linear codec).
    `channels`: of each scale, the finest first; every next one is half as high and wide, and the coarsest has one
    pixel per latent. `blocks`: residual blocks per scale, in the encoder and in the decoder."""

    _keep_in_fp32_modules: ClassVar[list[str]] = ["encoder", "decoder", "mean", "scale"]

    @register_to_config
    def __init__(
        self, latent_channels: int = 48, temporal_stride: int = 4, spatial_stride: int = 8,
        channels: tuple[int, ...] = (64, 96, 128), blocks: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        counts = {"latent_channels": latent_channels, "temporal_stride": temporal_stride, "blocks": blocks}
        if low := [name for name, count in counts.items() if count < 1]:
            raise UserError(f"{low[0]} is {counts[low[0]]}; it must be 1 or more")
        halvings = 2 ** (len(channels) - 1)
        if not channels or min(channels) < 1 or spatial_stride < 1 or spatial_stride % halvings:
            wanted = (
                f"widths above 0, and a stride that is a multiple of {halvings:g}, 2 for each width after the first"
            )
            raise UserError(f"channels are {list(channels)} with spatial_stride {spatial_stride}; give {wanted}")
        self.latent_channels, self.temporal_stride, self.spatial_stride = (
            latent_channels, temporal_stride, spatial_stride
        )  # fmt: skip
        shape = 3 * temporal_stride, latent_channels, spatial_stride
        self.encoder = _Encoder(*shape, list(channels), blocks)
        self.decoder = _Decoder(*shape, list(channels), blocks)
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def around(cls, linear: LinearVideoCodec, **config: object) -> Self:
        """Make a codec that does, before it is trained, what `linear` does. `config`: channels and blocks."""
        shape = ("latent_channels", "temporal_stride", "spatial_stride")
        codec = cls(**{name: linear.config[name] for name in shape}, **config)
        grid = {"r": linear.temporal_stride, "p": linear.spatial_stride, "q": linear.spatial_stride}
        encoding = "d (r c p q) -> d (r c) p q"
        with torch.no_grad():
            weights, bias = linear.analysis()
            codec.encoder.patches.weight.copy_(rearrange(weights, encoding, **grid))
            codec.encoder.patches.bias.copy_(bias)
            weights, bias = linear.synthesis()
            codec.decoder.patches.weight.zero_()
            codec.decoder.patches.weight[:, :, 1, 1] = weights
            codec.decoder.patches.bias.copy_(bias)
        return codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def save_pretrained(self, folder: str | Path, max_shard_size: int | str = "10GB", **options: Any) -> None:
        """Write the codec; weights that are all float16 numbers, as a codec's that was rounded to them, as float16."""
        values = self.state_dict().values()
        if all(value.dtype == torch.float32 and torch.equal(value, value.half().float()) for value in values):
            return copy.deepcopy(self).half().save_pretrained(folder, max_shard_size, **options)
        super().save_pretrained(folder, max_shard_size=max_shard_size, **options)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        self.check_sides(*video.shape[-2:])
        with torch.autocast(video.device.type, enabled=False):
            return (self.coefficients(video.float()) - self._per_channel(self.mean)) / self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """[B, C, F, h, w] -> float32 [B, 3, frames, H, W] in [-1, 1]. Causal: later latents are not looked at."""
        self.check_frames(latents.shape[2], frames)
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents[:, :, : self.latent_frames(frames)].float() * self.scale + self._per_channel(self.mean)
            return bounded(self.pixels(latents)[:, :, :frames], "video codec")

    def coefficients(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, C, F, h, w]: latents before they are normalised by `mean` and `scale`."""
        r, frames = self.temporal_stride, video.shape[2]
        count = self.latent_frames(frames)
        index = torch.arange(1 - r, 1 + (count - 1) * r).clamp(0, frames - 1)
        grouped = rearrange(video.index_select(2, index.to(video.device)), "b c (f r) h w -> (b f) (r c) h w", r=r)
        return rearrange(self.encoder(grouped, count), "(b f) c h w -> b c f h w", f=count)

    def pixels(self, coefficients: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, 1 + r (F - 1), H, W]: the inverse of `coefficients`; not clamped."""
        r, count = self.temporal_stride, coefficients.shape[2]
        grouped = self.decoder(rearrange(coefficients, "b c f h w -> (b f) c h w"), count)
        video = rearrange(grouped, "(b f) (r c) h w -> b c (f r) h w", f=count, r=r)
        return torch.cat([video[:, :, :r].mean(2, keepdim=True), video[:, :, r:]], 2)

    @torch.no_grad()
    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Let latents have this mean [C] and, over all channels, this standard deviation before they are normalised."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def _per_channel(self, values: Tensor) -> Tensor:
        return values.view(1, -1, 1, 1, 1)


class _Encoder(nn.Module):
    """Images [B F, 3 r, H, W] -> coefficients [B F, C, h, w]."""

    def __init__(self, pixels: int, latent_channels: int, stride: int, channels: list[int], blocks: int) -> None:
        super().__init__()
        self.patches = _Patches(pixels, latent_channels, stride, stride)
        self.fold = stride // 2 ** (len(channels) - 1)
        self.enter = nn.Conv2d(pixels * self.fold**2, channels[0], 3, padding=1)
        self.scales = nn.ModuleList(_scale(width, blocks) for width in channels)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in itertools.pairwise(channels)
        )
        self.norm = _Norm(channels[-1])
        self.leave = _zero(nn.Conv2d(channels[-1], latent_channels, 1))

    def forward(self, images: Tensor, frames: int) -> Tensor:
        x = self.enter(functional.pixel_unshuffle(images, self.fold).contiguous(memory_format=torch.channels_last))
        for i, scale in enumerate(self.scales):
            x = self.down[i - 1](x) if i else x
            for block in scale:  # type: ignore[attr-defined]
                x = block(x, frames)
        return self.patches(images).float() + self.leave(functional.silu(self.norm(x))).float()


class _Patches(nn.Conv2d):
    """A convolution whose stride is its kernel, as a matrix product: oneDNN's, in bfloat16 by AMX, is wrong for 8x8."""

    def forward(self, input: Tensor) -> Tensor:
        pixels = functional.pixel_unshuffle(input, self.stride[0])
        return functional.conv2d(pixels, self.weight.flatten(1)[:, :, None, None], self.bias)


class _Decoder(nn.Module):
    """Coefficients [B F, C, h, w] -> images [B F, 3 r, H, W]."""

    def __init__(self, pixels: int, latent_channels: int, stride: int, channels: list[int], blocks: int) -> None:
        super().__init__()
        self.stride, self.fold = stride, stride // 2 ** (len(channels) - 1)
        self.patches = nn.Conv2d(latent_channels, pixels * stride**2, 3, padding=1)
        self.enter = nn.Conv2d(latent_channels, channels[-1], 3, padding=1)
        self.scales = nn.ModuleList(_scale(width, blocks) for width in channels)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 3, padding=1) for fine, coarse in itertools.pairwise(channels)
        )
        self.norm = _Norm(channels[0])
        self.leave = _zero(nn.Conv2d(channels[0], pixels * self.fold**2, 3, padding=1))

    def forward(self, coefficients: Tensor, frames: int) -> Tensor:
        coefficients = coefficients.contiguous(memory_format=torch.channels_last)
        x = self.enter(coefficients)
        for i in reversed(range(len(self.scales))):
            for block in self.scales[i]:  # type: ignore[attr-defined]
                x = block(x, frames)
            x = functional.pixel_shuffle(self.up[i - 1](x), 2) if i else x
        fine = functional.pixel_shuffle(self.leave(functional.silu(self.norm(x))).float(), self.fold)
        return fine + functional.pixel_shuffle(self.patches(coefficients).float(), self.stride)


class _Block(nn.Module):
    """Residual block over [B F, D, h, w] that also sees, pixel by pixel, the latent frame before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_Norm(width), _Norm(width)])
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.past = nn.Conv2d(width, width, 1, bias=False)
        self.second = _zero(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        h = functional.silu(self.norms[0](x))
        h = self.first(h) + self.past(_previous(h, frames))
        return x + self.second(functional.silu(self.norms[1](h)))


class _Norm(nn.Module):
    """RMS norm over the channels of [B, D, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        return functional.rms_norm(last, self.weight.shape, self.weight.to(x.dtype), 1e-5).permute(0, 3, 1, 2)


def _scale(width: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(_Block(width) for _ in range(blocks))


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Let a layer begin by adding nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _previous(x: Tensor, frames: int) -> Tensor:
    """[B F, ...] -> the same one latent frame later; zeros before the first."""
    clips = x.unflatten(0, (-1, frames))
    return torch.cat([torch.zeros_like(clips[:, :1]), clips[:, :-1]], 1).flatten(0, 1)
