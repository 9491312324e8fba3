"""What a call of a pipeline is given, in the forms that people have it in: files, PIL pictures, arrays, tensors.

Files and PIL pictures are brought to the sample's size; arrays and tensors have it already. Arrays are as PIL and
diffusers have them, [..., H, W, 3], uint8 or floats in [0, 1]; tensors as models do, [..., 3, H, W] in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shared.codecs import frames_to_tensor
from shared.data.images import picture_of, read_image
from shared.data.media import probe, read_audio, read_video
from shared.data.samples import resample
from shared.utils.errors import UserError

#: A picture: a file, a PIL picture, an array [H, W, 3], a tensor [3, H, W]; or a batch of them.
ImageInput = str | Path | Image.Image | np.ndarray | Tensor | Sequence[Any]
#: A video: a file, a list of PIL pictures, an array [T, H, W, 3] or [B, T, H, W, 3], a tensor [B, 3, T, H, W].
VideoInput = str | Path | Sequence[Image.Image] | np.ndarray | Tensor
#: A sound: a file, samples with their rate in Hz as (samples, rate), or a tensor [B, 1, N] at the codec's rate. Samples
#: are [N], [1, N] or [B, 1, N] in [-1, 1].
SoundInput = str | Path | tuple[Any, int] | Tensor


def as_image(given: ImageInput, size: tuple[int, int], name: str = "image") -> Tensor:
    """Read a picture, or one for each sample, as float [B, 3, H, W] in [-1, 1]; `size` (H, W) of files and PIL."""
    if isinstance(given, list | tuple):
        if not given:
            raise UserError(f"{name}: an empty list; give a picture, or one per prompt")
        return torch.cat([as_image(one, size, name) for one in given])
    if isinstance(given, str | Path):
        return _pixels(read_image(given, size)[None], name)[:, :, 0]
    if isinstance(given, Image.Image):
        return _pixels(picture_of(given, size, name)[None], name)[:, :, 0]
    if isinstance(given, np.ndarray):
        rows = given if given.ndim == 4 else given[None]
        return _pixels(_checked(rows, 4, name, "[H, W, 3] or [B, H, W, 3]")[:, None], name)[:, :, 0]
    return _tensor(given, 4, name, "[3, H, W] or [B, 3, H, W]")


def as_video(
    given: VideoInput, fps: float, size: tuple[int, int], seconds: float | None, name: str = "video"
) -> Tensor:
    """Read a video as float [B, 3, T, H, W] in [-1, 1]: of a file its pictures at `fps`, up to `seconds`."""
    if isinstance(given, str | Path):
        return _pixels(read_video(given, fps, size, end=seconds), name)
    if isinstance(given, list | tuple):
        if not given or not all(isinstance(one, Image.Image) for one in given):
            raise UserError(f"{name}: give a file, a list of PIL pictures, an array [T, H, W, 3] or a tensor")
        return _pixels(np.stack([picture_of(one, size, name) for one in given]), name)
    if isinstance(given, np.ndarray):
        rows = given if given.ndim == 5 else given[None]
        return _pixels(_checked(rows, 5, name, "[T, H, W, 3] or [B, T, H, W, 3]"), name)
    return _tensor(given, 5, name, "[3, T, H, W] or [B, 3, T, H, W]")


def as_sound(given: SoundInput, rate: int, seconds: float | None = None, name: str = "audio") -> Tensor:
    """Read a sound as float [B, 1, N] at `rate` Hz: of a file its mono mix, up to `seconds`."""
    if isinstance(given, str | Path):
        return torch.from_numpy(read_audio(given, rate, end=seconds))[None]
    if isinstance(given, Tensor):
        values, own = given.detach().cpu().numpy(), rate
        if given.ndim != 3 or given.shape[1] != 1:
            raise UserError(
                f"{name}: a tensor of {_shape(given)}; [B, 1, N] at {rate} Hz is needed, or (samples, rate)"
            )
    else:
        try:
            values, own = given
            values, own = np.asarray(values, np.float32), int(own)
        except (TypeError, ValueError):
            raise UserError(f"{name}: give a file, or samples with their rate as (samples, rate)") from None
    if values.ndim not in (1, 2, 3) or 0 in values.shape or (values.ndim > 1 and values.shape[-2] != 1) or own < 1:
        raise UserError(f"{name}: samples of {_shape(values)} at {own} Hz; [N], [1, N] or [B, 1, N] are needed")
    if not np.isfinite(values).all():
        raise UserError(f"{name}: NaN or infinity in its samples; finite values are needed")
    rows = resample(np.asarray(values, np.float32).reshape(-1, values.shape[-1]), own, rate)
    return torch.from_numpy(rows)[:, None]


def seconds_of_video(given: VideoInput, fps: float, name: str = "video") -> float:
    """How long a video lasts; what is no file at `fps`."""
    if isinstance(given, str | Path):
        if (end := probe(given).video_end) is None:
            raise UserError(f"{name}: {given} has no pictures; a file with pictures is needed")
        return end
    if not isinstance(given, np.ndarray | Tensor):
        return len(given) / fps
    return given.shape[-4 if isinstance(given, np.ndarray) else -3] / fps if given.ndim >= 4 else 0.0


def seconds_of_sound(given: SoundInput, rate: int, name: str = "audio") -> float:
    """How long a sound lasts; a tensor at `rate`."""
    if isinstance(given, str | Path):
        if (end := probe(given).audio_end) is None:
            raise UserError(f"{name}: {given} has no sound; a file with sound is needed")
        return end
    if isinstance(given, Tensor):
        return given.shape[-1] / rate
    return as_sound(given, rate, name=name).shape[-1] / rate


def _pixels(frames: np.ndarray, name: str) -> Tensor:
    """[T, H, W, 3] or [B, T, H, W, 3], uint8 or in [0, 1] -> [B, 3, T, H, W] in [-1, 1]."""
    rows = frames if frames.ndim == 5 else frames[None]
    if rows.dtype == np.uint8:
        return frames_to_tensor(torch.from_numpy(np.ascontiguousarray(rows)))
    values = torch.from_numpy(np.ascontiguousarray(rows)).float()
    if not (torch.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise UserError(f"{name}: floats outside [0, 1]; an array of pictures has uint8, or floats from 0 to 1")
    return values.movedim(-1, -4).mul(2.0).sub(1.0)


def _checked(rows: np.ndarray, dims: int, name: str, wanted: str) -> np.ndarray:
    if rows.ndim != dims or rows.shape[-1] != 3 or 0 in rows.shape or rows.dtype.kind not in "uf":
        raise UserError(f"{name}: an array of {rows.dtype} {_shape(rows)}; {wanted}, uint8 or floats, is needed")
    if rows.dtype.kind == "u" and rows.dtype != np.uint8:
        raise UserError(f"{name}: an array of {rows.dtype}; uint8, or floats in [0, 1], is needed")
    return rows


def _tensor(given: Any, dims: int, name: str, wanted: str) -> Tensor:
    if not isinstance(given, Tensor):
        raise UserError(f"{name}: a {type(given).__name__}; give a file, PIL pictures, an array or a tensor")
    rows = given if given.ndim == dims else given[None]
    if rows.ndim != dims or rows.shape[1] != 3 or 0 in rows.shape:
        raise UserError(f"{name}: a tensor of {_shape(given)}; {wanted} in [-1, 1] is needed")
    if not rows.is_floating_point():
        raise UserError(f"{name}: a tensor of {rows.dtype}; floats in [-1, 1] are needed, or an array of uint8")
    return rows


def _shape(values: Any) -> str:
    return "x".join(map(str, values.shape))
