"""Synchformer: the published layout, the library's own spectrogram transformer, and attention divided in two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import ASTConfig, ASTModel

from shared.perception.synchformer import (
    DividedAttention,
    JointTransformer,
    Sizes,
    SoundTransformer,
    Synchformer,
    VideoSegments,
)
from shared.utils.rng import generator

SMALL = Sizes(16, 2, 2, 1, 2, 32, 4, 26, 26, 3)
#: Shapes of the public file, a few of each kind.
PUBLISHED = {
    "vfeat_extractor.patch_embed.proj.weight": [768, 3, 16, 16],
    "vfeat_extractor.patch_embed_3d.proj.weight": [768, 3, 2, 16, 16],
    "vfeat_extractor.pos_embed": [1, 197, 768],
    "vfeat_extractor.temp_embed": [1, 8, 768],
    "vfeat_extractor.blocks.11.timeattn.qkv.weight": [2304, 768],
    "vfeat_extractor.blocks.11.mlp.fc1.weight": [3072, 768],
    "vfeat_extractor.spatial_attn_agg.self_attn.in_proj_weight": [2304, 768],
    "vfeat_extractor.spatial_attn_agg.cls_token": [1, 1, 768],
    "afeat_extractor.ast.embeddings.position_embeddings": [1, 74, 768],
    "afeat_extractor.ast.embeddings.patch_embeddings.projection.weight": [768, 1, 16, 16],
    "afeat_extractor.ast.encoder.layer.11.attention.attention.query.weight": [768, 768],
    "afeat_extractor.ast.encoder.layer.11.attention.output.dense.bias": [768],
    "afeat_extractor.ast.encoder.layer.0.intermediate.dense.weight": [3072, 768],
    "afeat_extractor.freq_attn_agg.linear1.weight": [3072, 768],
    "transformer.pos_emb_cfg.pos_emb": [1, 198, 768],
    "transformer.OFF_tok": [1, 1, 768],
    "transformer.blocks.2.mlp.2.weight": [768, 3072],
    "transformer.off_head.weight": [21, 768],
    "vproj.weight": [768, 768],
}


def randomised(module: nn.Module) -> nn.Module:
    for name, value in module.named_parameters():
        value.data.copy_(0.2 * torch.randn(value.shape, generator=generator(0, "test", name)))
    return module.eval().requires_grad_(False)


def test_the_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        network = Synchformer().eval()
    state = network.state_dict()
    assert {name: list(state[name].shape) for name in PUBLISHED} == PUBLISHED
    assert len(state) == 513 and sum(value.numel() for value in network.parameters()) == 237_460_245
    tokens = network.vfeat_extractor(torch.zeros(1, 3, 16, 224, 224, device="meta"))
    heard = network.afeat_extractor(torch.zeros(1, 128, 66, device="meta"))
    assert tokens.shape == (1, 8, 768) and heard.shape == (1, 6, 768)
    assert network.compare(*(part[:, None].expand(-1, 14, -1, -1) for part in (tokens, heard))).shape == (1, 21)


def test_the_spectrogram_transformer_is_that_of_transformers(tmp_path: Path) -> None:
    """The library reads the published names, which are its older ones."""
    ours = randomised(SoundTransformer(SMALL))
    sizes = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ASTConfig(num_mel_bins=26, max_length=26, **sizes)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(ours.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    library, loading = ASTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    levels = torch.randn(3, 26, 26, generator=generator(0, "levels"))
    wanted = library.eval()(levels.transpose(1, 2)).last_hidden_state
    assert torch.allclose(ours(levels), wanted, atol=1e-5) and wanted.std() > 0.1


@pytest.mark.parametrize("over_time", [True, False])
def test_divided_attention_is_masked_attention(over_time: bool) -> None:
    frames, places, width = 3, 4, 8
    block = randomised(DividedAttention(width, 2))
    values = torch.randn(2, 1 + frames * places, width, generator=generator(0, "values"))
    frame, place = torch.arange(frames * places) // places, torch.arange(frames * places) % places
    same = place if over_time else frame
    mask = torch.ones(13, 13, dtype=torch.bool)
    mask[1:, 1:] = same[:, None] == same
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in block.qkv(values).chunk(3, -1))
    wanted = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    assert torch.allclose(block(values, frames, over_time), block.proj(wanted), atol=1e-6)


def test_places_and_times_are_told_apart() -> None:
    network = randomised(VideoSegments(SMALL))
    videos = torch.zeros(1, 3, 4, 32, 32)
    videos[:, :, 2:] = 1
    tokens = network(videos)
    assert tokens.shape == (1, 2, 16) and not torch.allclose(tokens[:, 0], tokens[:, 1])
    joint = randomised(JointTransformer(SMALL))
    video, sound = torch.randn(1, 6, 16), torch.randn(1, 6, 16)
    assert not torch.allclose(joint(video, sound), joint(video.flip(1), sound))
