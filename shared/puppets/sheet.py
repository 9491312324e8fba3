"""A contact sheet: one picture of each clip, side by side, to look at."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from shared.data.media import probe, read_video

COLUMNS, GAP = 10, 2
MOMENTS = 5
"""Pictures are taken at one of so many shares of their clips, one after the other, so that no phase is missed."""


def contact_sheet(videos: Sequence[Path]) -> Image.Image:
    """Picture i is taken (i mod MOMENTS + 1) / (MOMENTS + 1) through clip i; all have the size of the first."""
    pictures = [_picture(path, (i % MOMENTS + 1) / (MOMENTS + 1)) for i, path in enumerate(videos)]
    width, height = pictures[0].width + GAP, pictures[0].height + GAP
    columns = min(COLUMNS, len(pictures))
    sheet = Image.new("RGB", (columns * width + GAP, math.ceil(len(pictures) / columns) * height + GAP), "white")
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet.paste(picture.resize(pictures[0].size), (column * width + GAP, row * height + GAP))
    return sheet


def _picture(path: Path, share: float) -> Image.Image:
    seconds = probe(path).duration
    frames = read_video(path, 10.0, start=share * seconds, end=min(seconds, share * seconds + 0.1))
    return Image.fromarray(frames[0])
