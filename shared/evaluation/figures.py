"""A clip as one picture: frames, waveform, spectrogram and curves on one time axis; or as frames beside its sound."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.signal import ShortTimeFFT

from shared.data.media import probe, read_audio, read_video
from shared.utils.errors import UserError
from shared.utils.files import replacing

# All in inches.
WIDTH, LEFT, RIGHT, TOP, BOTTOM, GAP = 11.0, 0.65, 0.15, 0.1, 0.45, 0.1
WAVEFORM_HEIGHT, SPECTROGRAM_HEIGHT, CURVES_HEIGHT = 0.9, 1.4, 0.9
RANGE_DB = 70.0
HIGHEST = 8000.0  # Hz shown at most
COLOURS = {"video": "#1f77d0", "audio": "#d9660b"}
GIF_DPI = 80
LINE = (40, 220, 120)  # of a gif, at the time of the frame


@dataclass(frozen=True)
class ClipFigure:
    """What a picture of `duration` seconds shows: `pictures` uint8 [K, H, W, 3] at equal distances in time from 0 on,
    `sound` [N] at `rate` Hz, `curves` (stream, seconds [T], values [T] in 0..1), and `onsets` in seconds by stream."""

    duration: float
    pictures: NDArray[np.uint8] | None = None
    sound: NDArray[np.float32] | None = None
    rate: int = 0
    curves: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = ()
    onsets: Mapping[str, Sequence[float] | NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of_file(cls, path: Path, frames: int) -> ClipFigure:
        """Media file, with `frames` pictures of it. Raises UserError as `shared.data.media.probe`."""
        info = probe(path)
        pictures = read_video(path, frames / (info.video_end or info.duration)) if info.has_video else None
        if info.rate is None:
            return cls(info.duration, pictures)
        return cls(info.duration, pictures, read_audio(path, info.rate)[0], info.rate)

    def draw(self) -> Figure:
        """Panels, one below the other; the left edge of each picture stands at its own time."""
        strip = None
        if self.pictures is not None:  # side by side, a white line after each: [H, ..., 3]
            line = max(1, self.pictures.shape[2] // 40)
            white = np.pad(self.pictures, ((0, 0), (0, 0), (0, line), (0, 0)), constant_values=255)
            strip = np.concatenate(white, axis=1)
        heights = [] if strip is None else [(WIDTH - LEFT - RIGHT) * strip.shape[0] / strip.shape[1]]
        heights += [WAVEFORM_HEIGHT, SPECTROGRAM_HEIGHT] if self.sound is not None else []
        heights += [CURVES_HEIGHT] if self.curves else []
        figure = Figure(figsize=(WIDTH, TOP + sum(heights) + GAP * (len(heights) - 1) + BOTTOM))
        axes = _stack(figure, heights, self.duration)
        panels = iter(axes)
        if strip is not None:
            panel = next(panels)
            panel.imshow(strip, extent=(0, self.duration, 0, 1), aspect="auto")
            panel.set_yticks([])
        if self.sound is not None:
            _draw_sound(next(panels), next(panels), self.sound, self.rate)
        if self.curves:
            panel = next(panels)
            for stream, seconds, values in self.curves:
                panel.plot(seconds, values, color=COLOURS[stream], linewidth=1.5)
            panel.set(ylim=(-0.02, 1.05), yticks=[])
        for stream, times in self.onsets.items():
            for panel in axes:
                panel.vlines(times, 0, 1, COLOURS[stream], ("dashed", "dotted")[stream == "audio"], linewidth=1,
                             transform=panel.get_xaxis_transform())  # fmt: skip
        axes[-1].tick_params(labelbottom=True)
        axes[-1].set_xlabel("seconds")
        return figure

    def png(self, dpi: int = 120) -> bytes:
        """Picture as a png file."""
        file = io.BytesIO()
        self.draw().savefig(file, format="png", dpi=dpi)
        return file.getvalue()

    def save(self, path: Path) -> None:
        """Write a png; it appears when it is complete. Raises UserError where that cannot be."""
        _write(path, self.png())


def save_moving(clip: Path, path: Path) -> None:
    """Write a gif of a clip that has pictures and sound. Raises UserError where it has not, or where it cannot be."""
    info = probe(clip)
    if not info.has_video or info.rate is None or not info.fps:
        raise UserError(f"{clip}: has no pictures or no sound; a gif shows both")
    pictures = read_video(clip, info.fps)
    panel = ClipFigure(info.duration, None, read_audio(clip, info.rate)[0], info.rate).png(GIF_DPI)
    background = Image.open(io.BytesIO(panel)).convert("RGB")
    size = (background.height * pictures.shape[2] // pictures.shape[1], background.height)
    images = []
    for k, frame in enumerate(pictures):  # each to the left of the sound's panels, a line in them at its time
        images.append(Image.new("RGB", (size[0] + background.width, size[1]), "white"))
        images[-1].paste(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST), (0, 0))
        images[-1].paste(background, (size[0], 0))
        x = size[0] + GIF_DPI * (LEFT + k / len(pictures) * (WIDTH - LEFT - RIGHT))
        ImageDraw.Draw(images[-1]).line([(x, 0), (x, size[1])], fill=LINE, width=2)
    palette = Image.fromarray(np.concatenate([np.asarray(image) for image in images[::4]])).quantize(256)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    file = io.BytesIO()
    first.save(file, "gif", save_all=True, append_images=rest, duration=round(1000 / info.fps), loop=0)
    _write(path, file.getvalue())


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); a writable folder is needed") from error


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


def _draw_sound(waveform: Axes, spectrogram: Axes, samples: NDArray[np.float32], rate: int) -> None:
    """Draw `samples` [N] as amplitude and as levels in dB below the loudest."""
    waveform.plot(np.arange(len(samples)) / rate, samples, linewidth=0.4, color="#205080")
    waveform.set(ylim=(-1, 1), yticks=[0])
    window = np.hanning(max(16, round(0.032 * rate)))
    transform = ShortTimeFFT(window, hop=max(1, round(0.005 * rate)), fs=rate, scale_to="magnitude")
    count = max(len(samples), len(window))
    power = transform.spectrogram(np.pad(samples, (0, count - len(samples))))
    level = 10 * np.log10(np.maximum(power, 1e-12))
    loudest = max(float(level.max()), RANGE_DB - 120)
    spectrogram.imshow(
        level, origin="lower", aspect="auto", extent=transform.extent(count),
        vmin=loudest - RANGE_DB, vmax=loudest, cmap="magma",
    )  # fmt: skip
    spectrogram.set(xlim=waveform.get_xlim(), ylim=(0, min(HIGHEST, rate / 2)), ylabel="kHz")
    spectrogram.yaxis.set_major_formatter(lambda hertz, _: f"{hertz / 1000:g}")
