"""Wan's names and sizes: against diffusers' own conversion and classes, at full size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from public import MODEL, SMALL, full_size, in_memory, on_meta, original, shapes_of, small_wan, stream_shapes

from ccl.transformer import DualStreamTransformer
from shared.checkpoint.conversion.wan import (
    NEW_PARTS,
    check_config,
    describe_weights,
    own_parts,
    stream_names,
    transformer_place,
    wan_config,
    weight_map,
)
from shared.checkpoint.conversion.weight_map import SourceTensor, totals
from shared.checkpoint.wan_names import to_diffusers, to_original
from shared.nn.dit import StreamConfig
from shared.nn.parameter_names import part_of
from shared.utils.errors import UserError

#: The public configurations, and what their models and ours have: values of the video stream and of all.
PUBLIC = {
    "wan2.1-1.3b": (
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "in_channels": 16, "out_channels": 16},
        1_418_996_800,
        2_981_798_592,
    ),
    "wan2.1-14b": (
        {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "in_channels": 16, "out_channels": 16},
        14_288_491_584,
        22_609_567_936,
    ),
    "wan2.2-5b": (
        {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48},
        4_999_787_712,
        10_569_514_304,
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_full_size_streams_are_diffusers_own(name: str) -> None:
    public, video, everything = PUBLIC[name]
    theirs = shapes_of(on_meta(lambda: WanTransformer3DModel(text_dim=4096, **public)))
    model = full_size(name)
    assert stream_shapes(model, "video") == theirs
    *parts, whole = totals(shapes_of(model))
    assert (parts[0].part, parts[0].values, whole.values) == ("video_stream", video, everything)
    assert wan_config(model.video_stream.config, name).items() >= public.items()
    assert model.audio_stream.config.width in (1536, 3072)
    assert 4 * model.config.cca_heads * model.config.cca_head_dim == model.video_stream.config.width
    # the map of names, against the library's own, and back
    renamed = {str(to_original(one)): one for one in theirs}
    assert convert_wan_transformer_to_diffusers(dict(renamed)) == {one: one for one in theirs}
    assert {one: to_diffusers(one) for one in renamed} == renamed
    assert len(renamed) == len(theirs) and not renamed.keys() & (theirs.keys() - {
        "patch_embedding.weight", "patch_embedding.bias"
    })  # fmt: skip


def test_a_weight_map_says_where_each_tensor_is_from() -> None:
    state = small_wan().state_dict()
    shapes = shapes_of(on_meta(lambda: DualStreamTransformer(**MODEL)))
    for tensors in (state, original(state)):
        mapping = weight_map(shapes, in_memory(tensors))
        taken = {ours: origin.name for ours, origin in mapping.origins.items() if isinstance(origin, SourceTensor)}
        assert len(taken) == len(set(taken.values())) == len(state) and not mapping.left
        assert {part_of(ours) for ours in taken} == {"video_stream"}
        assert isinstance(mapping.origins["blocks.0.fusion.video.to_out.weight"], str)
    assert stream_names(original(state), "")[0] == "original"


def test_what_does_not_fit_is_refused() -> None:
    state = small_wan().state_dict()
    shapes = shapes_of(on_meta(lambda: DualStreamTransformer(**MODEL)))
    extra = {f"blocks.0.attn2.add_{part}_proj.weight": state["proj_out.bias"] for part in "abkv"}
    with pytest.raises(
        UserError, match=r"source: 4 tensors \(blocks\.0\.attn2\.add_a_proj\.weight, .* \.\.\.\) without"
    ):
        weight_map(shapes, in_memory(state | extra))
    lacking = {name: value for name, value in state.items() if name != "proj_out.bias"}
    with pytest.raises(UserError, match=r"nothing for 1 tensor \(video_stream\.proj_out\.bias\)"):
        weight_map(shapes, in_memory(lacking))
    with pytest.raises(UserError, match=r"54 tensors .* without a place in the model"):
        weight_map(shapes, in_memory(small_wan(num_layers=4).state_dict()))
    with pytest.raises(
        UserError, match=r"4 tensors .* of another shape: blocks.* is \[72\], blocks\.0\.video.* \[64\]"
    ):
        wider = state | {f"blocks.{i}.ffn.net.0.proj.bias": state["proj_out.bias"].new_zeros(72) for i in (0, 1)}
        weight_map(
            shapes, in_memory(wider | {f"blocks.{i}.ffn.net.2.weight": state["proj_out.weight"] for i in (0, 1)})
        )
    with pytest.raises(UserError, match="none of them of a Wan transformer"):
        weight_map(shapes, in_memory({"encoder.weight": state["proj_out.bias"]}))


def test_sizes_beside_the_weights_are_compared(tmp_path: Path) -> None:
    stream = StreamConfig(**SMALL)
    assert not check_config(tmp_path, stream)
    small_wan().save_config(tmp_path)
    assert check_config(tmp_path, stream)
    theirs = json.loads((tmp_path / "config.json").read_text())
    ours = {"_class_name": "WanModel", "model_type": "t2v", "in_dim": 4, "out_dim": 4, "num_heads": 2, "num_layers": 2}
    for config, change, said in (
        # the same width in other heads: nothing but this file tells
        (
            theirs,
            {"num_attention_heads": 4, "attention_head_dim": 12},
            r"is 12, and video\.attention_head_dim 24 in the model",
        ),
        (theirs, {"image_dim": 1280}, "image_dim is 1280; a text-to-video Wan"),
        (theirs, {"out_channels": 8}, "in_channels is 8"),
        (theirs, {"_class_name": "UNet2DModel"}, "describes UNet2DModel"),
        (ours, {"num_heads": 4}, "num_attention_heads is 4"),
        (ours, {"model_type": "i2v"}, "model_type is i2v; t2v or ti2v"),
        (ours, {}, ""),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        if not said:
            assert check_config(tmp_path, stream)
            continue
        with pytest.raises(UserError, match=said):
            check_config(tmp_path, stream)


def test_two_experts_must_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    assert transformer_place(tmp_path) == tmp_path / "transformer"
    (tmp_path / "transformer_2").mkdir()
    with pytest.raises(UserError, match="has two experts; name the folder"):
        transformer_place(tmp_path)
    assert transformer_place(tmp_path / "transformer_2") == tmp_path / "transformer_2"
    for name in ("high_noise_model", "low_noise_model"):  # as Wan itself has them
        (tmp_path / "Wan2.2" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"name the folder of one, Wan2\.2/high_noise_model \(high noise\) or low_n"):
        transformer_place(tmp_path / "Wan2.2")
    told = describe_weights(in_memory(original(small_wan().state_dict())), tmp_path / "Wan2.2/low_noise_model")
    assert told.endswith("a Wan in the original layout, 2 blocks of width 48, Wan2.2's expert for low noise")
    (tmp_path / "Wan2.2/Wan2.1_VAE.pth").touch()
    (tmp_path / "Wan2.2/models_t5_umt5-xxl-enc-bf16.pth").touch()
    for source in (tmp_path / "Wan2.2", tmp_path / "Wan2.2/low_noise_model"):
        vae, t5 = own_parts(source)
        assert "VAE.pth: Wan's own VAE" in vae and "--video-codec" in vae and "--text-encoder" in t5


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_a_prefixed_single_file_is_that_wan(prefix: str) -> None:
    """As other programs keep it, with a codec in the same file."""
    state = original(small_wan().state_dict())
    weights = in_memory({prefix + name: value for name, value in state.items()} | {"vae.x": state["head.head.bias"]})
    mapping = weight_map(shapes_of(on_meta(lambda: DualStreamTransformer(**MODEL))), weights)
    taken = {ours: one.name for ours, one in mapping.origins.items() if isinstance(one, SourceTensor)}
    assert len(taken) == len(state) and taken["blocks.1.video.norm2.bias"] == f"{prefix}blocks.1.norm3.bias"
    assert [name for _, name, _ in mapping.left] == ["vae.x"]
    assert f"in the original layout, its names behind {prefix}, 2 blocks of width 48" in describe_weights(
        weights, Path("x")
    )


def test_a_vae_given_as_a_wan_is_named() -> None:
    vae = {"decoder.middle.0.residual.0.gamma": small_wan().state_dict()["proj_out.bias"]}
    with pytest.raises(UserError, match=r"it is Wan2\.1's VAE, of which `scripts/convert\.py part` makes a folder"):
        stream_names(vae, "x")


def test_wan_has_neither_skip_nor_gate_nor_frame_rate_nor_average_nor_refiner() -> None:
    with pytest.raises(
        UserError,
        match="video stream has skip true, gate false, frame_rate false, average false, text_layers 0, grid video; Wan",
    ):
        wan_config(StreamConfig(**SMALL, skip=True), "mine")
    with pytest.raises(UserError, match=r"text_layers 1, grid video; .* cannot hold these weights"):
        wan_config(StreamConfig(**SMALL, text_layers=1, text_heads=1), "mine")
    with pytest.raises(
        UserError, match=r"skip false, gate false, frame_rate true, average false, text_.* cannot hold these weights"
    ):
        wan_config(StreamConfig(**SMALL, frame_rate=True), "mine")


def test_weights_for_a_frame_rate_an_average_and_a_refiner_are_new_and_all_others_are_wans() -> None:
    more = {"frame_rate": True, "average": True, "text_layers": 1, "text_heads": 1}
    state, told = small_wan().state_dict(), MODEL | {"video": SMALL | more}
    told["audio"] = told["audio"] | {"average": True}
    shapes, plain = (shapes_of(on_meta(lambda m=m: DualStreamTransformer(**m))) for m in (told, MODEL))
    mapping = weight_map(shapes, in_memory(state))
    new = {name for name in shapes if part_of(name) == "video_stream"} - set(plain)
    assert {mapping.origins[name] for name in new} == set(NEW_PARTS.values()) and not new & set(plain)
    of_video = [mapping.origins[one] for one in shapes if part_of(one) == "video_stream" and one not in new]
    assert len(of_video) == len(state) and all(isinstance(one, SourceTensor) for one in of_video)
    assert all(f"new: {why}" in mapping.report() for why in NEW_PARTS.values())
