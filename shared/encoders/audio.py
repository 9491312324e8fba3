"""Features of a sound track, one group per video frame: what every encoder of them does, and log-mel levels.

Row k of the features describes the sound around time k / fps, the time of video frame k, and is centred on it (MTV,
arXiv 2506.08003, "Audio features"; docs/design.md section 7). A frame sees those of k - 2 .. k + 2, zeros outside the
clip. A silent track is exact zeros: wav2vec2's own normalisation would lift noise at -60 dB to full scale."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from shared.utils import hub
from shared.utils.classes import NamedClass, load_class
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.finite import check_weights
from shared.utils.folder_check import CheckedModelMixin, check_folder
from shared.utils.levels import is_silent
from shared.utils.mel import hann, mel_filters, sine_power
from shared.utils.ranges import check_range
from shared.utils.weights_folder import check_numbers

#: Public encoders by the name that `audio_features` takes.
FROZEN = {
    "wav2vec2": "shared.encoders.wav2vec2:Wav2Vec2Features",
    "ast": "shared.encoders.spectrogram_transformer:SpectrogramFeatures",
}
KNOWN_FEATURES = ("log-mel", *(f"{name}:PATH_OR_ID" for name in FROZEN), "package.module:Class@PATH_OR_ID")


@runtime_checkable
class AudioFeatures(Protocol):
    """Sound -> features [B, frames, window, layers, dim], deterministic, without gradient.
    A silent clip (below -45 dBFS) gives exact zeros. Each clip of a batch is encoded as if it were alone."""

    sample_rate: int
    window: int
    layers: int
    dim: int

    def encode(self, audio: Tensor, frames: int, fps: float) -> Tensor:
        """[B, 1, N] in [-1, 1] at `sample_rate` -> float32 [B, frames, window, layers, dim], on the encoder's device.
        The sound is cut, or padded, to frames / fps seconds. Of a part alone, the ends would lose their neighbours."""


class FrameFeatures(CheckedModelMixin, ModelMixin, ConfigMixin, ABC):
    """The part of `AudioFeatures` that is the same for all: checks, silence, windows. Always in fp32 outside."""

    window: int = 5
    sample_rate: int
    layers: int
    dim: int
    #: Whether a silent clip is zeros, and what a window sees beyond the ends: zeros, or the first and last features.
    zero_silence: ClassVar[bool] = True
    repeat_ends: ClassVar[bool] = False

    @abstractmethod
    def _frame_features(self, audio: Tensor, frames: int, fps: float) -> Tensor:
        """Audible sound [b, 1, round(frames / fps * sample_rate)] -> one row per frame [b, frames, layers, dim]."""

    @torch.no_grad()
    def encode(self, audio: Tensor, frames: int, fps: float) -> Tensor:
        """See `AudioFeatures.encode`. ValueError if `audio` is not [B, 1, N] or not finite, or without frames."""
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio has shape {list(audio.shape)}; [B, 1, N] is needed")
        if frames < 1 or not 0 < fps < math.inf:
            raise ValueError(f"{frames} frames at {fps} per second; both must be positive")
        if not torch.isfinite(audio).all():
            raise ValueError("the sound has NaN or infinity; finite samples in [-1, 1] are needed")
        samples = round(frames / fps * self.sample_rate)
        audio = functional.pad(audio[..., :samples].float(), (0, max(0, samples - audio.shape[-1])))
        out = torch.zeros(len(audio), frames, self.window, self.layers, self.dim, device=self.device)
        heard = range(len(audio))
        if audible := [i for i in heard if not (self.zero_silence and is_silent(audio[i].cpu().numpy()))]:
            with torch.autocast(self.device.type, enabled=False):
                features = self._frame_features(audio[audible].to(self.device), frames, fps)
            out[audible] = windows(features.float(), self.window, self.repeat_ends)
        return out


class LogMel(FrameFeatures):
    """The embedded default, without weights: log-mel levels of `parts_per_frame` equal parts of each frame.
    The parts of row k fill [k - 1/2, k + 1/2) / fps without gap or overlap. A level is the mean power of its part
    (spectra at most `HOP` apart), in decibels of a full-scale sine, as 1 - dB / `floor_db`: 0 at the floor and below, 1
    at full scale. layers is 1, dim is parts_per_frame * n_mels, mels running fastest."""

    _keep_in_fp32_modules: ClassVar[list[str]] = ["filters"]
    HOP = 0.01  # s

    @register_to_config
    def __init__(
        self, sample_rate: int = 16000, parts_per_frame: int = 4, n_fft: int = 512, n_mels: int = 64,
        floor_db: float = -70.0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_range("parts_per_frame", parts_per_frame, 1, 256)
        if not floor_db < 0:
            raise UserError(f"floor_db is {floor_db}; it must be below 0")
        self.sample_rate, self.layers, self.dim = sample_rate, 1, parts_per_frame * n_mels
        self.register_buffer("filters", mel_filters(n_fft, n_mels, sample_rate))
        self.filters: Tensor

    def _frame_features(self, audio: Tensor, frames: int, fps: float) -> Tensor:
        cfg = self.config
        part = 1 / (fps * cfg.parts_per_frame)
        spectra = max(1, math.ceil(part / self.HOP - 1e-9))  # per part
        steps = torch.arange(frames * cfg.parts_per_frame * spectra, dtype=torch.float64)
        centres = (steps + 0.5) * part / spectra - 0.5 / fps
        samples = (centres * self.sample_rate).round().long().to(audio.device)
        # 4096 spectra at a time: a long track must not be held 512 times over
        power = torch.cat([self._mel_power(audio[:, 0], some) for some in samples.split(4096)], 1)
        power = power.unflatten(1, (-1, spectra)).mean(2)
        # relative to the floor, so that what lies below it is exactly 0
        levels = (power / 10 ** (cfg.floor_db / 10)).clamp_min(1).log10() * (-10 / cfg.floor_db)
        return levels.reshape(len(audio), frames, 1, self.dim)

    def _mel_power(self, audio: Tensor, centres: Tensor) -> Tensor:
        """Sound [b, N] -> mel power [b, len(centres), n_mels] around samples `centres`, silence outside."""
        n_fft = self.config.n_fft
        first, last = int(centres[0]) - n_fft // 2, int(centres[-1]) + n_fft // 2
        audio = functional.pad(audio[:, max(0, first) : max(0, last)], (max(0, -first), max(0, last - audio.shape[1])))
        pieces = audio.unfold(1, n_fft, 1)[:, centres - centres[0]]
        window = hann(n_fft, audio.device)
        return sine_power(torch.fft.rfft(pieces * window), window) @ self.filters.float()


class FrozenFeatures(FrameFeatures):
    """A frozen encoder of transformers inside a checkpoint folder. A subclass names transformers' classes.
    `from_transformers` takes a public model; saved, it has its preprocessor's settings beside it. Never trained."""

    config_type: ClassVar[Any]
    model_type: ClassVar[Any]
    preprocessor_type: ClassVar[Any]
    model: Any

    @register_to_config
    def __init__(self, model_config: dict[str, Any], preprocessor_config: dict[str, Any]) -> None:
        super().__init__()
        self.model = self.model_type(self.config_type.from_dict(model_config))
        self._check_preprocessor(preprocessor_config)
        self.preprocessor = self.preprocessor_type.from_dict(preprocessor_config)
        self.sample_rate = self.preprocessor.sampling_rate
        self.layers, self.dim = self.model.config.num_hidden_layers, self.model.config.hidden_size
        self.requires_grad_(False).eval()

    @classmethod
    def from_transformers(cls, source: str) -> Self:
        """Load transformers' folder or hub id; safetensors only. UserError: another kind, or something is missing."""
        wanted = "a folder with config.json, preprocessor_config.json and model.safetensors, or a hub id, is needed"
        kind = cls.config_type.model_type
        if (found := hub.find_configs(source, f"{kind} model", [""], wanted)[""].get("model_type")) != kind:
            raise UserError(f"{source}: holds a model of type {found!r}, not {kind!r}; {wanted}")
        folder = hub.local_folder(source, [""])
        settings = folder / "preprocessor_config.json"
        if not settings.is_file():
            raise UserError(f"{source}: {settings.name} is missing; {wanted}")
        cls._check_preprocessor(read_json(settings), f"{settings}: ")
        check_folder(cls.model_type, folder, f"{source}: ")
        try:
            preprocessor = cls.preprocessor_type.from_pretrained(folder)
            model = cls.model_type.from_pretrained(folder, use_safetensors=True)
        except (OSError, TypeError, ValueError, SafetensorError) as error:
            raise UserError(f"{source}: no {kind} model ({hub.first_line(error)}); {wanted}") from error
        with torch.device("meta"):  # the weights are at hand already
            features = cls(model_config=model.config.to_dict(), preprocessor_config=preprocessor.to_dict())
        features.model = model.float().requires_grad_(False).eval()
        return features

    @classmethod
    def _check_preprocessor(cls, config: Mapping[str, Any], where: str = "preprocessor_config: ") -> None:
        """Raise UserError for values of another type than the preprocessor's own, and for absurd ones."""
        check_numbers(config, f"{where}this file")
        for name, own in cls.preprocessor_type().to_dict().items():
            value = config.get(name, own)
            if own is not None and type(value) is not type(own) and {type(value), type(own)} != {int, float}:
                raise UserError(f"{where}{name} is {value!r:.80}; a value like {own!r} is needed")
        check_range(f"{where}sampling_rate", config.get("sampling_rate", 16000), 1, 2**20)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever `mode`: a trainer must not bring dropout into the features."""
        return super().train(False)

    def _prepared(self, audio: Tensor) -> Tensor:
        """Apply the model's own preprocessor to [b, 1, n]; on the model's device and in its dtype."""
        clips = list(audio[:, 0].cpu().numpy())
        values = self.preprocessor(clips, sampling_rate=self.sample_rate, return_tensors="pt")["input_values"]
        return values.to(self.device, self.dtype)

    def _hidden_states(self, values: Tensor) -> Tensor:
        """Return the outputs of all layers [b, layers, tokens, dim], without the input of the first."""
        return torch.stack(self.model(values, output_hidden_states=True).hidden_states[-self.layers :], 1)


def audio_features(spec: str) -> FrameFeatures:
    """Load the encoder that `spec` names. UserError: none of `KNOWN_FEATURES`, or no such model is there."""
    name, _, source = spec.partition(":")
    if spec == "log-mel":
        return LogMel()
    # by name, and late: transformers' models take seconds, and the default needs none of them
    if name in FROZEN and source:
        return load_class(FROZEN[name]).from_transformers(source)
    if named := NamedClass.parse(spec):
        return load_class(named.kind).from_pretrained(hub.local_folder(named.source)).eval()
    raise UserError(f"no audio features {spec!r}; known are {', '.join(KNOWN_FEATURES)}")


def load_track_encoders(specs: Mapping[str, str], device: torch.device | str = "cpu") -> dict[str, FrameFeatures]:
    """Load the encoder of each track, as `audio_features` names it, on `device`; tracks of one name share one.
    UserError as `audio_features`, or for a weight that is not finite."""
    named = {spec: audio_features(spec).to(device) for spec in sorted(set(specs.values()))}
    for spec, encoder in named.items():
        check_weights(encoder, f"tracks.encoders {spec}")
    return {track: named[spec] for track, spec in specs.items()}


def interpolate_features(features: Tensor, positions: Tensor) -> Tensor:
    """`features` [b, n, ...] at fractional indices [m], linear between neighbours, the ends beyond: [b, m, ...]."""
    positions = positions.clamp(0, features.shape[1] - 1)
    low = positions.floor().long()
    share = (positions - low).to(features.device, features.dtype).view(-1, *[1] * (features.ndim - 2))
    low = low.to(features.device)
    return torch.lerp(features[:, low], features[:, (low + 1).clamp_max(features.shape[1] - 1)], share)


def windows(features: Tensor, window: int, repeat_ends: bool = False) -> Tensor:
    """[b, frames, layers, dim] -> [b, frames, window, layers, dim]: each frame with its neighbours."""
    reach = window // 2
    if repeat_ends:
        places = torch.arange(features.shape[1])[:, None] + torch.arange(-reach, reach + 1)
        return features[:, places.clamp(0, features.shape[1] - 1)]
    return functional.pad(features, (0, 0, 0, 0, reach, reach)).unfold(1, window, 1).movedim(-1, 2)
