"""Ovi's layout: names and totals at full size, where everything goes, and that the parts compute what Ovi's do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from public import OVI_MODEL, full_size, in_memory, on_meta, ovi_shapes, shapes_of, small_ovi, without_values
from torch.nn import functional

from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.checkpoint.conversion.ovi import AUDIO_OUT, weight_map
from shared.checkpoint.conversion.weight_map import SourceTensor
from shared.nn.clock import LatentClock
from shared.utils.errors import UserError
from shared.utils.rng import generator

FULL = {"layers": 30, "width": 3072, "ffn": 14336, "text": 4096, "freq": 256, "video": 48, "hidden": 8192}


def test_the_layout_has_the_published_totals() -> None:
    sizes = {name: math.prod(shape) for name, shape in ovi_shapes(**FULL).items()}
    fusion = sum(size for name, size in sizes.items() if "fusion" in name)
    video = sum(size for name, size in sizes.items() if name.startswith("video_model.") and "fusion" not in name)
    assert round(sum(sizes.values()) / 1e9, 2) == 11.66
    assert [round(n / 1e9, 2) for n in (video, sum(sizes.values()) - video - fusion, fusion)] == [5.0, 5.53, 1.13]


@pytest.mark.parametrize("fusion", ["full", "cca"])
def test_a_full_size_ovi_has_its_place(fusion: str) -> None:
    model, theirs = full_size("wan2.2-5b-ovi", fusion=fusion), ovi_shapes(**FULL)
    mapping = weight_map(shapes_of(model), without_values(theirs), fusion)
    new = {name for name, origin in mapping.origins.items() if isinstance(origin, str)}
    outside = {
        f"audio_stream.{layer}.{kind}" for layer in ("patch_embedding", "proj_out") for kind in ("weight", "bias")
    }
    extra = {
        f"blocks.{i}.fusion.{stream}.{name}"
        for stream in ("video", "audio")
        for i in range(30)
        for name in ("to_out.bias", "context_tokens")
    }
    assert new == outside | (extra if fusion == "cca" else set())
    left = {name for _, name, _ in mapping.left}
    assert left == {*AUDIO_OUT, *(name for name in theirs if name.startswith("audio_model.patch_embedding."))}
    taken = {origin.name for origin in mapping.origins.values() if isinstance(origin, SourceTensor)}
    assert taken == theirs.keys() - left


def converted(fusion: str, **changes: Any) -> tuple[DualStreamTransformer, dict[str, torch.Tensor]]:
    theirs = small_ovi()
    model = DualStreamTransformer(**(OVI_MODEL | {"fusion": fusion} | changes)).eval()
    mapping = weight_map(shapes_of(model), in_memory(theirs), fusion)
    state = {name: theirs[o.name] for name, o in mapping.origins.items() if isinstance(o, SourceTensor)}
    model.load_state_dict(state, strict=False)
    return model, theirs


@torch.no_grad()
def test_cca_has_ovis_projections() -> None:
    """Its queries, keys, values and output are Ovi's formula; its output adds no bias a second time."""
    model, theirs = converted("cca")
    x, y = (torch.randn(1, 3, 48, generator=generator(0, "test", name)) for name in "xy")
    for tower, cca in (("video", model.blocks[1].fusion.video), ("audio", model.blocks[1].fusion.audio)):
        block = f"{tower}_model.blocks.1"

        def linear(value: torch.Tensor, name: str, block: str = block) -> torch.Tensor:
            name = f"{block}.cross_attn.{name}"
            return functional.linear(value, theirs[f"{name}.weight"], theirs[f"{name}.bias"])

        def norm(value: torch.Tensor, name: str, block: str = block) -> torch.Tensor:
            weight, bias = theirs[f"{block}.{name}.weight"], theirs.get(f"{block}.{name}.bias")
            if bias is None:
                return functional.rms_norm(value, (48,), weight, 1e-6)
            return functional.layer_norm(value, (48,), weight, bias, 1e-6)

        q = norm(linear(norm(x, "norm3"), "q"), "cross_attn.norm_q")
        torch.testing.assert_close(cca.queries(x).flatten(2), q, rtol=0, atol=1e-5)
        given = norm(y, "cross_attn.pre_attn_norm_fusion")
        k, v = cca.key_value(y)
        expected = norm(linear(given, "k_fusion"), "cross_attn.norm_k_fusion")
        torch.testing.assert_close(k.flatten(2), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(v.flatten(2), linear(given, "v_fusion"), rtol=0, atol=1e-5)
        out = functional.linear(x, theirs[f"{block}.cross_attn.o.weight"])
        torch.testing.assert_close(cca.to_out(x), out, rtol=0, atol=1e-5)


def test_the_full_baseline_shares_the_text_attention() -> None:
    model, theirs = converted("full")
    fusion = model.blocks[0].fusion.audio
    assert torch.equal(fusion.to_v.weight, theirs["audio_model.blocks.0.cross_attn.v_fusion.weight"])
    assert torch.equal(
        model.blocks[1].fusion.video.norm_y.bias, theirs["video_model.blocks.1.cross_attn.pre_attn_norm_fusion.bias"]
    )
    assert torch.equal(model.blocks[1].audio.norm2.weight, theirs["audio_model.blocks.1.norm3.weight"])
    assert torch.equal(model.audio_stream.scale_shift_table, theirs["audio_model.head.modulation"])
    assert not model.audio_stream.proj_out.weight.any()


def test_the_audio_output_is_taken_where_it_fits() -> None:
    audio = OVI_MODEL["audio"] | {"in_channels": 20}
    model, theirs = converted("full", audio=audio)
    assert torch.equal(model.audio_stream.proj_out.weight, theirs["audio_model.head.head.weight"])


def test_what_does_not_fit_is_refused() -> None:
    theirs = small_ovi()
    shapes = shapes_of(on_meta(lambda: DualStreamTransformer(**OVI_MODEL)))
    with pytest.raises(UserError, match=r"1 tensor \(video_model\.extra\) without a place"):
        weight_map(shapes, in_memory(theirs | {"video_model.extra": torch.zeros(1)}), "cca")
    lacking = {name: value for name, value in theirs.items() if "1.cross_attn.v_fusion" not in name}
    with pytest.raises(UserError, match=r"nothing for 4 tensors \(blocks\.1\.fusion\.video\.to_v\.weight"):
        weight_map(shapes, in_memory(lacking), "cca")
    with pytest.raises(UserError, match="a fused checkpoint of Ovi is needed"):
        weight_map(shapes, in_memory({name: value for name, value in theirs.items() if "video" in name}), "cca")
    narrow = shapes_of(on_meta(lambda: DualStreamTransformer(**(OVI_MODEL | {"cca_heads": 1}))))
    with pytest.raises(UserError, match="of another shape"):
        weight_map(narrow, in_memory(theirs), "cca")


def drawn(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "test", name))


def streams() -> tuple[StreamInput, StreamInput]:
    """Video of 3 latents at 24 fps and audio at Ovi's rate, 31.25 a second."""
    level, text = torch.tensor([0.7]), drawn("text", 1, 3, 16)
    video = StreamInput(drawn("video", 1, 4, 3, 4, 4), level, text, LatentClock.causal_video(3, 24.0, 4))
    return video, StreamInput(drawn("audio", 1, 12, 8), level, text, LatentClock.at_rate(12, 31.25))


@torch.no_grad()
def test_without_the_other_stream_a_converted_tower_is_the_tower_alone_to_the_bit() -> None:
    """0m of the CCA layout: context tokens that nobody has trained add nothing."""
    harmless, _ = converted("cca", unconditional="zero")
    harmful, _ = converted("cca")
    harmful.load_state_dict(harmless.state_dict())  # the new parts too
    video, audio = streams()
    for name, route, given in (("video", Task.T2V.route, (video, None)), ("audio", Task.T2A.route, (None, audio))):
        index = ("video", "audio").index(name)
        stream, state = getattr(harmless, f"{name}_stream"), given[index]
        if name == "audio":
            torch.nn.init.normal_(stream.proj_out.weight, generator=generator(0, "test", "out"))
            harmful.audio_stream.load_state_dict(stream.state_dict())
        latents = state.latents if name == "video" else state.latents.transpose(1, 2)[..., None, None]
        alone = stream(latents, state.sigma, state.text, state.clock)
        alone = alone if name == "video" else alone.flatten(2).transpose(1, 2)
        found = harmless(route, *given)[index]
        assert torch.equal(found, alone) and alone.std() > 0.1
        assert not torch.allclose(harmful(route, *given)[index], alone, atol=0.01)
    joint = harmless(Task.T2AV.route, video, audio)[0]
    assert torch.equal(joint, harmful(Task.T2AV.route, video, audio)[0])  # where both read, nothing is changed
    assert not torch.allclose(joint, harmless(Task.T2V.route, video, None)[0], atol=0.01)


def test_the_audio_turns_by_the_released_constant() -> None:
    """0.19676 times the bands of 44 dimensions of 128 per token, in self-attention and where it meets the video."""
    unit = full_size("wan2.2-5b-ovi").config["audio"]["time_unit"]
    assert 0.032 / unit == pytest.approx(0.19676, abs=1e-7)
    head = {"num_attention_heads": 1, "attention_head_dim": 128, "num_layers": 1}
    sizes = OVI_MODEL | {name: OVI_MODEL[name] | head for name in ("video", "audio")}
    model = DualStreamTransformer(**(sizes | {"fusion": "full", "fusion_time_unit": unit}))
    video, audio = streams()
    state = model.video_stream.embed(video.latents, video.sigma, video.text, video.clock)
    reads, read = model._rotary(Task.T2AV.route, video, audio, state)
    bands = 10000.0 ** (-torch.arange(0, 44, 2, dtype=torch.float64) / 44)
    expected = 0.19676 * torch.arange(12, dtype=torch.float64)[:, None] * bands
    for turned in (reads["key_rotary"], read["query_rotary"]):
        found = turned[:, 0].to(torch.complex128)
        target = torch.polar(torch.ones_like(expected), expected)
        torch.testing.assert_close(found[:, :22], target, rtol=0, atol=1e-5)
        assert torch.equal(found[:, 22:], torch.ones_like(found[:, 22:]))
    with pytest.raises(ValueError, match="fusion_time_unit places the tokens of fusion full, not of cca"):
        DualStreamTransformer(**(OVI_MODEL | {"fusion_time_unit": 1.0}))
