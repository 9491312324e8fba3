"""A timeline to place things on: the tracks' waveforms with timed texts and keyframes, and the time below a click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.data.media import read_mono
from shared.utils.errors import UserError

WIDTH, ROW, AXIS, DPI = 1000, 110, 46, 100  # pixels of the picture, of a track, of the axis below; and per inch
LEFT, RIGHT = 70, 15  # pixels beside the axes
RATE = 8000  # Hz at which waveforms are read
COLOURS = {"speech": "#1f77d0", "second": "#5a9bd8", "effects": "#d9660b", "music": "#2a9d57"}
TEXT, KEYFRAME = "#8e44ad", "#c0392b"
MOST_LETTERS = 24

#: Of the tracks, in the order of their waveforms.
NAMES = ("speech", "second", "effects", "music", "mix")

Sounds = dict[str, NDArray[np.float32]]
Texts = list[tuple[float, str]]


def read_sounds(files: Mapping[str, str | Path | None]) -> Sounds:
    """Read the given tracks, mono [N] at RATE. UserError as `shared.data.media.read_mono`."""
    return {name: read_mono(file, RATE)[0][0] for name, file in files.items() if file is not None}


def duration_of(sounds: Sounds) -> float:
    """Seconds of the longest track."""
    return max((len(sound) for sound in sounds.values()), default=0) / RATE


def draw(
    sounds: Sounds, texts: Sequence[tuple[float, str]], keyframes: Sequence[float], at: float | None = None
) -> NDArray[np.uint8]:
    """Picture [H, W, 3] of the tracks, one below the other, with the times of texts and keyframes, and of the last
    click."""
    seconds, height = duration_of(sounds), ROW * len(sounds) + AXIS
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    for row, (name, sound) in enumerate(sounds.items()):
        bottom = (AXIS + ROW * (len(sounds) - 1 - row)) / height
        axes = figure.add_axes((LEFT / WIDTH, bottom, (WIDTH - LEFT - RIGHT) / WIDTH, 0.94 * ROW / height))
        low, high = envelope(sound, seconds, WIDTH - LEFT - RIGHT)
        times = (np.arange(len(low)) + 0.5) * seconds / len(low)
        axes.fill_between(times, low, high, color=COLOURS.get(name, "#555555"), linewidth=0.3)
        axes.set(xlim=(0, seconds), ylim=(-1, 1), yticks=[], ylabel=name)
        last = row == len(sounds) - 1
        axes.tick_params(labelbottom=last)
        if last:
            axes.set_xlabel("seconds")
        for time, text in texts:
            axes.axvline(time, color=TEXT, linewidth=1.5)
            if row == 0:
                axes.text(time, 0.95, f" {text[:MOST_LETTERS]}", color=TEXT, fontsize=8, va="top", clip_on=True)
        for time in keyframes:
            axes.axvline(time, color=KEYFRAME, linewidth=1.5, linestyle="dashed")
        if at is not None:
            axes.axvline(at, color="black", linewidth=1, linestyle="dotted")
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def envelope(
    sound: NDArray[np.float32], seconds: float, columns: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest sample below each column of a picture of so many seconds; silence after the sound's end."""
    count = max(columns, round(seconds * RATE))
    padded, edges = np.pad(sound, (0, max(0, count - len(sound))))[:count], np.arange(columns) * count // columns
    return np.minimum.reduceat(padded, edges), np.maximum.reduceat(padded, edges)


def seconds_at(x: float, seconds: float) -> float:
    """Time below a click on the picture at pixel `x`, to a hundredth, inside the tracks."""
    share = (x - LEFT) / (WIDTH - LEFT - RIGHT)
    return round(min(max(share, 0.0), 1.0) * seconds, 2)


def texts_of(lines: str) -> Texts:
    """Read lines of SECONDS, TEXT, which may be none. UserError for another line."""
    texts = Texts()
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip():
            continue
        seconds, _, text = line.partition(",")
        try:
            time = float(seconds)
        except ValueError:
            text = ""
            time = 0.0
        if not text.strip() or not np.isfinite(time):
            raise UserError(f"timed texts, line {number}: expected SECONDS, TEXT but found {line[:60]!r}")
        texts.append((time, text.strip()))
    return texts


def time_of(words: str) -> float:
    """Read a time in seconds. UserError for anything else."""
    try:
        time = float(words)
    except ValueError:
        time = -1.0
    if not 0 <= time < np.inf:
        raise UserError(f"at {words!r}: seconds from 0 on are needed; click on a waveform")
    return time


def place_text(lines: str, at: float, text: str) -> str:
    """Put a text at a time among the lines, in order; it takes the place of one at the same time. UserError without a
    text."""
    if not text.strip():
        raise UserError("a timed text: write what is to be seen from then on, then place it")
    rows = {time: one for time, one in texts_of(lines)} | {at: " ".join(text.split())}
    return "\n".join(f"{time:g}, {one}" for time, one in sorted(rows.items()))


def place_keyframe(keyframes: Sequence[tuple[float, str]], at: float, file: str | None) -> list[tuple[float, str]]:
    """Put a picture at a time among the others, in order. UserError without a picture."""
    if file is None:
        raise UserError("a keyframe: load a picture, then place it")
    return sorted({**dict(keyframes), at: file}.items())
