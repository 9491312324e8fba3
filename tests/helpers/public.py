"""Small random public checkpoints as other libraries save them, and the full ones by name and shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLWan, WanTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2Vocoder
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from ccl.transformer import DualStreamTransformer
from shared.checkpoint.conversion.safetensors_reader import SourceWeights
from shared.checkpoint.wan_names import to_original
from shared.nn.parameter_names import stream_name
from shared.utils.rng import derive, generator

CONFIGS = Path(__file__).parents[2] / "configs/model"
SMALL: dict[str, Any] = {
    "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64,
    "text_dim": 16, "freq_dim": 32,
}  # fmt: skip
#: A model for it, with an audio stream of its own size.
MODEL: dict[str, Any] = {
    "video": SMALL,
    "audio": SMALL | {"in_channels": 5, "num_attention_heads": 3, "attention_head_dim": 12, "time_unit": 0.04},
    "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 3,
}  # fmt: skip
#: And one for a small Ovi: towers of one width, joined at full width.
OVI_MODEL: dict[str, Any] = MODEL | {"audio": SMALL | {"in_channels": 8}, "cca_heads": 2, "cca_head_dim": 24}


def randomise(module: nn.Module) -> None:
    """Random values everywhere: biases and norms too, so that one in the place of another shows."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(0, "test", name)))
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)


def small_wan(**changes: Any) -> WanTransformer3DModel:
    model = WanTransformer3DModel(**(SMALL | {"out_channels": changes.get("in_channels", 4)} | changes)).eval()
    randomise(model)
    return model


def save_small_parts(wan: Path, ltx: Path) -> None:
    """Small random parts of public pipelines, each saved by its own library: `wan` gets vae, text_encoder and
    tokenizer, `ltx` audio_vae and vocoder."""
    video = {"base_dim": 4, "num_res_blocks": 1, "z_dim": 4, "dim_mult": [1, 1, 2, 2]}
    video |= {"latents_mean": [0.1, -0.2, 0.3, 0], "latents_std": [2, 1, 3, 4]}
    audio = {"base_channels": 8, "num_res_blocks": 1, "latent_channels": 2, "mel_bins": 16}
    vocoder = {"in_channels": 32, "hidden_channels": 8, "upsample_factors": [10, 24]}
    vocoder |= {"upsample_kernel_sizes": [20, 48], "resnet_kernel_sizes": [3], "resnet_dilations": [[1]]}
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "real classes"))
        AutoencoderKLWan(**video).save_pretrained(wan / "vae")
        text = UMT5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
        UMT5EncoderModel(text).save_pretrained(wan / "text_encoder")
        AutoencoderKLLTX2Audio(**audio).save_pretrained(ltx / "audio_vae")
        LTX2Vocoder(**vocoder).save_pretrained(ltx / "vocoder")
    words = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    words += [(word, -2.0) for word in ["▁", "▁a", *"abcdefghijklmnopqrstuvwxyz"]]
    T5Tokenizer(vocab=words, extra_ids=0, model_max_length=256).save_pretrained(wan / "tokenizer")


def original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> those of the original layout."""
    return {str(to_original(name)): value for name, value in state.items()}


def ovi_shapes(
    layers: int, width: int, ffn: int, text: int, freq: int, video: int, hidden: int
) -> dict[str, tuple[int, ...]]:
    """The names and shapes of Ovi's fused checkpoint, written out from its description."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    for tower, channels in (("video_model", video), ("audio_model", 20)):
        for n in range(layers):
            block = f"{tower}.blocks.{n}"
            for attention, parts in (
                ("self_attn", "qkvo"),
                ("cross_attn", ("q", "k", "v", "o", "k_fusion", "v_fusion")),
            ):
                for part in parts:
                    linear(f"{block}.{attention}.{part}", width, width)
                for norm in ("norm_q", "norm_k"):
                    shapes[f"{block}.{attention}.{norm}.weight"] = (width,)
            for norm in ("norm3", "cross_attn.pre_attn_norm_fusion"):
                shapes[f"{block}.{norm}.weight"] = shapes[f"{block}.{norm}.bias"] = (width,)
            shapes[f"{block}.cross_attn.norm_k_fusion.weight"] = (width,)
            linear(f"{block}.ffn.0", ffn, width)
            linear(f"{block}.ffn.2", width, ffn)
            shapes[f"{block}.modulation.modulation"] = (1, 6, width)
        linear(f"{tower}.text_embedding.0", width, text)
        linear(f"{tower}.text_embedding.2", width, width)
        linear(f"{tower}.time_embedding.0", width, freq)
        linear(f"{tower}.time_embedding.2", width, width)
        linear(f"{tower}.time_projection.1", 6 * width, width)
        linear(f"{tower}.head.head", channels * (4 if tower == "video_model" else 1), width)
        shapes[f"{tower}.head.modulation"] = (1, 2, width)
    shapes["video_model.patch_embedding.weight"] = (width, video, 1, 2, 2)
    shapes["video_model.patch_embedding.bias"] = (width,)
    shapes["audio_model.patch_embedding.0.weight"] = (width, 20, 7)
    shapes["audio_model.patch_embedding.0.bias"] = (width,)
    for name, out, into in (("w1", hidden, width), ("w2", width, hidden), ("w3", hidden, width)):
        shapes[f"audio_model.patch_embedding.2.{name}.weight"] = (out, into, 7)
    return shapes


def small_ovi() -> dict[str, Tensor]:
    shapes = ovi_shapes(layers=2, width=48, ffn=64, text=16, freq=32, video=4, hidden=24)
    return {name: 0.3 * torch.randn(shape, generator=generator(0, "test", name)) for name, shape in shapes.items()}


def in_memory(tensors: dict[str, Tensor], label: str = "source") -> SourceWeights:
    """Weights that are not on the disk."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return SourceWeights(label, shapes, dict.fromkeys(tensors, "F32"), tensors.__getitem__)


def without_values(shapes: dict[str, tuple[int, ...]]) -> SourceWeights:
    """Weights that are names and shapes only."""
    return SourceWeights("source", shapes, dict.fromkeys(shapes, "BF16"), _nothing)


def _nothing(name: str) -> Tensor:
    raise AssertionError(f"{name} was read")


@cache
def full_size(name: str, **changes: Any) -> DualStreamTransformer:
    """A model of configs/model/ without values."""
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return on_meta(lambda: DualStreamTransformer(**(settings | changes)))


def on_meta(build: Callable[[], Any]) -> Any:
    with torch.device("meta"):
        return build()


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def stream_shapes(model: DualStreamTransformer, stream: str) -> dict[str, tuple[int, ...]]:
    """Those of one stream, by its own names."""
    shapes = shapes_of(model).items()
    return {found[1]: shape for name, shape in shapes if (found := stream_name(name)) and found[0] == stream}
