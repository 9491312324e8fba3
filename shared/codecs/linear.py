"""The embedded codecs: closed-form linear autoencoders (design, section 9), fitted in seconds, in the checkpoint.

Normalisation: latent_c = coefficient_c / (std_c ** a * k), a = `whitening`, k such that the variance over all channels
is 1. Variances span three decades: one global scale (a = 0) would drown fine but telling detail (a mouth, a flash) in
the diffusion's noise, full whitening (a = 1) give noise-like detail the weight of the scene. At a = 1/2 an error of
given size in the latents does the least harm to the decoded signal."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache
from typing import ClassVar, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import griffinlim

from shared.codecs.base import CausalVideo, UniformAudio, bounded
from shared.nn.memory_alignment import AlignedModelMixin
from shared.utils.errors import UserError
from shared.utils.mel import decibels, hann, mel_filters, sine_power
from shared.utils.ranges import check_range


class _LinearCodec(AlignedModelMixin, ModelMixin, ConfigMixin, ABC):
    """vectors [..., D] <-> normalised latents [..., C] through an orthonormal basis; always in fp32."""

    _keep_in_fp32_modules: ClassVar[list[str]] = ["mean", "basis", "scale"]
    latent_channels: int
    mean: Tensor
    basis: Tensor
    scale: Tensor

    def _register(self, dimension: int, channels: int, whitening: float) -> None:
        if not 0 < channels <= dimension:
            raise UserError(f"latent_channels is {channels}; a patch of {dimension} values allows 1 to {dimension}")
        if not 0.0 <= whitening <= 1.0:
            raise UserError(f"whitening is {whitening}; it must lie in [0, 1]")
        self.latent_channels = channels
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("basis", torch.eye(dimension, channels))
        self.register_buffer("scale", torch.ones(channels))

    @abstractmethod
    def _patches(self, clip: Tensor) -> Tensor:
        """One batch of clips as vectors [..., D]."""

    def _project(self, vectors: Tensor) -> Tensor:
        with torch.autocast(vectors.device.type, enabled=False):
            weights = self.basis.float() / self.scale.float()
            return vectors.float() @ weights - self.mean.float() @ weights

    def _unproject(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return (latents.float() * self.scale.float()) @ self.basis.float().T + self.mean.float()

    @classmethod
    def fit(cls, clips: Iterable[Tensor], **config: float) -> Self:
        """Fit a codec of this `config` to `clips`, as `encode` takes them: covariance in float64, then one `eigh`."""
        codec, count = cls(**config), 0
        sums = torch.zeros_like(codec.mean, dtype=torch.float64)
        moments = torch.zeros(len(sums), len(sums), dtype=torch.float64)
        for clip in clips:
            vectors = codec._patches(clip).reshape(-1, len(sums)).double()
            sums += vectors.sum(0)
            moments += vectors.T @ vectors
            count += len(vectors)
        if not count:
            raise UserError(f"{cls.__name__}.fit got no clips; it needs at least one")
        mean = sums / count
        variances, vectors = torch.linalg.eigh(moments / count - mean.outer(mean))
        variances, basis = (values.flip(-1)[..., : codec.latent_channels] for values in (variances, vectors))
        largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
        std = variances.clamp_min(1e-10 * variances[0].clamp_min(1e-10)).sqrt()
        scale = std**codec.config.whitening
        codec.mean.copy_(mean)
        codec.basis.copy_(basis * largest.sign())  # eigh leaves the sign open; fix it
        codec.scale.copy_(scale * (std / scale).square().mean().sqrt())
        return codec


class LinearVideoCodec(CausalVideo, _LinearCodec):
    """PCA of r x p x p x 3 patches (r frames, p pixels); implements `shared.codecs.base.VideoCodec`.
    Frame 0 is repeated r times; on decoding, latent 0 is the mean of its r frames. `motion_weight`: a patch's deviation
    from its mean over time counts this much more than that mean: a mouth moves few pixels by little."""

    @register_to_config
    def __init__(
        self, latent_channels: int = 48, temporal_stride: int = 4, spatial_stride: int = 8, whitening: float = 0.5,
        motion_weight: float = 3.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not motion_weight > 0:
            raise UserError(f"motion_weight is {motion_weight}; it must be above 0")
        self.temporal_stride, self.spatial_stride = temporal_stride, spatial_stride
        self._register(temporal_stride * spatial_stride**2 * 3, latent_channels, whitening)

    def encode(self, video: Tensor) -> Tensor:
        return rearrange(self._project(self._patches(video)), "b f h w c -> b c f h w")

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        self.check_frames(latents.shape[2], frames)
        p, r = self.spatial_stride, self.temporal_stride
        patches = self._unproject(rearrange(latents, "b c f h w -> b f h w c"))
        patches = self._weigh_motion(patches, 1 / self.config.motion_weight)
        video = rearrange(patches, "b f h w (r c p q) -> b c (f r) (h p) (w q)", r=r, p=p, q=p)
        video = torch.cat([video[:, :, :r].mean(2, keepdim=True), video[:, :, r:]], 2)
        return bounded(video[:, :, :frames], "video codec")

    def analysis(self) -> tuple[Tensor, Tensor]:
        """Weights [C, r * 3 * p * p] and bias [C] that turn the patches of a clip, (r c p q), into latents."""
        zero = self._weigh_motion(torch.zeros(1, len(self.mean)), self.config.motion_weight)
        unit = self._weigh_motion(torch.eye(len(self.mean)), self.config.motion_weight)
        bias = self._project(zero)
        return (self._project(unit) - bias).T, bias[0]

    def synthesis(self) -> tuple[Tensor, Tensor]:
        """Weights [r * 3 * p * p, C] and bias that turn latents into patches, (r c p q)."""
        latents = torch.cat([torch.zeros(1, self.latent_channels), torch.eye(self.latent_channels)])
        patches = self._weigh_motion(self._unproject(latents), 1 / self.config.motion_weight)
        return (patches[1:] - patches[:1]).T, patches[0]

    def _patches(self, clip: Tensor) -> Tensor:
        p, r = self.spatial_stride, self.temporal_stride
        frames, height, width = clip.shape[-3:]
        self.check_sides(height, width)
        index = torch.arange(1 - r, 1 + (self.latent_frames(frames) - 1) * r).clamp(0, frames - 1)
        clip = clip.index_select(2, index.to(clip.device))
        patches = rearrange(clip, "b c (f r) (h p) (w q) -> b f h w (r c p q)", r=r, p=p, q=p)
        return self._weigh_motion(patches, self.config.motion_weight)

    def _weigh_motion(self, patches: Tensor, weight: float) -> Tensor:
        frames = patches.unflatten(-1, (self.temporal_stride, -1))
        return torch.lerp(frames.mean(-2, keepdim=True), frames, weight).flatten(-2)


class LinearAudioCodec(UniformAudio, _LinearCodec):
    """PCA of log-mel patches, Griffin-Lim on the way back; implements `shared.codecs.base.AudioCodec`.
    Mel frame i is centred at (i + 1/2) hop, so the `frames_per_token` frames of token j fill exactly its interval.
    Levels are decibels of a full-scale sine, from `floor_db` up, divided by -`floor_db` / 2 and shifted to [-1, 1]."""

    @register_to_config
    def __init__(
        self, latent_channels: int = 64, sample_rate: int = 16000, hop: int = 160, frames_per_token: int = 4,
        n_fft: int = 512, n_mels: int = 64, floor_db: float = -70.0, whitening: float = 0.5, iterations: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        counts = {"sample_rate": sample_rate, "hop": hop, "frames_per_token": frames_per_token, "n_fft": n_fft}
        for name, value in counts.items():
            check_range(name, value, 1, 2**16 if name != "sample_rate" else 2**20)
        check_range("iterations", iterations, 0, 10_000)
        if not floor_db < 0:
            raise UserError(f"floor_db is {floor_db}; it must be below 0")
        self.sample_rate, self.samples_per_token = sample_rate, hop * frames_per_token
        self.latent_rate = sample_rate / self.samples_per_token
        self._register(frames_per_token * n_mels, latent_channels, whitening)

    def encode(self, audio: Tensor) -> Tensor:
        return self._project(self._patches(audio))

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        """[B, A, C] -> [B, 1, samples] in [-1, 1]; deterministic: Griffin-Lim starts from phase zero."""
        self.check_samples(latents.shape[1], samples)
        levels = rearrange(self._unproject(latents), "b a (k m) -> b m (a k)", k=self.config.frames_per_token)
        magnitude = functional.pad(self._linear_magnitude(levels), (1, 0), mode="replicate")
        cfg, half = self.config, self.config.hop // 2
        audio = griffinlim(
            magnitude, hann(cfg.n_fft, latents.device), cfg.n_fft, cfg.hop, cfg.n_fft, power=1.0, n_iter=cfg.iterations,
            momentum=0.99, length=latents.shape[1] * self.samples_per_token + half, rand_init=False,
        )  # fmt: skip
        return bounded(audio[:, None, half : half + samples], "audio codec")

    def levels(self, audio: Tensor) -> Tensor:
        """Log-mel levels [B, n_mels, 4A] in [-1, 1] of sound [B, 1, N]; -1 is `floor_db`, 1 is full scale."""
        cfg = self.config
        half = cfg.hop // 2
        tail = self.latent_tokens(audio.shape[-1]) * self.samples_per_token - audio.shape[-1]
        audio = functional.pad(audio[:, 0].float(), (half, tail + cfg.n_fft))
        window = hann(cfg.n_fft, audio.device)
        spectrum = torch.stft(audio, cfg.n_fft, cfg.hop, window=window, pad_mode="constant", return_complex=True)
        frames = (audio.shape[-1] - half - cfg.n_fft) // cfg.hop
        power = sine_power(spectrum[..., 1 : frames + 1], window)
        with torch.autocast(power.device.type, enabled=False):
            mel = _filters(cfg.n_fft, cfg.n_mels, self.sample_rate, audio.device).T @ power
        return 1 - 2 * decibels(mel, cfg.floor_db) / cfg.floor_db

    def _patches(self, clip: Tensor) -> Tensor:
        return rearrange(self.levels(clip), "b m (a k) -> b a (k m)", k=self.config.frames_per_token)

    def _linear_magnitude(self, levels: Tensor) -> Tensor:
        """Non-negative STFT magnitudes [B, bins, frames] whose mel powers are those of `levels`.
        Multiplicative updates (Lee and Seung 2001, Euclidean). The floor is silence: its power is taken off first."""
        cfg = self.config
        floor = 10 ** (cfg.floor_db / 10)
        mel = (10 ** ((1 - levels.clamp(-1, 1.2)) * cfg.floor_db / 20) - floor).clamp_min(0)
        filters = _filters(cfg.n_fft, cfg.n_mels, self.sample_rate, levels.device)
        with torch.autocast(mel.device.type, enabled=False):
            target, gram = filters @ mel, filters @ filters.T
            power = target.clone()
            for _ in range(30):
                power = power * target / (gram @ power).clamp_min(1e-20)
        return power.sqrt() * hann(cfg.n_fft, levels.device).sum() / 2


@cache
def _filters(n_fft: int, n_mels: int, sample_rate: int, device: torch.device) -> Tensor:
    return mel_filters(n_fft, n_mels, sample_rate).to(device)
