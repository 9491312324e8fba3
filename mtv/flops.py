"""What the control network computes."""

from __future__ import annotations

import torch

from mtv.control import TRACKS, MSTControlNet, TrackFeatures
from shared.training.flops import count_flops


def forward_flops(control: MSTControlNet, frames: int, space: int, speakers: int = 1) -> int:
    """Operations of one forward pass for one clip.

    Args:
        frames, space: F video latent frames of S tokens.
        speakers: rows of the speech track.
    """
    config = control.config

    def run() -> None:
        network = MSTControlNet.from_config(config)
        shown = 1 + (frames - 1) * config.temporal_stride
        speech, *others = (torch.empty(1, shown, *config.tracks[name]) for name in TRACKS)
        features = TrackFeatures(speech[:, None].expand(-1, speakers, -1, -1, -1, -1), *others)
        inject = network(features, torch.empty(1, frames))
        for block in range(config.num_blocks):
            inject(block, torch.empty(1, frames * space, config.backbone_dim))

    return count_flops(run)
