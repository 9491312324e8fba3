"""MTV's public weights: their totals, and where everything goes."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from mtvcraft import FULL, PREFIX, public_shapes, small_public
from public import in_memory, on_meta, shapes_of, without_values

from mtv.mtvcraft import MTVCraftControl
from shared.checkpoint.conversion.mtvcraft import divided, sizes_of, weight_map
from shared.checkpoint.conversion.weight_map import SourceTensor, WeightMap
from shared.utils.errors import UserError


def mapped(weights, size, stride) -> tuple[CogVideoXTransformer3DModel, MTVCraftControl, WeightMap]:
    """Both models without values, and the map of their tensors."""
    sizes = sizes_of(weights, size, stride)
    model = on_meta(lambda: CogVideoXTransformer3DModel(**sizes.transformer))
    control = on_meta(lambda: MTVCraftControl(**sizes.control))
    shapes = {f"transformer.{name}": shape for name, shape in shapes_of(model).items()}
    shapes |= {f"control.{name}": shape for name, shape in shapes_of(control).items()}
    return model, control, weight_map(shapes, divided(weights))


@pytest.mark.parametrize(("speakers", "total"), [(1, 5_962_412_544), (2, 6_954_092_544)])
def test_a_full_size_one_has_the_published_totals_and_its_place(speakers, total) -> None:
    theirs = public_shapes(speakers, **FULL)
    model, control, mapping = mapped(without_values(theirs), (480, 720), 8)
    assert control.config.speakers == speakers and control.num_parameters() == total
    music, norms = 42 * 4_724_736, 42 * 2 * 6_144
    parts = {
        "audio_proj": 3 * 1_244_449_280, "audio_combine": 4 * 11_817_216, "audio_attn": 42 * 2 * 23_605_248 + norms,
    }  # fmt: skip
    for part, count in parts.items():
        if speakers == 1:
            named = (part, "audio_input_layernorm") if part == "audio_attn" else (part,)
            sizes = [p.numel() for name, p in control.named_parameters() if any(one in name for one in named)]
            assert sum(sizes) == count, part
    assert sum(p.numel() for name, p in control.named_parameters() if "music_adaLn" in name) == music
    pooling = [p.numel() for name, p in control.named_parameters() if name.startswith("audio_proj.conv1")]
    assert sum(pooling) == 1_207_984_128
    config = model.config
    assert (config.in_channels, config.out_channels, config.num_layers, config.max_text_seq_length) == (32, 16, 42, 226)
    assert (config.num_attention_heads, control.config.heads) == (48, 48)
    assert all(isinstance(origin, SourceTensor) for origin in mapping.origins.values())  # nothing is new
    assert {name for _, name, _ in mapping.left} == {f"{PREFIX}mixins.pos_embed.freqs_{x}" for x in ("sin", "cos")}
    ours = sum(math.prod(shape) for shape in mapping.shapes.values())
    left = sum(math.prod(theirs[name]) for _, name, _ in mapping.left)
    assert ours + left == sum(math.prod(shape) for shape in theirs.values())


def test_what_does_not_fit_is_refused() -> None:
    weights = small_public()
    with pytest.raises(UserError, match=r"1 tensor \(model\.diffusion_model\.extra\) without a place"):
        mapped(in_memory(weights | {f"{PREFIX}extra": torch.zeros(1)}), (32, 32), 8)
    with pytest.raises(UserError, match="public weights of MTVCraft, as safetensors, are needed"):
        mapped(in_memory({"blocks.0.attn1.to_q.weight": torch.zeros(1)}), (32, 32), 8)
    with pytest.raises(UserError, match="has fewer positions"):
        mapped(in_memory(weights), (64, 64), 8)
    lacking = {name: value for name, value in weights.items() if "1.audio_attn_effect.dense" not in name}
    with pytest.raises(UserError, match=r"nothing for 2 tensors \(control\.layers\.1\.audio_attn_effect\.dense"):
        mapped(in_memory(lacking), (32, 32), 8)
