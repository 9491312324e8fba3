"""A contact sheet to look at: one picture of each clip, side by side, or some pictures of each over its caption."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.data.media import probe, read_video

COLUMNS, GAP = 10, 2
MOMENTS = 5
"""Pictures are taken at one of so many shares of their clips, one after the other, so that no phase is missed."""

STRIP, STRIPS = 6, 3
"""Pictures of a clip over its caption, and clips side by side."""
LETTERS, LINES, LINE_HEIGHT = 80, 4, 12
"""Of a caption: letters in a line, lines at most, and pixels from one to the next."""


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


def captioned_sheet(clips: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> Image.Image:
    """STRIP pictures of each clip, frames uint8 [T, H, W, 3] of one size, at equal distances in time from the first
    on, over its caption."""
    height, width = clips[0].shape[1:3]
    cell = STRIP * (width + GAP) + 2 * GAP, height + LINES * LINE_HEIGHT + 3 * GAP
    columns = min(STRIPS, len(clips))
    sheet = Image.new("RGB", (columns * cell[0], math.ceil(len(clips) / columns) * cell[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    letters = max(16, LETTERS * cell[0] // (STRIP * (64 + GAP) + 2 * GAP))
    for i, (frames, caption) in enumerate(zip(clips, captions, strict=True)):
        row, column = divmod(i, columns)
        x, y = column * cell[0] + GAP, row * cell[1] + GAP
        for k, number in enumerate(np.arange(STRIP) * len(frames) // STRIP):
            sheet.paste(Image.fromarray(frames[number]), (x + k * (width + GAP), y))
        text = textwrap.wrap(caption, letters, max_lines=LINES, placeholder=" ...")
        for line, words in enumerate(text):
            draw.text((x, y + height + GAP + line * LINE_HEIGHT), words, "black", font)
    return sheet


def _picture(path: Path, share: float) -> Image.Image:
    seconds = probe(path).duration
    frames = read_video(path, 10.0, start=share * seconds, end=min(seconds, share * seconds + 0.1))
    return Image.fromarray(frames[0])
