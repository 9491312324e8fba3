"""A small random CogVideoX transformer with a control network, and what goes into both."""

from __future__ import annotations

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import nn

from mtv.cogvideox.hooks import rotary_embedding
from mtv.control import MSTControlNet, TrackFeatures
from shared.utils.rng import generator

LATENTS, WIDTH = 3, 32
SIZE = (2, 1, 6)


def noise(name, *shape):
    return torch.randn(shape, generator=generator(0, "tests", name))


def randomise(module):
    """Random values where a weight starts at zero, so that no path is dead."""
    for name, parameter in module.named_parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    return module.eval()


def backbone(**changes):
    torch.manual_seed(0)
    sizes = {
        "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8,
        "text_embed_dim": 12, "num_layers": 2, "sample_width": 8, "sample_height": 8, "sample_frames": 9,
        "max_text_seq_length": 5, "use_rotary_positional_embeddings": True,
    }  # fmt: skip
    return randomise(CogVideoXTransformer3DModel(**(sizes | changes)))


def network(trained=True, **changes):
    torch.manual_seed(1)
    tracks = dict.fromkeys(("speech", "effects", "music"), SIZE)
    sizes = {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 16, "hidden_dim": 12}
    net = MSTControlNet(WIDTH, 2, 2, tracks, **(sizes | changes))
    return randomise(net) if trained else net.eval()


def features(batch=2):
    frames = 4 * (LATENTS - 1) + 1
    return TrackFeatures(
        noise("speech", batch, 1, frames, *SIZE), noise("effects", batch, frames, *SIZE),
        noise("music", batch, frames, *SIZE),
    )  # fmt: skip


def inputs(model, batch=2):
    latents = noise("latents", batch, LATENTS, 4, 8, 8)
    return {
        "hidden_states": latents,
        "encoder_hidden_states": noise("text", batch, 5, 12),
        "timestep": torch.tensor([100, 900])[:batch],
        "image_rotary_emb": rotary_embedding(model, latents),
        "return_dict": False,
    }


SIGMA = torch.tensor([0.1, 0.9])
