"""Attention over the frames as one picture per clip (CCL paper, Figure 3)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ccl.analysis.attention_maps import AttentionMaps
from ccl.training.objective import Batch
from shared.codecs import VideoCodec, tensor_to_frames
from shared.utils.files import replacing

COLUMNS = 8
"""Latent frames shown."""


@torch.no_grad()
def draw_maps(folder: Path, batch: Batch, row: int, maps: AttentionMaps, codec: VideoCodec, fps: float) -> Path:
    """Write FOLDER/ID.png for clip `row` of a batch: its frames, and below them each map as heat over them."""
    clock = batch.video_clock
    frames = round(clock.duration * fps)
    pixels = tensor_to_frames(codec.decode(batch.video[row : row + 1], frames))[0].cpu()
    shown = torch.linspace(0, len(clock) - 1, min(COLUMNS, len(clock))).round().long()
    moments = (clock.centres[shown] * fps).long().clamp(max=frames - 1)
    layers = {name: values.cpu()[shown] for name, values in maps.items()}
    figure = _draw(pixels[moments], layers, [f"{time:.2f} s" for time in clock.centres[shown].tolist()])
    path = folder / f"{batch.ids[row].replace(os.sep, '_')}.png"
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path


def _draw(pictures: Tensor, layers: dict[str, Tensor], times: list[str]) -> Figure:
    """Pictures uint8 [T, H, W, 3] in a row, and a row per layer [T, h, w], scaled from 0 to its own maximum."""
    figure = Figure(figsize=(1.3 * len(times) + 1.2, 1.4 * (len(layers) + 1)))
    figure.subplots_adjust(left=0.09, right=0.99, top=0.95, bottom=0.01, wspace=0.04, hspace=0.04)
    axes = figure.subplots(len(layers) + 1, len(times), squeeze=False)
    height, width = pictures.shape[1:3]
    over = {"cmap": "magma", "vmin": 0, "alpha": 0.65, "extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
    for column, time in enumerate(times):
        axes[0, column].imshow(pictures[column].numpy())
        axes[0, column].set_title(time, fontsize=7)
    for row, (name, layer) in enumerate(layers.items(), start=1):
        highest = max(float(layer.max()), 1e-9)
        for column in range(len(times)):
            axes[row, column].imshow(pictures[column].float().mean(-1).numpy(), cmap="gray")
            axes[row, column].imshow(layer[column].numpy(), vmax=highest, **over)
        axes[row, 0].set_ylabel(f"{name.replace('_', ' ')}\n0 .. {highest:.2g}", fontsize=7)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    return figure
