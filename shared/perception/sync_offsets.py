"""Offsets of a video's sound by Synchformer: what is done to pictures and sound, and what its classes mean."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchaudio.transforms import MelSpectrogram

from shared.perception.synchformer import MOST_OFFSET, OFFSETS, Synchformer
from shared.perception.weights import load_weights
from shared.utils.fingerprint import weights_fingerprint

FPS, RATE = 25, 16000
WINDOW, HOP, FFT = 400, 160, 1024  # samples
MEAN, SPREAD = -4.2677393, 4.5689974  # of the log-mels of AudioSet, as published; twice the spread becomes 1


class SyncOffsets:
    """Offset of the sound in the first and in the last 14 segments of a clip."""

    def __init__(self, model: Synchformer, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.device, self.batch = model.to(device).eval(), device, batch
        sizes = model.sizes
        self.step = sizes.frames // 2
        self.least_frames = sizes.frames + (sizes.segments - 1) * self.step
        self.mel = MelSpectrogram(RATE, FFT, WINDOW, HOP, n_mels=sizes.mels).to(device)

    @classmethod
    def load(cls, path: Path, device: str = "cpu", batch: int = 16) -> SyncOffsets:
        """Load the weights in a safetensors file. UserError as `load_weights`."""
        return cls(load_weights(Synchformer(), path), device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to pictures and sound."""
        sizes = self.model.sizes
        return {
            "fps": FPS, "rate": RATE, "size": [sizes.side] * 2, "range": [-1, 1], "frames": sizes.frames,
            "scaling": "shorter side, bicubic with anti-aliasing, centre crop", "step": self.step,
            "segments": sizes.segments, "mel": [FFT, WINDOW, HOP, sizes.mels, MEAN, SPREAD], "where": "both ends",
            "offsets": [OFFSETS, MOST_OFFSET],
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @cached_property
    def offsets(self) -> NDArray[np.float64]:
        """Seconds by which the sound comes too early, by class [OFFSETS]."""
        return np.linspace(-MOST_OFFSET, MOST_OFFSET, OFFSETS)

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8], sound: NDArray[np.float32]) -> list[float]:
        """Seconds by which the sound [N] at 16 kHz comes before the frames uint8 [T, H, W, 3] at 25 per second, at the
        start and at the end; the shorter of both counts. ValueError for less than 14 segments."""
        sizes, length = self.model.sizes, RATE // FPS
        count = (min(len(frames), len(sound) // length) - sizes.frames) // self.step + 1
        if count < sizes.segments:
            seconds = self.least_frames / FPS
            raise ValueError(f"{seconds:g} s of pictures and sound are needed")
        places = range(count)
        ends = [*places[: sizes.segments], *places[max(sizes.segments, count - sizes.segments) :]]
        seen = {at: tokens for at, tokens in zip(ends, self._see(frames, ends), strict=True)}
        heard = {at: tokens for at, tokens in zip(ends, self._hear(sound, ends), strict=True)}
        logits = [
            self.model.compare(*(torch.stack([tokens[at] for at in half])[None] for tokens in (seen, heard)))
            for half in (places[: sizes.segments], places[-sizes.segments :])
        ]
        return [float(self.offsets[int(one.argmax())]) for one in logits]

    def _see(self, frames: NDArray[np.uint8], starts: list[int]) -> list[Tensor]:
        """Tokens of the segments that begin at `starts` steps."""
        sizes, tokens = self.model.sizes, []
        for start in range(0, len(starts), self.batch):
            part = starts[start : start + self.batch]
            cut = [self._pictures(frames[at * self.step :][: sizes.frames]) for at in part]
            tokens += [*self.model.vfeat_extractor(torch.stack(cut).transpose(1, 2))]
        return tokens

    def _pictures(self, frames: NDArray[np.uint8]) -> Tensor:
        """Scale until the shorter side fits, cut centrally and normalise, [T, 3, side, side]."""
        side = self.model.sizes.side
        values = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float()
        height, width = values.shape[2:]
        shape = [max(side, side * length // min(height, width)) for length in (height, width)]
        scaled = functional.interpolate(values, shape, mode="bicubic", antialias=True)
        top, left = (round((length - side) / 2) for length in shape)
        cut = scaled[:, :, top : top + side, left : left + side]
        return cut.round().clamp(0, 255) / 127.5 - 1

    def _hear(self, sound: NDArray[np.float32], starts: list[int]) -> list[Tensor]:
        """Tokens of the sound of the segments that begin at `starts` steps."""
        sizes, length = self.model.sizes, RATE // FPS
        samples, tokens = torch.from_numpy(sound).to(self.device), []
        for start in range(0, len(starts), self.batch):
            cut = [samples[at * self.step * length :][: sizes.frames * length] for at in starts[start:][: self.batch]]
            levels = torch.log(self.mel(torch.stack(cut)) + 1e-6)[..., : sizes.steps]
            levels = functional.pad(levels, (0, sizes.steps - levels.shape[-1]))  # with zeros, as published
            tokens += [*self.model.afeat_extractor((levels - MEAN) / (2 * SPREAD))]
        return tokens
