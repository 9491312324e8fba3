"""What the tensors of a LoRA file mean for a layer, and what is refused, with what would fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from shared.checkpoint.lora_weights import Adapter, Linears, find_places, peft_settings, peft_weights, read_adapters
from shared.utils.errors import UserError
from shared.utils.rng import generator

Q, HEAD = "diffusion_model.blocks.0.self_attn.q", "diffusion_model.head.head"
LINEARS: Linears = {
    f"blocks.{block}.video.{name}": (size, True)
    for block in (0, 1)
    for name, size in (("attn1.to_q", (6, 6)), ("ffn.net.2", (6, 8)))
}
MODELS: dict[str, Linears] = {"transformer": {**LINEARS, "video_stream.proj_out": ((4, 6), True)}}


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(0, "test", *map(str, shape)))


def pair(layer: str, out: int = 6, into: int = 6, rank: int = 2) -> dict[str, Tensor]:
    return {f"{layer}.lora_down.weight": normal(rank, into), f"{layer}.lora_up.weight": normal(out, rank)}


def read(tensors: dict[str, Tensor], **settings: Any) -> tuple[dict[str, Adapter], list[str]]:
    places = find_places({name: tuple(value.shape) for name, value in tensors.items()}, MODELS, "x")
    said = {f"transformer.{name}": value for name, value in settings.items()}
    return read_adapters(tensors, said, places.layers, "x")["transformer"], places.left


def change(one: Adapter) -> Tensor:
    return one.alpha / one.rank * one.b.float() @ one.a.float()


def test_alpha_is_the_tensors_then_the_settings_then_the_rank() -> None:
    tensors = pair(Q)
    product = tensors[f"{Q}.lora_up.weight"] @ tensors[f"{Q}.lora_down.weight"]
    name = "blocks.0.video.attn1.to_q"
    for more, settings, scale in (
        ({f"{Q}.alpha": torch.tensor([3])}, {"r": 2, "lora_alpha": 9}, 1.5),
        ({}, {"r": 2, "lora_alpha": 8}, 4.0),
        ({}, {"r": 1, "lora_alpha": 8, "rank_pattern": {"self_attn.q": 2}, "alpha_pattern": {r"^blocks\..*q": 5}}, 2.5),
        ({}, {}, 1.0),
    ):
        adapters, left = read(tensors | more, **settings)
        assert not left and set(adapters) == {name}
        torch.testing.assert_close(change(adapters[name]), scale * product)


def test_a_bias_is_added_as_it_is_unless_it_is_pefts() -> None:
    tensors = pair(Q) | {f"{Q}.alpha": torch.tensor(4.0)}
    for name, factor in ((f"{Q}.diff_b", 1), (f"{Q}.lora_B.bias", 2)):
        one = read(tensors | {name: normal(6)})[0]["blocks.0.video.attn1.to_q"]
        assert one.bias is not None and one.alpha == one.rank  # PEFT would scale the bias
        torch.testing.assert_close(one.bias, factor * normal(6))
        torch.testing.assert_close(change(one), 2 * tensors[f"{Q}.lora_up.weight"] @ tensors[f"{Q}.lora_down.weight"])


def test_a_whole_difference_of_a_layer_is_taken_and_others_are_left() -> None:
    wide = "diffusion_model.blocks.1.ffn.2"
    tensors = pair(Q) | {f"{HEAD}.diff": normal(4, 6), f"{HEAD}.diff_b": normal(4), f"{wide}.diff": normal(6, 8)}
    norms = {"diffusion_model.blocks.0.norm3.diff": normal(6), "diffusion_model.blocks.0.diff_m": normal(1, 6, 6)}
    norms |= {"diffusion_model.patch_embedding.diff": normal(6, 4, 1, 2, 2), f"{Q}.diff_m": normal(6)}
    adapters, left = read(tensors | norms)
    assert sorted(left) == sorted(norms)
    torch.testing.assert_close(change(adapters["video_stream.proj_out"]), normal(4, 6))
    torch.testing.assert_close(change(adapters["blocks.1.video.ffn.net.2"]), normal(6, 8))
    assert adapters["video_stream.proj_out"].bias is not None


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16])
def test_every_dtype_is_read(kind: torch.dtype) -> None:
    tensors = {name: value.to(kind) for name, value in pair(Q).items()}
    one = read(tensors)[0]["blocks.0.video.attn1.to_q"]
    expected = tensors[f"{Q}.lora_up.weight"].float() @ tensors[f"{Q}.lora_down.weight"].float()
    torch.testing.assert_close(change(one), expected)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            pair("transformer.blocks.0.attn1.to_q", 9, 9),
            r"transformer\.blocks\.0\.video\.attn1\.to_q has A \[2, 9\] and B \[9, 2\]; here they must be \[rank, 6\] "
            r"and \[6, rank\]: adapters of 2 blocks of width 6 fit",
        ),
        (
            pair("lora_unet_blocks_7_self_attn_q"),
            r"no layer transformer\.blocks\.7\.video\.attn1\.to_q \(lora_unet_blocks_7_self_attn_q\); .* 2 blocks of",
        ),
        (pair("diffusion_model.blocks.0.cross_attn.k_img"), "which an image-to-video Wan has; it belongs to another"),
        (pair("transformer_2.blocks.0.attn1.to_q"), r"no layer transformer\.transformer_2\.blocks"),
        (pair("base_model.model.x"), r"no layer transformer\.x \(base_model\.model\.x\)"),
        (pair("control.x"), "changes control, of which this pipeline has none"),
        (pair(Q) | pair("transformer.blocks.0.attn1.to_q"), "attn1.to_q is changed twice"),
        (pair(Q) | {f"{Q}.alpha": normal(2)}, r"has an alpha of shape \[2\]; one number is needed"),
        (pair(Q) | {f"{Q}.diff_b": normal(5)}, r"has a bias \[5\], which the layer cannot take"),
        (pair(Q) | {f"{Q}.diff": normal(6, 6)}, "has a diff beside lora_A or lora_B"),
        (pair(Q) | {f"{HEAD}.diff": normal(4, 5)}, r"has a diff \[4, 5\]; here it must be \[4, 6\]"),
        (pair(Q) | {f"{Q}.alpha": torch.tensor(float("inf"))}, "alpha inf of .* is no number"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(tensors: dict[str, Tensor], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(tensors)


def test_settings_for_peft_name_the_layers_that_differ() -> None:
    adapters = {
        "a.q": Adapter(normal(2, 6), normal(6, 2), 2.0),
        "a.k": Adapter(normal(2, 6), normal(6, 2), 2.0),
        "b": Adapter(normal(3, 6), normal(6, 3), 3.0, normal(6)),
    }
    settings = peft_settings(adapters)
    assert settings["r"] == 2 and settings["target_modules"] == ["a.k", "a.q", "b"] and settings["lora_bias"]
    assert settings["rank_pattern"] == {"^b": 3} and settings["alpha_pattern"] == {"^b": 3.0}
    weights = peft_weights(adapters)
    assert len(weights) == 9 and not weights["a.q.lora_B.bias"].any()
    for settings, said in (
        ({"r": 2, "lora_alpha": 2}, "says rank 2, its weights have"),
        ({"r": 3, "lora_alpha": 2, "alpha_pattern": {"(": 2}}, "alpha_pattern has no regular expression"),
    ):
        with pytest.raises(UserError, match=said):
            read(pair(Q, rank=3), **settings)
