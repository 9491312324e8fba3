"""ImageBind: the published layout, attention with a learnt key and value, and where a text ends."""

from __future__ import annotations

import pytest
import torch
from small_imagebind import SMALL, TOWER, randomised
from torch.nn import functional

from shared.perception.imagebind import Block, ImageBind
from shared.utils.rng import generator

#: Shapes of the public file, one of each kind.
PUBLISHED = {
    "modality_preprocessors.vision.cls_token": [1, 1, 1280],
    "modality_preprocessors.vision.rgbt_stem.proj.1.weight": [1280, 3, 2, 14, 14],
    "modality_preprocessors.vision.pos_embedding_helper.pos_embed": [1, 257, 1280],
    "modality_preprocessors.text.pos_embed": [1, 77, 1024],
    "modality_preprocessors.text.token_embedding.weight": [49408, 1024],
    "modality_preprocessors.audio.cls_token": [1, 1, 768],
    "modality_preprocessors.audio.rgbt_stem.proj.weight": [768, 1, 16, 16],
    "modality_preprocessors.audio.rgbt_stem.norm_layer.weight": [768],
    "modality_preprocessors.audio.pos_embedding_helper.pos_embed": [1, 229, 768],
    "modality_trunks.vision.pre_transformer_layer.0.bias": [1280],
    "modality_trunks.vision.blocks.31.attn.in_proj_weight": [3840, 1280],
    "modality_trunks.vision.blocks.31.mlp.fc1.weight": [5120, 1280],
    "modality_trunks.text.blocks.23.attn.in_proj_bias": [3072],
    "modality_trunks.text.blocks.23.norm_2.weight": [1024],
    "modality_trunks.audio.blocks.11.attn.bias_k": [1, 1, 768],
    "modality_trunks.audio.blocks.11.attn.bias_v": [1, 1, 768],
    "modality_trunks.audio.blocks.11.attn.out_proj.weight": [768, 768],
    "modality_trunks.audio.blocks.11.mlp.fc2.weight": [768, 3072],
    "modality_heads.vision.0.weight": [1280],
    "modality_heads.vision.2.weight": [1024, 1280],
    "modality_heads.text.proj.0.bias": [1024],
    "modality_heads.text.proj.1.weight": [1024, 1024],
    "modality_heads.audio.2.weight": [1024, 768],
    "modality_postprocessors.text.1.log_logit_scale": [],
    "modality_postprocessors.audio.1.log_logit_scale": [],
}
#: Tensors and values of each part of the public file, of a text's part without its mask.
TOTALS = {
    "preprocessors.vision": (3, 1_835_520), "preprocessors.text": (2, 50_672_640), "preprocessors.audio": (5, 374_784),
    "trunks.vision": (386, 629_680_640), "trunks.text": (288, 302_309_376), "trunks.audio": (168, 85_072_896),
    "heads.vision": (3, 1_313_280), "heads.text": (3, 1_050_624), "heads.audio": (3, 787_968),
    "postprocessors.text": (1, 1), "postprocessors.audio": (1, 1),
}  # fmt: skip


def values(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, name))


def test_the_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        network = ImageBind().eval()
        videos, levels = torch.zeros(2, 3, 2, 224, 224), torch.zeros(2, 1, 128, 204)
        shapes = [network.videos(videos).shape, network.sounds(levels).shape]
    state = network.state_dict()
    assert {name: list(state[name].shape) for name in PUBLISHED} == PUBLISHED
    found: dict[str, tuple[int, int]] = {}
    for name, value in state.items():
        part = ".".join(name.removeprefix("modality_").split(".")[:2])
        count, total = found.get(part, (0, 0))
        found[part] = (count + 1, total + value.numel())
    assert found == TOTALS and shapes == [(2, 1024)] * 2
    assert sum(total for _, total in TOTALS.values()) == 1_073_097_730


@pytest.mark.parametrize("bias_kv", [True, False])
def test_a_block_is_attention_with_one_key_more(bias_kv: bool) -> None:
    block = randomised(Block(TOWER, bias_kv))
    tokens = values("tokens", 3, 5, 16)
    attention, normed = block.attn, functional.layer_norm(tokens, (16,), block.norm_1.weight, block.norm_1.bias, 1e-6)
    q, k, v = functional.linear(normed, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    if bias_kv:
        k, v = (
            torch.cat([part, more.expand(3, 1, 16)], 1) for part, more in ((k, attention.bias_k), (v, attention.bias_v))
        )
    heads = [part.unflatten(-1, (2, 8)).transpose(1, 2) for part in (q, k, v)]
    logits = heads[0] @ heads[1].transpose(-1, -2) / 8**0.5
    read = (logits.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2)
    wanted = tokens + functional.linear(read, attention.out_proj.weight, attention.out_proj.bias)
    normed = functional.layer_norm(wanted, (16,), block.norm_2.weight, block.norm_2.bias, 1e-6)
    inner = functional.gelu(functional.linear(normed, block.mlp.fc1.weight, block.mlp.fc1.bias))
    wanted = wanted + functional.linear(inner, block.mlp.fc2.weight, block.mlp.fc2.bias)
    assert torch.allclose(block(tokens), wanted, atol=1e-5) and wanted.std() > 0.1


def test_a_text_is_read_up_to_its_end() -> None:
    network, end = randomised(ImageBind(SMALL)), SMALL.words - 1
    alone = network.texts(torch.tensor([[end - 1, 5, 7, end]]))
    filled = torch.tensor([[end - 1, 5, 7, end, 0, 0], [end - 1, 5, 7, end, 9, 3], [end - 1, 5, 7, 9, end, 0]])
    found = network.texts(filled)
    assert torch.allclose(found[:2], alone.expand(2, -1), atol=1e-5)
    assert (found[2] - alone[0]).abs().max() > 0.1
    other = network.texts(torch.tensor([[end - 1, 7, 5, end]]))
    assert (other - alone).abs().max() > 0.1  # the words before count, in their order


def test_embeddings_have_the_published_lengths() -> None:
    network = randomised(ImageBind(SMALL))
    lengths = [
        network.videos(values("videos", 2, 3, 2, 28, 28)).norm(dim=-1),
        network.sounds(values("levels", 2, 1, 26, 36)).norm(dim=-1),
        network.texts(torch.tensor([[3, SMALL.words - 1]])).norm(dim=-1),
    ]
    for length, wanted in zip(lengths, (1, 20, 1 / 0.07), strict=True):
        assert torch.allclose(length, torch.full_like(length, wanted), rtol=1e-4)
