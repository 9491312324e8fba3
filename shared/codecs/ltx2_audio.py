"""LTX-2's audio autoencoder and vocoder (diffusers' `AutoencoderKLLTX2Audio`, `LTX2Vocoder`) as a codec."""

import math
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKLLTX2Audio
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.ltx2 import LTX2Vocoder, LTX2VocoderWithBWE
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import resample
from torchaudio.transforms import MelSpectrogram

from shared.codecs.base import bounded
from shared.codecs.library import LibraryCodec, load_library_model
from shared.nn.clock import LatentClock
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.portable import settle

#: The spectrogram that the autoencoder was trained on. No config holds these two; diffusers has them in
#: modular_pipelines/echo/encoders.py, the only place in which it encodes sound with this autoencoder.
N_FFT = 1024
FLOOR = 1e-5
NO_PAIR = "these two do not belong together"


class LTX2AudioCodec(LibraryCodec, ModelMixin):
    """`AutoencoderKLLTX2Audio` and its vocoder; implements `shared.codecs.base.AudioCodec`. 128 channels at 25 Hz.
    Sound is at the vocoder's rate (24 kHz; 48 kHz with bandwidth extension) and resampled to the autoencoder's 16 kHz.
    Its log-mel frames come every 10 ms; the autoencoder is causal in time: token 0 is mel frame 0, token j >= 1 is mel
    frames 4j - 3 .. 4j, so A tokens last 40 A - 30 ms. Latents [B, 8, A, 16] are packed to [B, A, 128], normalised by
    the weights' own statistics. Mono is doubled on the way in, and the mean of both channels on the way out."""

    kind, place = AutoencoderKLLTX2Audio, "audio_vae"
    STRIDE = 4  # mel frames per token

    def __init__(self, model: AutoencoderKLLTX2Audio, vocoder: LTX2Vocoder | LTX2VocoderWithBWE) -> None:
        super().__init__(model)
        self.vocoder = vocoder.requires_grad_(False).eval()
        config, voice = model.config, vocoder.config
        if config.causality_axis != "height" or len(config.ch_mult) != 3:
            what = f"causality_axis is {config.causality_axis!r} with {len(config.ch_mult)} values of ch_mult"
            raise UserError(f"{what}; the codec's clock is that of LTX-2: 'height' with 3")
        bins = config.mel_bins or 0
        if not bins or bins % self.STRIDE or config.latent_channels * bins // self.STRIDE != config.base_channels:
            what = f"{config.latent_channels} latent_channels of {config.mel_bins} mel_bins do not pack into"
            needed = "a quarter of their product is needed"
            raise UserError(f"{what} the {config.base_channels} values of base_channels; {needed}")
        if voice.in_channels != config.output_channels * bins:
            makes = f"the autoencoder makes {config.output_channels} x {bins}"
            raise UserError(f"the vocoder reads {voice.in_channels} channels; {makes}: {NO_PAIR}")
        self.sample_rate = voice.output_sampling_rate
        inside = voice.get("input_sampling_rate", self.sample_rate)  # before the bandwidth extension
        self.samples_per_frame = math.prod(voice.upsample_factors) * self.sample_rate // inside
        self.mel_rate = config.sample_rate / config.mel_hop_length
        if self.samples_per_frame * self.mel_rate != self.sample_rate:
            makes = f"makes {self.samples_per_frame} samples of a mel frame at {self.sample_rate} Hz"
            raise UserError(f"the vocoder {makes}; the autoencoder has {self.mel_rate:g} frames a second: {NO_PAIR}")
        self.latent_channels = len(model.latents_mean)
        self.latent_rate = self.mel_rate / self.STRIDE

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """See `LibraryCodec.from_pretrained`: the autoencoder there or in audio_vae/, the vocoder in vocoder/."""
        model = load_library_model((cls.kind,), source, ("", cls.place), **options)
        vocoder = load_library_model((LTX2Vocoder, LTX2VocoderWithBWE), source, ("vocoder",), **options)
        return cls._around(source, model, vocoder)

    @classmethod
    def library_models(cls, folder: Path) -> list[tuple[Any, Path]]:
        """See `LibraryCodec.library_models`: the vocoder, of one of two classes, lies inside."""
        voice = folder / "vocoder"
        wide = read_json(voice / "config.json").get("_class_name") == LTX2VocoderWithBWE.__name__
        return [*super().library_models(folder), (LTX2VocoderWithBWE if wide else LTX2Vocoder, voice)]

    def save_pretrained(self, folder: str | Path, max_shard_size: int | str = "10GB", **_: Any) -> None:
        """Write the autoencoder's own folder, with the vocoder's own folder inside it."""
        super().save_pretrained(folder, max_shard_size)
        self.vocoder.save_pretrained(str(Path(folder) / "vocoder"), max_shard_size=max_shard_size)
        settle(Path(folder))

    def latent_tokens(self, samples: int) -> int:
        return 1 + math.ceil((math.ceil(samples / self.samples_per_frame) - 1) / self.STRIDE)

    def clock(self, samples: int) -> LatentClock:
        return LatentClock.causal_video(self.latent_tokens(samples), self.mel_rate, self.STRIDE)

    def encode(self, audio: Tensor) -> Tensor:
        mel = self.levels(audio.to(self.device)).expand(-1, self.model.config.in_channels, -1, -1)
        packed = self._encoded(mel).transpose(1, 2).flatten(2)
        return (packed - self.model.latents_mean.float()) / self.model.latents_std.float()

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        if not 0 < samples <= self._mel_frames(latents.shape[1]) * self.samples_per_frame:
            raise UserError(f"{latents.shape[1]} audio tokens cannot be decoded to {samples} samples")
        packed = latents.to(self.device).float() * self.model.latents_std.float() + self.model.latents_mean.float()
        unpacked = packed.unflatten(2, (self.model.config.latent_channels, -1)).transpose(1, 2)
        with torch.autocast(self.device.type, enabled=False):
            audio = self.vocoder(self._decoded(unpacked))
        return bounded(audio[..., :samples].float().mean(1, keepdim=True), "audio codec")

    def levels(self, audio: Tensor) -> Tensor:
        """Log-mel levels [B, 1, 4A - 3, mel_bins] of sound [B, 1, N] at `sample_rate`, float32.
        Frame i is centred at i hops; the sound is mirrored at its ends, and what lacks of the last token is silence."""
        config, frames = self.model.config, self._mel_frames(self.latent_tokens(audio.shape[-1]))
        with torch.autocast(audio.device.type, enabled=False):
            sound = resample(audio[:, 0].float(), self.sample_rate, config.sample_rate)
            sound = functional.pad(sound, (0, max(0, N_FFT - sound.shape[-1])))
            transform = _spectrogram(config.sample_rate, config.mel_hop_length, config.mel_bins, audio.device)
            levels = transform(sound).clamp_min(FLOOR).log()[..., :frames]
        levels = functional.pad(levels, (0, frames - levels.shape[-1]), value=math.log(FLOOR))
        return levels.transpose(1, 2)[:, None]

    def _mel_frames(self, tokens: int) -> int:
        return self.STRIDE * (tokens - 1) + 1


@cache
def _spectrogram(rate: int, hop: int, bins: int, device: torch.device) -> MelSpectrogram:
    """Magnitudes in `bins` triangles of Slaney's mel scale and norm; torchaudio centres frames and mirrors ends."""
    slaney = {"mel_scale": "slaney", "norm": "slaney"}
    return MelSpectrogram(rate, n_fft=N_FFT, hop_length=hop, n_mels=bins, power=1.0, **slaney).to(device)
