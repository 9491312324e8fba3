"""Show a clip as one picture: a strip of frames, its waveform and its spectrogram on one time axis.

    python scripts/show_clip.py clip.mp4 --output strip.png

The left edge of each frame stands at its own time. A file without pictures or without sound shows what it
has.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import ShortTimeFFT

from shared.data.media import MediaInfo, probe, read_audio, read_video
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main
from shared.utils.files import replacing

# All in inches.
WIDTH, LEFT, RIGHT, TOP, BOTTOM, GAP = 11.0, 0.65, 0.15, 0.1, 0.45, 0.1
WAVEFORM_HEIGHT, SPECTROGRAM_HEIGHT = 0.9, 1.4
RANGE_DB = 70.0
HIGHEST = 8000.0  # Hz shown at most


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.frames < 1:
        raise UserError(f"--frames {args.frames}: give 1 or more")
    if args.output.suffix != ".png":
        raise UserError(f"{args.output}: the picture's name must end in .png")
    save(draw(probe(args.clip), args.frames), args.output)
    print(args.output)


def draw(info: MediaInfo, frames: int) -> Figure:
    """The panels of one file, one below the other."""
    strip = _read_strip(info, frames) if info.has_video else None
    heights = [WAVEFORM_HEIGHT, SPECTROGRAM_HEIGHT] if info.has_audio else []
    if strip is not None:
        heights.insert(0, (WIDTH - LEFT - RIGHT) * strip.shape[0] / strip.shape[1])
    figure = Figure(figsize=(WIDTH, TOP + sum(heights) + GAP * (len(heights) - 1) + BOTTOM))
    axes = _stack(figure, heights, info.duration)
    if strip is not None:
        axes[0].imshow(strip, extent=(0, info.duration, 0, 1), aspect="auto")
        axes[0].set_yticks([])
    if info.rate is not None:
        _draw_sound(axes[-2], axes[-1], read_audio(info.path, info.rate)[0], info.rate)
    axes[-1].tick_params(labelbottom=True)
    axes[-1].set_xlabel("seconds")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a png; it appears when it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=120)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); a writable folder is needed") from error


def _read_strip(info: MediaInfo, frames: int) -> np.ndarray:
    """`frames` pictures at equal distances in time, side by side, a white line after each: [H, ..., 3]."""
    pictures = read_video(info.path, frames / (info.video_end or info.duration))
    line = max(1, pictures.shape[2] // 40)
    return np.concatenate(np.pad(pictures, ((0, 0), (0, 0), (0, line), (0, 0)), constant_values=255), axis=1)


def _stack(figure: Figure, heights: list[float], seconds: float) -> list[Axes]:
    """Axes of these heights from the top down, on one time axis."""
    width, height = figure.get_size_inches()
    axes: list[Axes] = []
    top = height - TOP
    for size in heights:
        box = (LEFT / width, (top - size) / height, 1 - (LEFT + RIGHT) / width, size / height)
        axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
        axes[-1].set_xlim(0, seconds)
        axes[-1].tick_params(labelbottom=False)
        top -= size + GAP
    return axes


def _draw_sound(waveform: Axes, spectrogram: Axes, samples: np.ndarray, rate: int) -> None:
    """`samples` [N] as amplitude and as levels in dB below the loudest."""
    waveform.plot(np.arange(len(samples)) / rate, samples, linewidth=0.4, color="#205080")
    waveform.set_ylim(-1, 1)
    waveform.set_yticks([0])
    window = np.hanning(max(16, round(0.032 * rate)))
    transform = ShortTimeFFT(window, hop=max(1, round(0.005 * rate)), fs=rate, scale_to="magnitude")
    count = max(len(samples), len(window))
    power = transform.spectrogram(np.pad(samples, (0, count - len(samples))))
    level = 10 * np.log10(np.maximum(power, 1e-12))
    loudest = max(float(level.max()), RANGE_DB - 120)
    extent = transform.extent(count)
    spectrogram.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=loudest - RANGE_DB,
        vmax=loudest,
        cmap="magma",
    )
    spectrogram.set_ylim(0, min(HIGHEST, rate / 2))
    spectrogram.set_xlim(waveform.get_xlim())
    spectrogram.yaxis.set_major_formatter(lambda hertz, _: f"{hertz / 1000:g}")
    spectrogram.set_ylabel("kHz")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("clip", type=Path, help="mp4, mov, mkv, webm or wav")
    parser.add_argument("--output", type=Path, required=True, help="the picture, a png")
    parser.add_argument("--frames", type=int, default=12, help="frames in the strip (default 12)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_main(main)
