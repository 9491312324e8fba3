"""Stable Audio's autoencoder (diffusers' `AutoencoderOobleck`) as a codec: waveform in, waveform out."""

from diffusers import AutoencoderOobleck
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import functional

from shared.codecs.base import UniformAudio, bounded
from shared.codecs.library import LibraryCodec
from shared.nn.memory_alignment import AlignedModelMixin
from shared.utils.errors import UserError


class OobleckAudioCodec(UniformAudio, AlignedModelMixin, LibraryCodec, ModelMixin):
    """`AutoencoderOobleck`; implements `shared.codecs.base.AudioCodec`. 64 channels at 21.5 Hz, sound at 44.1 kHz.
    Latents are the posterior's mean as it is: the model was trained to a unit normal, and diffusers scales it no
    further. Mono becomes two equal channels on the way in; on the way out it is the mean of both."""

    kind = AutoencoderOobleck
    #: Tiles of `low_memory` and their overlap, in tokens (30 s, 3 s): the library's own do not begin on a token.
    TILE, OVERLAP = 640, 64

    def __init__(self, model: AutoencoderOobleck) -> None:
        super().__init__(model)
        if any(ratio % 2 for ratio in model.config.downsampling_ratios):
            raise UserError(f"downsampling_ratios are {model.config.downsampling_ratios}; even ones are needed")
        self.sample_rate, self.samples_per_token = model.config.sampling_rate, model.hop_length
        self.latent_channels = model.config.decoder_input_channels
        self.latent_rate = self.sample_rate / self.samples_per_token
        model.tile_sample_min_length = self.TILE * self.samples_per_token
        model.tile_sample_overlap = self.OVERLAP * self.samples_per_token
        model.tile_latent_min_length, model.tile_latent_overlap = self.TILE, self.OVERLAP

    def encode(self, audio: Tensor) -> Tensor:
        tail = self.latent_tokens(audio.shape[-1]) * self.samples_per_token - audio.shape[-1]
        audio = functional.pad(audio, (0, tail)).expand(-1, self.model.config.audio_channels, -1)
        return self._encoded(audio).transpose(1, 2)

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        self.check_samples(latents.shape[1], samples)
        audio = self._decoded(latents.transpose(1, 2))
        return bounded(audio[..., :samples].float().mean(1, keepdim=True), "audio codec")
