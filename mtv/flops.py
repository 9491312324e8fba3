"""What the control network computes."""

from __future__ import annotations

import torch

from mtv.control import TRACKS, MSTControlNet, TrackFeatures
from shared.nn.flops import count_flops


def forward_flops(control: MSTControlNet, frames: int, space: int, speakers: int = 1) -> int:
    """Operations of one forward pass for one clip.

    Args:
        frames, space: F video latent frames of S tokens.
        speakers: rows of the speech track.
    """
    config = control.config
    shown = 1 + (frames - 1) * config.temporal_stride
    with torch.device("meta"):
        network = MSTControlNet.from_config(config)
        speech = torch.empty(1, speakers, shown, *config.tracks["speech"])
        effects, music = (torch.empty(1, shown, *config.tracks[name]) for name in TRACKS[1:])
        features = TrackFeatures(speech, effects, music)
        sigma, x = torch.empty(1, frames), torch.empty(1, frames * space, config.backbone_dim)

    def run() -> None:
        inject = network(features, sigma)
        for block in range(config.num_blocks):
            inject(block, x)

    return count_flops(run)
