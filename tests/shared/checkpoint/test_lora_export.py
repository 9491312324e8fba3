"""LoRA of other libraries in ours, and ours in theirs: the same outputs on the same small Wan.

diffusers and PEFT write and read their own files. Files of the original layout and of musubi are written here by their
published names, and diffusers' own reader says what they mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from public import MODEL, randomise, small_wan
from safetensors.torch import load_file, save_file
from small import pipeline
from torch import Tensor, nn

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from mtv.control import MSTControlNet
from mtv.pipeline import MTVPipeline
from shared.checkpoint.lora import add_lora, save_lora
from shared.checkpoint.lora_export import convert_lora
from shared.checkpoint.lora_file import FILE
from shared.checkpoint.lora_layout import Layout
from shared.encoders import LogMel
from shared.nn.parameter_names import joint_name
from shared.utils.config import Lora
from shared.utils.errors import UserError
from shared.utils.rng import generator

WIDTH, FFN, BLOCKS = 48, 64, 2
#: What musubi-tuner and diffusion-pipe adapt in each block, by Wan's own names: [out, in].
IN_BLOCK = {f"{attention}.{part}": (WIDTH, WIDTH) for attention in ("self_attn", "cross_attn") for part in "qkvo"}
IN_BLOCK |= {"ffn.0": (FFN, WIDTH), "ffn.2": (WIDTH, FFN)}


def normal(name: str, *shape: int, std: float = 0.3) -> Tensor:
    return std * torch.randn(shape, generator=generator(0, "test", name))


@pytest.fixture
def wan() -> WanPipeline:
    return wan_pipeline(small_wan())


def wan_pipeline(model: WanTransformer3DModel) -> WanPipeline:
    return WanPipeline(None, None, None, FlowMatchEulerDiscreteScheduler(), model)


def joint() -> DualStreamTransformer:
    """A joint model whose video stream is the small Wan, and whose fusion adds nothing, as after a conversion."""
    model = DualStreamTransformer(**MODEL).eval()
    randomise(model)
    for block in model.blocks:
        block.fusion.video.to_out.requires_grad_(False).weight.zero_()
        block.fusion.video.to_out.bias.zero_()
    theirs = {joint_name("video", name): value for name, value in small_wan().state_dict().items()}
    model.load_state_dict(model.state_dict() | theirs)
    return model


@pytest.fixture
def pipe() -> CCLPipeline:
    return pipeline(joint())


def inputs() -> tuple[Tensor, Tensor]:
    return normal("latents", 1, 4, 2, 4, 4, std=1), normal("text", 1, 3, 16, std=1)


@torch.no_grad()
def of_wan(model: WanTransformer3DModel) -> Tensor:
    latents, text = inputs()
    return model(latents, torch.tensor([700.0]), text).sample


@torch.no_grad()
def of_ours(pipe: CCLPipeline | MTVPipeline, model: Any = None) -> Tensor:
    latents, text = inputs()
    clock = pipe.video_codec.clock(5, 8.0)
    return (model or pipe.transformer).denoise_video(latents, torch.tensor([0.7]), text, clock)


def same(found: Tensor, expected: Tensor, base: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected - base).abs().max() > 0.05


def filled(model: nn.Module) -> None:
    """Random adapters, both sides."""
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.copy_(normal(name, *weight.shape))


def original(layout: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A file of all layers of the blocks, as the tools that have this layout name them."""
    tensors: dict[str, Tensor] = {}
    for block in range(BLOCKS):
        for name, (out, into) in IN_BLOCK.items():
            a, b = normal(f"a{block}{name}", 4, into), normal(f"b{block}{name}", out, 4)
            layer = f"blocks.{block}.{name}"
            if layout == "musubi":
                layer = "lora_unet_" + layer.replace(".", "_")
                parts = {"lora_down.weight": a, "lora_up.weight": b, "alpha": torch.tensor(3)}
            elif layout == "down":
                layer = f"diffusion_model.{layer}"
                parts = {"lora_down.weight": a, "lora_up.weight": b, "alpha": torch.tensor(3.0)}
                parts["diff_b"] = normal(f"bias{block}{name}", out)
            else:
                layer = f"diffusion_model.{layer}"
                parts = {"lora_A.weight": a, "lora_B.weight": b}
            kept = {"alpha"} if layout == "musubi" else set()  # a whole number there
            tensors |= {f"{layer}.{part}": t if part in kept else t.to(dtype) for part, t in parts.items()}
    return tensors


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [("musubi", torch.float32), ("musubi", torch.float16), ("down", torch.float32), ("A", torch.bfloat16)],
)
def test_original_layouts_do_what_they_do_in_diffusers(
    wan: WanPipeline, pipe: CCLPipeline, tmp_path: Path, layout: str, dtype: torch.dtype
) -> None:
    tensors = original(layout, dtype)
    save_file(tensors, tmp_path / "lora.safetensors")
    base = of_wan(wan.transformer)
    torch.testing.assert_close(of_ours(pipe), base, rtol=0, atol=1e-5)
    wan.load_lora_weights({name: value.float() for name, value in tensors.items()})  # theirs rounds alpha to the dtype
    pipe.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="style")
    same(of_ours(pipe), of_wan(wan.transformer), base)


@pytest.mark.parametrize("patterns", [{}, {"rank_pattern": {"to_k": 2}, "alpha_pattern": {"to_v": 7}}])
def test_diffusers_own_file_is_loaded(
    wan: WanPipeline, pipe: CCLPipeline, tmp_path: Path, patterns: dict[str, Any]
) -> None:
    base = of_wan(wan.transformer)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "time_proj", "linear_1", "proj_out"]
    wan.transformer.add_adapter(LoraConfig(r=3, lora_alpha=5, target_modules=targets, **patterns))
    filled(wan.transformer)
    about = _collate_lora_metadata({"transformer": wan.transformer})
    WanPipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(wan.transformer), **about)
    pipe.load_lora_weights(tmp_path)
    same(of_ours(pipe), of_wan(wan.transformer), base)


def test_a_wan_lora_is_loaded_for_driven_video_too(pipe: CCLPipeline, tmp_path: Path) -> None:
    save_file(original("musubi"), tmp_path / "lora.safetensors")
    sizes = {"token_dim": 16, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 16, "hidden_dim": 16}
    tracks = dict.fromkeys(("speech", "effects", "music"), (1, 1, 8))
    control = MSTControlNet(backbone_dim=WIDTH, backbone_heads=2, num_blocks=BLOCKS, tracks=tracks, **sizes)
    parts = {"control": control, "audio_encoder": LogMel(parts_per_frame=1, n_mels=8)}
    driven, base = MTVPipeline.from_pipe(pipeline(joint()), **parts), of_ours(pipe)
    for one in (driven, pipe):
        one.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="rain")
        one.set_adapters(["rain"], [0.5])
    assert torch.equal(of_ours(driven), of_ours(pipe)) and (of_ours(pipe) - base).abs().max() > 0.05


def test_what_is_no_low_rank_change_is_told_of(pipe: CCLPipeline, tmp_path: Path) -> None:
    layer = "diffusion_model.blocks.0.norm3"
    norms = {f"{layer}.diff": normal("norm", WIDTH), f"{layer}.diff_b": torch.zeros(WIDTH)}
    save_file(original("A") | norms, tmp_path / "lora.safetensors")
    with pytest.warns(UserWarning, match=r"1 of its tensors \(diffusion_model\.blocks\.0\.norm3\.diff \.\.\.\)"):
        pipe.load_lora_weights(tmp_path / "lora.safetensors")


def test_pefts_own_folder_is_loaded(wan: WanPipeline, pipe: CCLPipeline, tmp_path: Path) -> None:
    """Of a Wan, and of our transformer."""
    base = of_wan(wan.transformer)
    for name, model in (("wan", wan.transformer), ("ours", joint())):
        adapted = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=r".*attn[12]\.to_(q|out\.0)"))
        filled(adapted)
        adapted.save_pretrained(tmp_path / name)
        pipe.load_lora_weights(tmp_path / name, adapter_name=name)
        expected = of_wan(model) if name == "wan" else of_ours(pipe, model)
        same(of_ours(pipe), expected, base)


def trained(folder: Path, **settings: Any) -> tuple[Path, DualStreamTransformer]:
    """The folder that training writes, and the model with its adapters."""
    lora = Lora(rank=2, alpha=3, **settings)
    model = joint()
    add_lora(model, None, lora, seed=0)
    filled(model)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    save_lora(weights, folder / "lora", "a card", lora)
    return folder / "lora", model


@pytest.mark.parametrize("layout", ["diffusers", "original", "musubi"])
def test_ours_of_the_video_stream_is_loaded_by_diffusers(
    wan: WanPipeline, pipe: CCLPipeline, tmp_path: Path, layout: Layout
) -> None:
    targets = ["video"]
    if layout != "musubi":  # which adapts blocks alone
        targets += [r"transformer\.video_stream\.(condition_embedder\.text_embedder\.linear_[12]|proj_out)"]
    folder, model = trained(tmp_path, targets=targets)
    base = of_wan(wan.transformer)
    output = tmp_path / ("theirs" if layout == "diffusers" else "theirs.safetensors")
    convert_lora(folder, layout, output)
    wan.load_lora_weights(output if output.is_dir() else load_file(output))
    same(of_wan(wan.transformer), of_ours(pipe, model), base)
    pipe.load_lora_weights(output)  # and back
    same(of_ours(pipe), of_ours(pipe, model), base)


def test_ours_is_loaded_by_plain_diffusers_and_peft(pipe: CCLPipeline, tmp_path: Path) -> None:
    """Into our class, adapters of both streams and of what joins them."""
    folder, model = trained(tmp_path, targets=["attention", "cross-modal"])
    base = of_ours(pipe)
    plain = joint()
    plain.load_lora_adapter(folder, use_safetensors=True)
    same(of_ours(pipe, plain), of_ours(pipe, model), base)
    convert_lora(folder, "peft", tmp_path / "peft")
    adapted = PeftModel.from_pretrained(joint(), tmp_path / "peft").eval()
    same(of_ours(pipe, adapted.base_model.model), of_ours(pipe, model), base)
    theirs, ours = get_peft_model_state_dict(adapted), load_file(folder / FILE)
    assert {f"base_model.model.{name.removeprefix('transformer.')}" for name in ours} == set(theirs)


def test_what_a_dtype_cannot_hold_is_not_written(tmp_path: Path) -> None:
    save_file(
        {f"blocks.0.self_attn.q.lora_{side}.weight": torch.full((2, 2), 1e5) for side in "AB"},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(UserError, match=r"a\.safetensors, as torch\.float16: the weight .* holds NaN or infinity"):
        convert_lora(tmp_path / "a.safetensors", "ours", tmp_path / "out", torch.float16)
    assert not (tmp_path / "out").exists()
