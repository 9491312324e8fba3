"""Demixers: a mix in, speech, effects and music out, the three streams that drive a video (arXiv 2506.08003).

    tracks = demixer("dsp").separate(mix, 16000)

`dsp` needs nothing, and knows the toy world; `spleeter` and `demucs-cdx23` are for real recordings; `stems` is for who
has the tracks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtv import separation_dsp
from shared.data.media import read_audio
from shared.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Audio = NDArray[np.float32]

TRACKS = ("speech", "effects", "music")
DEMUCS_RATE = 44100
DEMUCS_SOURCES = ("music", "effects", "speech")  # as MVSEP-CDX23 checkpoints return music, effect, dialog
DEMUCS_SEGMENT = 10  # seconds of a window where a model does not state its own


@dataclass(frozen=True)
class Stems:
    """What a mix consists of, on its scale: float32 [channels, N] of one shape (else ValueError) at `rate` Hz."""

    speech: Audio
    effects: Audio
    music: Audio
    rate: int

    def __post_init__(self) -> None:
        for name, track in self.items():
            if track.dtype != np.float32 or track.ndim != 2 or track.shape != self.speech.shape:
                found = f"{name} is {track.dtype} {track.shape}, speech {self.speech.shape}"
                raise ValueError(f"{found}; tracks are float32 [channels, N] of one shape")

    def items(self) -> tuple[tuple[str, Audio], ...]:
        """(name, samples) of each track, in the order of `TRACKS`."""
        return ("speech", self.speech), ("effects", self.effects), ("music", self.music)


class Demixer(ABC):
    """What takes a mix apart."""

    name: ClassVar[str]

    def separate(self, mix: Audio, rate: int) -> Stems:
        """Stems of float32 [1 or 2, N >= 1], finite (else ValueError). UserError for a sound that it cannot use."""
        if mix.dtype != np.float32 or mix.ndim != 2 or mix.shape[0] not in (1, 2) or not mix.shape[1]:
            raise ValueError(f"a mix of {mix.dtype} {mix.shape}; float32 [1 or 2 channels, N >= 1] is needed")
        if not np.isfinite(mix).all():
            raise ValueError("a mix with NaN or infinity; finite samples are needed")
        return self._separate(mix, rate)

    @abstractmethod
    def _separate(self, mix: Audio, rate: int) -> Stems: ...


class DspDemixer(Demixer):
    """Signal processing without weights (`mtv.separation_dsp`); the tracks sum to the mix. Rates from 16 kHz on."""

    name = "dsp"

    def _separate(self, mix: Audio, rate: int) -> Stems:
        _check_rate(self.name, rate)
        speech, effects, music = (track.astype(np.float32) for track in separation_dsp.split(mix, rate))
        return Stems(speech, effects, music, rate)


class SpleeterDemixer(Demixer):
    """Speech by Spleeter of two stems; what it leaves, parted without weights into hits and music
    (`mtv.separation_dsp.split_rest`), so that drums are hits. The tracks sum to the mix. Rates from 16 kHz on.

    UserError where its weights are not installed.
    """

    name = "spleeter"

    def __init__(self, device: str = "cpu") -> None:
        from shared.perception import spleeter

        spleeter.check()
        self.device = device

    def _separate(self, mix: Audio, rate: int) -> Stems:
        from shared.perception.spleeter import two_tracks

        _check_rate(self.name, rate)
        two = two_tracks(mix, rate, self.device)
        effects, music = (track.astype(np.float32) for track in separation_dsp.split_rest(two["others"], rate))
        return Stems(two["speech"], effects, music, rate)


class DemucsDemixer(Demixer):
    """The MVSEP-CDX23 models (dialog, effect, music) on the package demucs; several make an ensemble, their mean.

    They work on 44.1 kHz stereo: other sound is resampled, mono is doubled, and the result is brought back. Their
    outputs do not sum to the mix exactly. A checkpoint is a pickle and can run whatever its author put there: only the
    paths the user names are opened, and `tell` is called with a line that says so.
    UserError if demucs is not installed, or a file is missing or not such a model.
    """

    name = "demucs-cdx23"

    def __init__(
        self, checkpoints: Sequence[str | Path], device: str = "cpu", tell: Callable[[str], None] = print
    ) -> None:
        if not checkpoints:
            raise UserError("demixer demucs-cdx23: no checkpoint; give one or more MVSEP-CDX23 .th files")
        self.device = device
        self.models = [_load_demucs(Path(path), tell).to(device).eval() for path in checkpoints]

    def _separate(self, mix: Audio, rate: int) -> Stems:
        import torch
        from torchaudio.functional import resample

        with torch.inference_mode():
            stereo = resample(torch.from_numpy(mix).expand(2, -1), rate, DEMUCS_RATE)
            estimates = [_run_demucs(model, stereo, self.device) for model in self.models]
            stems = resample(torch.stack(estimates).mean(0), DEMUCS_RATE, rate).numpy()
        tracks = {name: _fit(track, len(mix), mix.shape[1]) for name, track in zip(DEMUCS_SOURCES, stems, strict=True)}
        return Stems(**tracks, rate=rate)


class StemsDemixer(Demixer):
    """The user's own three files, read at any rate and number of channels.

    Lengths may differ by a video frame, 1 / `fps` seconds, and are filled to the mix's. UserError names unfit files.
    """

    name = "stems"

    def __init__(self, speech: str | Path, effects: str | Path, music: str | Path, fps: float = 24.0) -> None:
        if not 0 < fps < float("inf"):
            raise UserError(f"demixer stems: {fps} frames per second; a positive number is needed")
        self.files, self.fps = [Path(file) for file in (speech, effects, music)], fps

    def read(self, rate: int, mono: bool = False) -> Stems:
        """Read the three files at `rate` Hz, as long as the longest. Mono files beside stereo ones are doubled."""
        sounds = [read_audio(path, rate, mono) for path in self.files]
        channels, lengths = zip(*(sound.shape for sound in sounds), strict=True)
        if max(lengths) - min(lengths) > rate / self.fps:
            what = ", ".join(f"{path} {count / rate:.3f} s" for path, count in zip(self.files, lengths, strict=True))
            raise UserError(f"{what}: tracks of different lengths; they may differ by one frame, {1 / self.fps:.3f} s")
        if set(channels) - {1, max(channels)}:
            what = ", ".join(f"{path} {count}" for path, count in zip(self.files, channels, strict=True))
            raise UserError(f"{what} channels; tracks of one number of channels, or mono, are needed")
        speech, effects, music = (_fit(sound, max(channels), max(lengths)) for sound in sounds)
        return Stems(speech, effects, music, rate)

    def _separate(self, mix: Audio, rate: int) -> Stems:
        tracks = self.read(rate, mono=len(mix) == 1)
        length, wanted = tracks.speech.shape[1], mix.shape[1]
        if abs(length - wanted) > rate / self.fps:
            what = f"{', '.join(map(str, self.files))}: last {length / rate:.3f} s, the mix {wanted / rate:.3f} s"
            raise UserError(f"{what}; at most one frame, {1 / self.fps:.3f} s, of difference is allowed")
        return Stems(**{name: _fit(track, len(mix), wanted) for name, track in tracks.items()}, rate=rate)


_KINDS: tuple[type[Demixer], ...] = (DspDemixer, SpleeterDemixer, DemucsDemixer, StemsDemixer)
DEMIXERS: dict[str, Callable[..., Demixer]] = {kind.name: kind for kind in _KINDS}


def demixer(name: str, **options: Any) -> Demixer:
    """Make the demixer called `name`; `options` are those of its class. UserError for one not in `DEMIXERS`."""
    if name not in DEMIXERS:
        raise UserError(f"demixer {name!r} is unknown; the known ones are {', '.join(DEMIXERS)}")
    return DEMIXERS[name](**options)


def _check_rate(name: str, rate: int) -> None:
    if rate < separation_dsp.LEAST_RATE:
        raise UserError(f"demixer {name}: sound at {rate} Hz; at least {separation_dsp.LEAST_RATE} Hz is needed")


def _fit(sound: Audio, channels: int, count: int) -> Audio:
    """`sound` cut or filled with silence to `count` samples; one channel is repeated, several are averaged to one."""
    if len(sound) != channels:
        sound = sound.mean(0, keepdims=True) if channels == 1 else np.repeat(sound[:1], channels, axis=0)
    return np.pad(sound[:, :count], ((0, 0), (0, max(0, count - sound.shape[1])))).astype(np.float32)


def _load_demucs(path: Path, tell: Callable[[str], None]) -> Any:
    """Open a checkpoint as demucs writes them: a dict of klass, args, kwargs, state."""
    import torch

    from shared.utils.finite import check_weights

    wanted = "an MVSEP-CDX23 .th file is needed"
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; {wanted}")
    tell(f"{path}: opening a pickle because you named it; it can run code of its author, so it must be one you trust")
    try:
        package = torch.load(path, "cpu", weights_only=False)
        model = package["klass"](*package["args"], **package["kwargs"])
        model.load_state_dict(package["state"])
    except ModuleNotFoundError as error:
        install = "pip install --constraint constraints.txt demucs"
        raise UserError(f"{path}: needs the package {error.name}; install it with: {install}") from error
    except Exception as error:  # a damaged pickle raises whatever the code raises that it happens to call
        raise UserError(f"{path}: not a checkpoint of demucs ({error}); {wanted}") from error
    sources, rate, channels = len(model.sources), getattr(model, "samplerate", DEMUCS_RATE), model.audio_channels
    if (sources, rate, channels) != (len(DEMUCS_SOURCES), DEMUCS_RATE, 2):
        what = f"a model of {sources} sources at {rate} Hz in {channels} channels"
        raise UserError(f"{path}: {what}, not of 3 at {DEMUCS_RATE} Hz in 2; {wanted}")
    check_weights(model, str(path))
    return model


def _run_demucs(model: Any, sound: Tensor, device: str) -> Tensor:
    """[2, N] -> [3, 2, N] on the CPU: windows of the model's own length, as trained, half overlapped, cross-faded."""
    import torch

    length = int(getattr(model, "segment", DEMUCS_SEGMENT) * DEMUCS_RATE)
    hop, count = length // 2, sound.shape[1]
    fade = torch.minimum(torch.arange(1, length + 1), torch.arange(length, 0, -1)).float()
    total, weight = torch.zeros(len(DEMUCS_SOURCES), 2, count), torch.zeros(count)
    for start in range(0, max(1, count - hop), hop):
        part = sound[:, start : start + length]
        window = torch.nn.functional.pad(part, (0, length - part.shape[1]))
        estimate = model(window[None].to(device))[0].cpu()
        end = start + part.shape[1]
        total[..., start:end] += (fade * estimate)[..., : end - start]
        weight[start:end] += fade[: end - start]
    return total / weight
