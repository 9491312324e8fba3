"""Whose voice it is: embedders of voices, whose vectors lie near each other where one person speaks.

    embedder = speaker_embedder("resemblyzer")       # or "pitch", or a folder of transformers
    vectors = embedder.embed(sound, [(0, 90), (120, 300)])

`pitch` is signal processing, for voices of which one is high and one is low. `resemblyzer` is the network of the
package Resemblyzer (Apache-2.0; GE2E, Wan et al. 2018, arXiv 1710.10467), which `make perception` fetches. A folder
holds an x-vector network of transformers, as WavLM's (arXiv 2110.13900) or wav2vec2's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from shared.perception.installed import find_weights
from shared.perception.pitch import HOP, RATE, frame_count, pitch_of
from shared.perception.voices import STEP, speech_probability
from shared.perception.weights import reading
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.levels import SILENCE_DBFS
from shared.utils.mel import hann

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Sound = NDArray[np.float32]
Span = tuple[int, int]

MODEL = "resemblyzer"
KINDS = ("WavLM", "Wav2Vec2", "UniSpeechSat", "Wav2Vec2Conformer", "Data2VecAudio")
"""Models of transformers that have a class KIND + "ForXVector" and hear samples."""
WANTED = f"a folder of transformers with safetensors, preprocessor_config.json and a {', '.join(KINDS)}ForXVector"
BELOW_LOUDEST = 25.0
"""dB below the loudest hundredth of the frames down to which clean sound is speech."""
LEVEL_WINDOW = 400  # samples
LEAST_PROBABILITY = 0.5
LEAST_LIKENESS = 0.5
"""Of a frame to itself one period later, from which it has a pitch."""
N_FFT, MELS, LEVEL = 400, 40, 10 ** (-30 / 20)
"""Of Resemblyzer: samples of a spectrum, its bands, and the RMS to which quieter sound is raised."""
APART, X_APART = 0.58, (2 - 2 * 0.86) ** 0.5
"""Distance of two speakers by Resemblyzer, chosen on telephone prompts of four people, and by x-vectors: the cosine of
0.86 that the documentation of transformers has."""
SHORTEST = 8000
"""Samples that an x-vector network is given at least: shorter sound is repeated."""


class SpeakerEmbedder(ABC):
    """Vectors of voices. Frames have HOP samples at RATE, a span is its first frame and its end.

    `pause`: frames of silence that do not part a stretch of speech; `longest`: frames that are embedded as one;
    `enough`: frames from which on a stretch may found a speaker; `least`: frames of speech that a speaker has;
    `apart`: the least distance of two speakers.
    """

    pause: int
    longest: int
    enough: int
    least: int
    apart: float

    @abstractmethod
    def active(self, sound: Sound) -> Mask:
        """Frames [T] of mono `sound` [N] in which somebody speaks."""

    @abstractmethod
    def embed(self, sound: Sound, spans: Sequence[Span]) -> Array:
        """Vectors [len(spans), D] of the voice in spans of `sound` [N]; NaN where there is nothing to go by."""


class PitchEmbedder(SpeakerEmbedder):
    """The median of the pitch, in octaves. Speech is what is loud: for clean sound, as that of the puppets. Two voices
    less than 0.4 octaves apart are one to it, for a voice moves as far by itself."""

    pause, longest, enough, least, apart = 3, 50, 5, 25, 0.4

    def active(self, sound: Sound) -> Mask:
        return loud(sound)

    def embed(self, sound: Sound, spans: Sequence[Span]) -> Array:
        pitch = pitch_of(sound)
        octaves = np.where(pitch.likeness >= LEAST_LIKENESS, np.log2(pitch.hertz), np.nan)
        voiced = [octaves[first:end][np.isfinite(octaves[first:end])] for first, end in spans]
        return np.array([np.median(one) if len(one) else np.nan for one in voiced]).reshape(-1, 1)


class NetworkEmbedder(SpeakerEmbedder):
    """Unit vectors by a network that takes mono sound [N] to [D]; speech is what Silero's detector hears."""

    pause, longest, enough, least = 20, 160, 60, 80

    def __init__(self, network: Callable[[Tensor], Tensor], apart: float) -> None:
        self.network, self.apart = network, apart

    def active(self, sound: Sound) -> Mask:
        middles = np.arange(frame_count(len(sound))) * HOP + HOP // 2
        probability = speech_probability(sound) if len(sound) else np.zeros(1)
        found: Mask = probability[np.minimum(middles // STEP, len(probability) - 1)] >= LEAST_PROBABILITY
        return found

    @torch.inference_mode()
    def embed(self, sound: Sound, spans: Sequence[Span]) -> Array:
        values = torch.from_numpy(np.ascontiguousarray(sound))
        vectors = [self.network(values[first * HOP : end * HOP]) for first, end in spans]
        return np.array([functional.normalize(one.double(), dim=0).numpy() for one in vectors])


def loud(sound: Sound) -> Mask:
    """Frames [T] of mono `sound` [N] at RATE above silence that are not far below the loudest ones."""
    middles = np.arange(frame_count(len(sound))) * HOP + HOP // 2
    if not len(middles):
        return np.zeros(0, bool)
    energy = np.cumsum(np.pad(np.asarray(sound, np.float64) ** 2, (1 + LEVEL_WINDOW // 2, LEVEL_WINDOW // 2 + HOP)))
    level = 10 * np.log10(np.maximum((energy[middles + LEVEL_WINDOW] - energy[middles]) / LEVEL_WINDOW, 1e-12))
    found: Mask = level > max(SILENCE_DBFS, float(np.percentile(level, 99)) - BELOW_LOUDEST)
    return found


class Resemblyzer(nn.Module):
    """Sound [N] -> [256]: power on 40 of Slaney's mel bands, three layers of LSTM, a layer with ReLU. Names and shapes
    of the weights are those of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        bands = melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, MELS, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("bands", bands, persistent=False)
        self.bands: Tensor

    def forward(self, sound: Tensor) -> Tensor:
        raised = sound * (LEVEL / sound.square().mean().sqrt().clamp_min(1e-6)).clamp_min(1.0)
        window = hann(N_FFT, sound.device)
        spectrum = torch.stft(raised, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
        _, (hidden, _) = self.lstm((self.bands.T @ spectrum.abs().square()).T[None])
        vector: Tensor = functional.relu(self.linear(hidden[-1, 0]))
        return vector


def speaker_embedder(name: str) -> SpeakerEmbedder:
    """Make the embedder "pitch" or "resemblyzer", or load the x-vector network in the folder `name`. UserError where
    weights or a package are missing."""
    if name == "pitch":
        return PitchEmbedder()
    embedder = _resemblyzer() if name == MODEL else _x_vectors(Path(name))
    speech_probability(np.zeros(STEP, np.float32))  # so that a package that is missing is told before hours of work
    return embedder


@cache
def _resemblyzer() -> SpeakerEmbedder:
    held = torch.load(find_weights(MODEL), map_location="cpu", weights_only=True)["model_state"]
    model = Resemblyzer()
    model.load_state_dict({name: value for name, value in held.items() if not name.startswith("similarity")})
    model.eval()
    return NetworkEmbedder(model, APART)


def _x_vectors(folder: Path) -> SpeakerEmbedder:
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"embedder {folder}: is unknown; give pitch, {MODEL}, or {WANTED}, or a pipeline of pyannote.audio"
        )
    name = "".join(read_json(config).get("architectures") or ["no class"])
    if name not in [f"{kind}ForXVector" for kind in KINDS]:
        raise UserError(f"embedder {folder}: holds {name}; {WANTED} is needed")
    kind: Any = getattr(transformers, name)
    with reading(folder, kind, "network of x-vectors", WANTED):
        extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
        model = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True).float().eval()
    if extractor.sampling_rate != RATE:
        raise UserError(f"embedder {folder}: hears {extractor.sampling_rate} Hz; one of {RATE} Hz is needed")

    def vector(sound: Tensor) -> Tensor:
        filled = sound.repeat(-(-SHORTEST // len(sound))).numpy()
        found: Tensor = model(**extractor([filled], sampling_rate=RATE, return_tensors="pt")).embeddings[0]
        return found

    return NetworkEmbedder(vector, X_APART)
