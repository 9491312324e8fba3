"""Videos, pictures, sounds and texts in one space by ImageBind: what is done to them before, and what is averaged.

As ImageBind's own reader does it: clips of 2 s, of a video the first and the last frame of each in three crops, of a
sound 128 log-mels of Kaldi; the embeddings of all clips and crops are averaged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchaudio.compliance import kaldi

from shared.perception.image_text import MEAN, STD
from shared.perception.imagebind import FRAMES, ImageBind, Sizes
from shared.perception.weights import load_weights, weights_file
from shared.utils.fingerprint import weights_fingerprint
from shared.utils.weights_folder import read_header

RATE, CLIP = 16000, 2.0  # Hz, and seconds of a clip
SOUND_MEAN, SOUND_STD = -4.268, 9.138  # of the log-mels of AudioSet, as published
WINDOW, HOP = 25.0, 10.0  # ms
CROPS = 3
LEFT = ("depth", "thermal", "imu")
"""Modalities of the public file that nothing here reads."""
_PARTS = ("preprocessors", "trunks", "heads", "postprocessors")
_LEFT = tuple(f"modality_{part}.{name}." for part in _PARTS for name in LEFT)
_MASK = "modality_preprocessors.text.mask"  # in the public file; it follows from the number of tokens

Frames = NDArray[np.uint8]
Rows = NDArray[np.float32]
_log = logging.getLogger(__name__)


def starts(duration: float, count: int, published: bool) -> list[float]:
    """Seconds at which `count` clips begin, evenly from the start to the end; as `published` they end before it, by
    a `count`-th of the way. Of what is shorter than a clip all begin at 0."""
    latest = max(0.0, duration - CLIP)
    return [latest * at / (count if published else max(1, count - 1)) for at in range(count)]


def ends_of(fps: float, frames: int, begin: float) -> tuple[int, int]:
    """First and last frame of the clip that begins at `begin` s, of `frames` at `fps`."""
    first, after = (math.ceil(at * fps - 1e-6) for at in (begin, begin + CLIP))
    return first, min(after, frames) - 1


def levels(sound: NDArray[np.float32], sizes: Sizes) -> Tensor:
    """Normalised log-mels [1, mels, steps] of sound [N] of 25 ms or more at 16 kHz, cut or filled with zeros, which are
    louder than silence, as published."""
    samples = torch.from_numpy(sound)[None]
    found = kaldi.fbank(
        samples - samples.mean(), sample_frequency=RATE, num_mel_bins=sizes.mels, window_type="hanning",
        frame_length=WINDOW, frame_shift=HOP, htk_compat=True, use_energy=False, dither=0.0,
    ).T[:, : sizes.steps]  # fmt: skip
    found = functional.pad(found, (0, sizes.steps - found.shape[1]))
    return ((found - SOUND_MEAN) / SOUND_STD)[None]


class ImageBindEncoder:
    """Embeds videos, pictures, sounds and texts; rows are of length 1."""

    rate = RATE

    def __init__(self, model: ImageBind, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.device, self.batch = model.to(device).eval(), device, batch
        self.sizes = model.sizes
        self._of_clips: WeakKeyDictionary[Any, dict[Any, Rows]] = WeakKeyDictionary()

    @classmethod
    def load(cls, path: Path, device: str = "cpu", batch: int = 16) -> ImageBindEncoder:
        """Load the weights in a safetensors file, or the only one in a folder; those of depth, thermal pictures and
        motion are left, and it says how many. UserError as `load_weights`."""
        with torch.device("meta"):  # a billion random numbers would be overwritten
            model = ImageBind()
        load_weights(model.to_empty(device="cpu"), path, (*_LEFT, _MASK))
        file = weights_file(path)
        if left := sum(name.startswith(_LEFT) for name in read_header(file)):
            _log.warning("%s: %d weights of %s are left; nothing here reads them", file, left, ", ".join(LEFT))
        return cls(model, device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to videos, single pictures and sounds."""
        sizes, pixels = self.sizes, {"size": [self.sizes.side] * 2, "mean": list(MEAN), "std": list(STD)}
        video = "shorter side, bilinear without anti-aliasing, 3 crops along the longer side"
        picture = "shorter side, bicubic with anti-aliasing, centre crop"
        mel = [sizes.mels, sizes.steps, WINDOW, HOP, SOUND_MEAN, SOUND_STD]
        return {
            "video": {"clip": CLIP, "frames": FRAMES, "scaling": video, **pixels},
            "pictures": {"scaling": picture, **pixels},
            "audio": {"clip": CLIP, "rate": RATE, "channels": "mean of all", "mel": mel},
        }

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    def of_video(self, media: Any, count: int, published: bool) -> Rows:
        """Embed `count` clips of a clip's video, as `starts`, -> [D]; once, however many metrics ask."""
        found = self._of_clips.setdefault(media, {})
        if ("video", count, published) not in found:
            pictures = media.frames()
            begins = starts(len(pictures) / media.fps, count, published)
            places = [ends_of(media.fps, len(pictures), begin) for begin in begins]
            found["video", count, published] = self.video(np.stack([pictures[list(pair)] for pair in places]))
        return found["video", count, published]

    def of_sound(self, media: Any, count: int, published: bool) -> Rows:
        """Embed `count` clips of a clip's sound, as `starts`, -> [D]; once, however many metrics ask."""
        found = self._of_clips.setdefault(media, {})
        if ("audio", count, published) not in found:
            sound = media.audio(RATE)
            begins = starts(len(sound) / RATE, count, published)
            cut = [sound[int(begin * RATE) : int((begin + CLIP) * RATE)] for begin in begins]
            found["audio", count, published] = _unit(torch.from_numpy(self.sounds(cut)).mean(0))
        return found["audio", count, published]

    @torch.inference_mode()
    def video(self, clips: Frames) -> Rows:
        """Embed clips of one video, uint8 [K, FRAMES, H, W, 3] -> [D], the mean over all clips and crops."""
        found = []
        for clip in clips:
            found += [self.model.videos(part) for part in self._crops(clip).split(self.batch)]
        return _unit(torch.cat(found).mean(0))

    @torch.inference_mode()
    def pictures(self, frames: Frames) -> Rows:
        """Embed pictures uint8 [T, H, W, 3], each alone, -> [T, D]."""
        found = []
        for start in range(0, len(frames), self.batch):
            values = self._pictures(frames[start : start + self.batch])
            found.append(self.model.videos(values[:, :, None].expand(-1, -1, FRAMES, -1, -1)))
        return _unit(torch.cat(found))

    @torch.inference_mode()
    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> Rows:
        """Embed sounds [N] at 16 kHz, of each its first 2 s, -> [K, D]."""
        found = []
        for start in range(0, len(sounds), self.batch):
            part = torch.stack([levels(sound, self.sizes) for sound in sounds[start : start + self.batch]])
            found.append(self.model.sounds(part.to(self.device)))
        return _unit(torch.cat(found))

    @torch.inference_mode()
    def text(self, numbers: Sequence[int]) -> Rows:
        """Embed a text, numbers of its tokens with the one that ends it, -> [D]."""
        return _unit(self.model.texts(torch.tensor([*numbers], device=self.device)[None]))[0]

    def _crops(self, clip: Frames) -> Tensor:
        """Scale a clip [FRAMES, H, W, 3] and cut it out at both ends and in the middle of its longer side: [CROPS, 3,
        FRAMES, side, side]."""
        side = self.sizes.side
        values = torch.from_numpy(clip).to(self.device).permute(0, 3, 1, 2).float() / 255
        shape = self._scaled(values.shape[2:])
        values = self._normalised(functional.interpolate(values, shape, mode="bilinear"))
        free = max(shape) - side
        axis = 2 if shape[0] > shape[1] else 3
        cut = [values.narrow(axis, at, side) for at in (0, math.ceil(free / 2), free)]
        return torch.stack(cut).transpose(1, 2)

    def _pictures(self, frames: Frames) -> Tensor:
        """Scale pictures [T, H, W, 3] and cut them centrally: [T, 3, side, side]."""
        side = self.sizes.side
        values = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float()
        shape = self._scaled(values.shape[2:])
        scaled = functional.interpolate(values, shape, mode="bicubic", antialias=True).round().clamp(0, 255)
        top, left = (round((length - side) / 2) for length in shape)
        return self._normalised(scaled[:, :, top : top + side, left : left + side] / 255)

    def _scaled(self, shape: Sequence[int]) -> list[int]:
        """Height and width whose shorter one is `side`; parts of pixels are cut off."""
        return [self.sizes.side * length // min(shape) for length in shape]

    def _normalised(self, values: Tensor) -> Tensor:
        mean, std = (torch.tensor(part, device=self.device).view(3, 1, 1) for part in (MEAN, STD))
        return (values - mean) / std


def _unit(values: Tensor) -> Rows:
    return functional.normalize(values.float(), dim=-1).cpu().numpy()
