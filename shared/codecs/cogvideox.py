"""CogVideoX's video autoencoder (diffusers' `AutoencoderKLCogVideoX`) as a codec."""

import math

from diffusers import AutoencoderKLCogVideoX
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from shared.codecs.base import CausalVideo, bounded, extended
from shared.codecs.library import LibraryCodec
from shared.nn.memory_alignment import AlignedModelMixin
from shared.utils.errors import UserError


class CogVideoXVideoCodec(CausalVideo, AlignedModelMixin, LibraryCodec, ModelMixin):
    """`AutoencoderKLCogVideoX`; implements `shared.codecs.base.VideoCodec`. 16 channels, 4 x 8 x 8.
    Latents are the posterior's mode times the config's scaling_factor. The model goes through a clip in chunks: 1 + 8
    frames (1 + 2 latents), then 8 (2) at a time. A clip of another length is filled by repeating its last frame, or its
    last latent (an even number of them would come out as too many frames), and cut again. The norms' statistics are a
    chunk's: a latent may depend on a later frame of its own chunk."""

    kind = AutoencoderKLCogVideoX

    def __init__(self, model: AutoencoderKLCogVideoX) -> None:
        super().__init__(model)
        config = model.config
        if config.temporal_compression_ratio != 4:
            raise UserError(f"temporal_compression_ratio is {config.temporal_compression_ratio}; it must be 4")
        if not config.scaling_factor > 0:
            raise UserError(f"scaling_factor is {config.scaling_factor}; a positive number is needed")
        self.latent_channels, self.temporal_stride = config.latent_channels, 4
        self.spatial_stride = 2 ** (len(config.block_out_channels) - 1)

    def encode(self, video: Tensor) -> Tensor:
        frames, height, width = video.shape[-3:]
        self.check_sides(height, width)
        latents = self._encoded(extended(video, 1 + 8 * math.ceil((frames - 1) / 8)))
        return latents[:, :, : self.latent_frames(frames)] * self.model.config.scaling_factor

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """[B, C, F, h, w] -> float32 [B, 3, frames, H, W] in [-1, 1]. Later latents are not looked at."""
        self.check_frames(latents.shape[2], frames)
        count = self.latent_frames(frames)
        latents = extended(latents[:, :, :count], count + (count + 1) % 2).to(self.device).float()
        video = self._decoded(latents / self.model.config.scaling_factor)
        return bounded(video[:, :, :frames].float(), "video codec")
