"""A clip as a moving picture: its frames beside its sound, with a line at the time of the frame."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.data.media import probe, read_audio, read_video
from shared.evaluation.figures import LEFT, RIGHT, WIDTH, ClipFigure
from shared.utils.errors import UserError
from shared.utils.files import replacing

DPI = 80
LINE = (40, 220, 120)


def save_moving(clip: Path, path: Path) -> None:
    """Write a gif of a clip that has pictures and sound. Raises UserError where it has not, or where it cannot be."""
    info = probe(clip)
    if not info.has_video or info.rate is None or not info.fps:
        raise UserError(f"{clip}: has no pictures or no sound; a gif shows both")
    pictures = read_video(clip, info.fps)
    panel = ClipFigure(info.duration, None, read_audio(clip, info.rate)[0], info.rate).png(DPI)
    background = Image.open(io.BytesIO(panel)).convert("RGB")
    images = [_beside(frame, background, k / len(pictures)) for k, frame in enumerate(pictures)]
    palette = Image.fromarray(np.concatenate([np.asarray(image) for image in images[::4]])).quantize(256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
            first.save(part, "gif", save_all=True, append_images=rest, duration=round(1000 / info.fps), loop=0)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); a writable folder is needed") from error


def _beside(frame: NDArray[np.uint8], background: Image.Image, share: float) -> Image.Image:
    """Put a frame to the left of the sound's panels, a line in them where `share` of the time is over."""
    height = background.height
    picture = Image.fromarray(frame).resize(
        (height * frame.shape[1] // frame.shape[0], height), Image.Resampling.NEAREST
    )
    image = Image.new("RGB", (picture.width + background.width, height), "white")
    image.paste(picture, (0, 0))
    image.paste(background, (picture.width, 0))
    x = picture.width + DPI * (LEFT + share * (WIDTH - LEFT - RIGHT))
    ImageDraw.Draw(image).line([(x, 0), (x, height)], fill=LINE, width=2)
    return image
