"""Attention over the frames as one picture per clip (CCL paper, Figure 3)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from matplotlib.figure import Figure

from ccl.analysis.attention_maps import AttentionMaps
from ccl.training.objective import Batch
from shared.codecs import VideoCodec, tensor_to_frames
from shared.utils.files import replacing

COLUMNS = 8
"""Latent frames shown."""


@torch.no_grad()
def draw_maps(folder: Path, batch: Batch, row: int, maps: AttentionMaps, codec: VideoCodec, fps: float) -> Path:
    """Write FOLDER/ID.png for clip `row` of a batch: its frames, and below them each map as heat over them.

    A map is scaled from 0 to its own maximum.
    """
    clock = batch.video_clock
    frames = round(clock.duration * fps)
    pixels = tensor_to_frames(codec.decode(batch.video[row : row + 1], frames))[0].cpu()
    shown = torch.linspace(0, len(clock) - 1, min(COLUMNS, len(clock))).round().long()
    times = clock.centres[shown]
    pictures = pixels[(times * fps).long().clamp(max=frames - 1)]
    figure = Figure(figsize=(1.3 * len(times) + 1.2, 1.4 * (len(maps) + 1)))
    figure.subplots_adjust(left=0.09, right=0.99, top=0.95, bottom=0.01, wspace=0.04, hspace=0.04)
    axes = figure.subplots(len(maps) + 1, len(times), squeeze=False)
    height, width = pictures.shape[1:3]
    over = {"cmap": "magma", "vmin": 0, "alpha": 0.65, "extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
    for column, time in enumerate(times.tolist()):
        axes[0, column].imshow(pictures[column].numpy())
        axes[0, column].set_title(f"{time:.2f} s", fontsize=7)
    for line, (name, values) in enumerate(maps.items(), start=1):
        layer = values.cpu()[shown]
        highest = max(float(layer.max()), 1e-9)
        for column in range(len(times)):
            axes[line, column].imshow(pictures[column].float().mean(-1).numpy(), cmap="gray")
            axes[line, column].imshow(layer[column].numpy(), vmax=highest, **over)
        axes[line, 0].set_ylabel(f"{name.replace('_', ' ')}\n0 .. {highest:.2g}", fontsize=7)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    path = folder / f"{batch.ids[row].replace(os.sep, '_')}.png"
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path
