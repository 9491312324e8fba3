"""Wan's video autoencoders (diffusers' `AutoencoderKLWan`, 2.1 and 2.2) as a codec."""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from shared.codecs.base import CausalVideo, bounded, extended
from shared.codecs.library import LibraryCodec
from shared.nn.memory_alignment import AlignedModelMixin
from shared.utils.errors import UserError


class WanVideoCodec(CausalVideo, AlignedModelMixin, LibraryCodec, ModelMixin):
    """`AutoencoderKLWan`; implements `shared.codecs.base.VideoCodec`.
    2.1: 16 channels, 4 x 8 x 8. 2.2: 48 channels, 4 x 16 x 16. Latents are the posterior's mode, less the config's
    latents_mean, over its latents_std; the model sees a clip whose last frame is repeated up to 1 + 4k frames."""

    kind = AutoencoderKLWan

    def __init__(self, model: AutoencoderKLWan) -> None:
        super().__init__(model)
        config = model.config
        stride = 2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1)
        if (config.scale_factor_temporal, config.scale_factor_spatial) != (4, stride):
            what = f"scale_factor_temporal and scale_factor_spatial are {config.scale_factor_temporal} and"
            needed = f"for its dim_mult and patch_size they must be 4 and {stride}"
            raise UserError(f"{what} {config.scale_factor_spatial}; {needed}")
        for name in ("latents_mean", "latents_std"):
            if len(config[name]) != config.z_dim:
                raise UserError(f"{name} has {len(config[name])} values for z_dim = {config.z_dim}; one each is needed")
        if not all(value > 0 for value in config.latents_std):
            raise UserError(f"latents_std is {list(config.latents_std)}; numbers above 0 are needed")
        self.latent_channels, self.temporal_stride, self.spatial_stride = config.z_dim, 4, stride

    def encode(self, video: Tensor) -> Tensor:
        frames, height, width = video.shape[-3:]
        self.check_sides(height, width)
        latents = self._encoded(extended(video, 1 + (self.latent_frames(frames) - 1) * self.temporal_stride))
        mean, std = self._statistics()
        return (latents - mean) / std

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """[B, C, F, h, w] -> float32 [B, 3, frames, H, W] in [-1, 1]. Causal: later latents are not looked at."""
        self.check_frames(latents.shape[2], frames)
        mean, std = self._statistics()
        video = self._decoded(latents[:, :, : self.latent_frames(frames)].to(self.device).float() * std + mean)
        return bounded(video[:, :, :frames].float(), "video codec")

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [1, C, 1, 1, 1] of raw latents, in float32 whatever the model's dtype."""
        rows = [self.model.config.latents_mean, self.model.config.latents_std]
        mean, std = torch.tensor(rows, dtype=torch.float32, device=self.device).view(2, 1, -1, 1, 1, 1)
        return mean, std


class SmallWan(nn.Module):
    """An `AutoencoderKLWan` of the puppets' size with random weights, to be trained (`shared.codecs.training`)."""

    temporal_stride = 4

    def __init__(self, latent_channels: int = 48, spatial_stride: int = 8) -> None:
        super().__init__()
        if spatial_stride < 8 or spatial_stride % 4:
            raise UserError(f"spatial_stride is {spatial_stride}; two halvings of patches allow 8, 12, 16 ...")
        patch = spatial_stride // 4
        self.model = AutoencoderKLWan(
            base_dim=24, z_dim=latent_channels, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[True, True],
            patch_size=patch, in_channels=3 * patch**2, out_channels=3 * patch**2, scale_factor_spatial=spatial_stride,
            latents_mean=[0.0] * latent_channels, latents_std=[1.0] * latent_channels,
        )  # fmt: skip

    def coefficients(self, video: Tensor) -> Tensor:
        frames = 1 + -(-(video.shape[2] - 1) // self.temporal_stride) * self.temporal_stride
        return self.model.encode(extended(video, frames)).latent_dist.mode()

    def pixels(self, coefficients: Tensor) -> Tensor:
        return self.model.decode(coefficients).sample

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Write the latents' mean [C] and standard deviation, a scalar, into the model's config."""
        self.model.register_to_config(latents_mean=mean.tolist(), latents_std=[float(scale)] * len(mean))
