"""Names of layers in each layout of LoRA files."""

from __future__ import annotations

import pytest

from shared.checkpoint.lora_layout import Layout, describe, group_tensors, layer_name, layout_of, likeliest, readings
from shared.utils.errors import UserError

OURS = "blocks.12.video.attn1.to_out.0"
NAMES: dict[Layout, str] = {
    "ours": f"transformer.{OURS}",
    "diffusers": "transformer.blocks.12.attn1.to_out.0",
    "original": "diffusion_model.blocks.12.self_attn.o",
    "musubi": "lora_unet_blocks_12_self_attn_o",
    "peft": f"base_model.model.{OURS}",
}


@pytest.mark.parametrize("layout", NAMES)
def test_a_layer_has_a_name_in_each_layout(layout: Layout) -> None:
    name = NAMES[layout]
    assert layer_name(layout, "transformer", OURS, "x") == name
    assert layout_of([name]) == layout
    assert ("transformer", OURS) in readings(name) and likeliest([name]) == {name: ("transformer", OURS)}


@pytest.mark.parametrize(
    "name",
    [
        "blocks.12.self_attn.o",  # DiffSynth-Studio
        "transformer.blocks.12.self_attn.o",  # older ai-toolkit
        "base_model.model.blocks.12.attn1.to_out.0",  # PEFT of a Wan
    ],
)
def test_other_prefixes_are_read(name: str) -> None:
    assert readings(name)[1] == ("transformer", OURS) == likeliest([name])[name]


def test_layers_outside_the_blocks() -> None:
    for ours, original, musubi in (
        ("video_stream.condition_embedder.text_embedder.linear_2", "text_embedding.2", "text_embedding_2"),
        ("video_stream.condition_embedder.time_proj", "time_projection.1", "time_projection_1"),
        ("video_stream.proj_out", "head.head", "head_head"),
    ):
        assert layer_name("original", "transformer", ours, "x") == f"diffusion_model.{original}"
        assert ("transformer", ours) in readings(f"diffusion_model.{original}") + readings(f"lora_unet_{musubi}")
        assert readings(f"lora_unet_{musubi}") == readings(f"diffusion_model.{original}")
        with pytest.raises(UserError, match="outside the blocks, where musubi has no adapters"):
            layer_name("musubi", "transformer", ours, "x")


@pytest.mark.parametrize("name", ["blocks.0.audio.attn1.to_q", "blocks.0.fusion.video.to_q", "x"])
@pytest.mark.parametrize("layout", ["diffusers", "original", "musubi"])
def test_what_no_wan_has_is_refused(name: str, layout: Layout) -> None:
    with pytest.raises(UserError, match=rf"transformer\.{name} is no layer of a Wan, so {layout} has no name for it"):
        layer_name(layout, "transformer", name, "x")
    with pytest.raises(UserError, match="no layer of a Wan"):
        layer_name(layout, "control", OURS, "x")


def test_a_cogvideox_keeps_its_names() -> None:
    """Its last layer is called as Wan's is."""
    layers = ["transformer.transformer_blocks.0.attn1.to_q", "transformer.proj_out"]
    assert likeliest(layers) == {layer: ("transformer", layer.removeprefix("transformer.")) for layer in layers}
    assert likeliest(["transformer.proj_out"]) == {"transformer.proj_out": ("transformer", "video_stream.proj_out")}


def test_tensors_are_sorted_by_layer_and_role() -> None:
    names = [f"a.0.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha", "diff_b")]
    assert group_tensors([*names, "n.diff", "b.diff_m"], "x") == {
        "a.0": dict(zip(("A", "B", "alpha", "bias"), names, strict=True)),
        "n": {"diff": "n.diff"},
        "b": {"modulation": "b.diff_m"},
    }
    for more, said in (
        (["a.0.lora_A.weight"], r"a\.0\.lora_down\.weight and a\.0\.lora_A\.weight are the same part"),
        (["a.0.dora_scale"], r"a\.0\.dora_scale is unknown"),
    ):
        with pytest.raises(UserError, match=said):
            group_tensors([*names, *more], "x")
    for none in (["a.weight"], ["a.diff"]):
        with pytest.raises(UserError, match="holds no LoRA weights"):
            group_tensors(none, "x")


def test_what_fits_is_described() -> None:
    shapes = {"blocks.0.audio.attn1.to_q": (8, 8)} | {f"blocks.{i}.video.attn1.to_q": (5120, 5120) for i in range(40)}
    assert describe(shapes) == "adapters of 40 blocks of width 5120, as Wan 14B is, fit"
    assert describe({"x": (1, 2)}) == "adapters of layers as x fit"
