"""What a pipeline returns: arrays, in diffusers' forms too, and files of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from shared.data.media import write_audio, write_video
from shared.data.media_write import write_lossless
from shared.utils.errors import UserError

OutputType = Literal["np", "pil", "pt", "latent"]


def checked_output_type(name: str) -> OutputType:
    """Give back the name of an output type. UserError for another."""
    if name not in get_args(OutputType):
        raise UserError(f"output_type {name!r}: choose among {', '.join(get_args(OutputType))}")
    return name  # type: ignore[return-value]


@dataclass
class ClipOutput(BaseOutput):
    """What was made; None for a stream that was given or is not in the task."""

    video: np.ndarray | None  # [B, T, H, W, 3] uint8
    audio: np.ndarray | None  # [B, samples] float32 in [-1, 1]
    fps: float
    sample_rate: int
    given: dict[str, Any] | None = None  # "video" and "audio" of the same forms, where one of them was given whole
    latents: dict[str, Tensor] | None = None  # of the streams that were made, with output_type "latent"
    output_type: OutputType = "np"

    @property
    def frames(self) -> Any:
        """The made video as diffusers' pipelines return it: "np" float32 [B, T, H, W, 3] in [0, 1], "pt" a tensor
        [B, T, 3, H, W] in [0, 1], "pil" a list of pictures per clip, "latent" the video's latents; None if none is."""
        if self.output_type == "latent":
            return (self.latents or {}).get("video")
        if self.video is None:
            return None
        if self.output_type == "pil":
            return [[Image.fromarray(frame) for frame in clip] for clip in self.video]
        # the next float above x / 255, so that what multiplies by 255 and cuts the fraction off finds x
        values = np.nextafter(self.video.astype(np.float32) / 255, np.float32(2)).clip(0, 1)
        values[self.video == 0] = 0
        return values if self.output_type == "np" else torch.from_numpy(values).movedim(-1, -3)

    def save(self, path: str | Path) -> list[Path]:
        """Write the clips, a stream that was given whole with what was made: X.mp4, X.mkv (no loss) or, of sound alone,
        X.wav; more than one as X_000 ... Gives the files. UserError for a name that does not end so, or for latents."""
        path = Path(path)
        given = self.given or {}
        video, audio = (getattr(self, name) if getattr(self, name) is not None else given.get(name) for name in _BOTH)
        if video is None and audio is None:
            raise UserError(f"{path}: there are latents alone; output_type np, pil or pt is written")
        suffixes = (".wav",) if video is None else (".mp4", ".mkv") if audio is not None else (".mp4",)
        if path.suffix.lower() not in suffixes:
            held = "sound alone" if video is None else "pictures" if audio is None else "pictures and sound"
            raise UserError(f"{path}: {held} are written as {' or '.join(suffixes)}; give a name that ends so")
        (count,) = {len(made) for made in (video, audio) if made is not None}
        files = [path] if count == 1 else [path.with_stem(f"{path.stem}_{index:03d}") for index in range(count)]
        for index, file in enumerate(files):
            sound = None if audio is None else audio[index][None]
            if video is None and sound is not None:
                write_audio(file, sound, self.sample_rate)
            elif file.suffix.lower() == ".mkv" and video is not None and sound is not None:
                write_lossless(file, video[index], self.fps, sound, self.sample_rate)
            elif video is not None:
                write_video(file, video[index], self.fps, sound, None if sound is None else self.sample_rate)
        return files


_BOTH = ("video", "audio")
