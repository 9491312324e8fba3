"""A small random CogVideoX, a control network for it, what goes into both; and a folder as diffusers saves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
from torch import nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from mtv.cogvideox.hooks import rotary_embedding
from mtv.control import MSTControlNet, TrackFeatures
from shared.utils.rng import derive, generator

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


def save_folder(folder: Path, scheduler: Any) -> None:
    """Write another small CogVideoX with codec and T5, as `CogVideoXPipeline.save_pretrained` does."""
    words = ["▁", "▁Clip", *"abcdefghijklmnopqrstuvwxyz0123."]
    vocabulary = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")] + [(word, -2.0) for word in words]
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "cogvideox"))
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
            text_embed_dim=12, num_layers=2, sample_width=4, sample_height=4, sample_frames=9, max_text_seq_length=8,
            use_rotary_positional_embeddings=True,
        )  # fmt: skip
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 3, up_block_types=("CogVideoXUpBlock3D",) * 3,
            block_out_channels=(4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        )  # fmt: skip
        text = T5EncoderModel(T5Config(vocab_size=40, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    pipeline = CogVideoXPipeline(tokenizer, text, vae, transformer, scheduler)
    pipeline.save_pretrained(folder, safe_serialization=True)
