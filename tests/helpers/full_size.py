"""What recipes of full size read: folders whose weights are names, shapes and a hole in the disk, and shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx2 import LTX2Vocoder
from public import full_size, shapes_of
from transformers import (
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from scripts.encode import main as encode
from scripts.make_puppets import main as make_puppets
from shared.checkpoint.registry import find_component, load_component

VAES: dict[str, dict[str, Any]] = {
    "wan2.1": {"z_dim": 16, "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16},
    "wan2.2": {
        "z_dim": 48, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48, "decoder_base_dim": 8, "is_residual": True,
        "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16,
    },
}  # fmt: skip
STREAM = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16, "text_dim": 4096}


def sparse(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of any size that takes no room: its header is written, its values are a hole."""
    header, offset = dict[str, Any](), 0
    for name, shape in shapes.items():
        end = offset + 2
        for side in shape:
            end = offset + (end - offset) * side
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "diffusion_pytorch_model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


def public_models(folder: Path) -> None:
    """Make wan2.1/ and wan2.2/ with VAE and UMT5, LTX-2/, and a wav2vec2/: the widths are those of full size, all else
    is small."""
    words = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    words += [(word, -2.0) for word in ["▁", "▁a", *"abcdefghijklmnopqrstuvwxyz"]]
    for name, vae in VAES.items():
        sizes = {"base_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 1, 2, 2]}
        AutoencoderKLWan(**sizes, **vae).save_pretrained(folder / name / "vae")
        text = UMT5Config(vocab_size=40, d_model=4096, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
        UMT5EncoderModel(text).save_pretrained(folder / name / "text_encoder")
        T5Tokenizer(vocab=words, extra_ids=0, model_max_length=512).save_pretrained(folder / name / "tokenizer")
    AutoencoderKLLTX2Audio(num_res_blocks=1).save_pretrained(folder / "LTX-2/audio_vae")
    vocoder = {"hidden_channels": 8, "upsample_factors": [10, 24], "upsample_kernel_sizes": [20, 48]}
    LTX2Vocoder(**vocoder, resnet_kernel_sizes=[3], resnet_dilations=[[1]]).save_pretrained(folder / "LTX-2/vocoder")
    speech = Wav2Vec2Config(conv_dim=(8,) * 7, intermediate_size=8)  # 12 layers, 768 wide
    Wav2Vec2Model(speech).save_pretrained(folder / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "wav2vec2")


def checkpoint(path: Path, model: str, parts: dict[str, Any]) -> None:
    """The folder of a model of configs/model/ with codecs and text encoder, as `convert.py` makes it; no values."""
    codecs = {name: parts[f"{name}_codec"].latent_channels for name in ("video", "audio")}
    tiny = {name: STREAM | {"in_channels": channels} for name, channels in codecs.items()}
    transformer = DualStreamTransformer(**tiny, cca_heads=1, cca_head_dim=12, context_tokens=2)
    solvers = (FlowMatchEulerDiscreteScheduler(shift=3.0) for _ in range(2))
    scheduler, audio_scheduler = solvers
    pipe = CCLPipeline(transformer, **parts, scheduler=scheduler, audio_scheduler=audio_scheduler)
    pipe.save_pretrained(path)
    whole = full_size(model)
    shutil.rmtree(path / "transformer")
    whole.save_config(path / "transformer")
    sparse(path / "transformer", shapes_of(whole))


def outputs(root: Path, inits: dict[str, str]) -> None:
    """The checkpoints `inits`, by their folder the name of a model of configs/model/."""
    for place, model in inits.items():
        wan = root / "public" / model.partition("-")[0]
        found = {"video_codec": wan, "audio_codec": root / "public/LTX-2", "text_encoder": wan}
        checkpoint(root / place, model, {name: load_component(find_component(name, at)) for name, at in found.items()})


def shards(root: Path, output: str, vae: str, fps: str, text_dtype: str) -> None:
    """Encode two clips of root/clips at 352x640."""
    wan = str(root / "public" / vae)
    encode([
        "--manifest", str(root / "clips"), "--output", str(root / output), "--video-codec", wan, "--audio-codec",
        str(root / "public/LTX-2"), "--text-encoder", wan, "--text-dtype", text_dtype, "--fps", fps,
        "--size", "352", "640", "--duration", "0.5",
    ])  # fmt: skip


def clips(root: Path) -> None:
    """Make two clips in root/clips, and enough with tracks for all subsets in root/data/demixed."""
    common = ["--seed", "5", "--size", "32", "--workers", "1"]
    make_puppets(["--clips", "2", "--output", str(root / "clips"), *common])
    make_puppets(
        ["--clips", "24", "--level", "full", "--seconds", "4", "--output", str(root / "data/demixed"), *common]
    )


def world(root: Path) -> None:
    """All that the recipes of configs/recipes.yaml read, under `root`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        public_models(root / "public")
        clips(root)
        outputs(root, {
            "outputs/wan_start": "wan2.1-1.3b", "outputs/wan_joint/checkpoint": "wan2.1-1.3b",
            "outputs/wan5b_start": "wan2.2-5b", "outputs/ovi_start": "wan2.2-5b-ovi",
            "outputs/ccl_wan14b_start": "wan2.1-14b", "outputs/ccl_wan14b_joint/checkpoint": "wan2.1-14b",
        })  # fmt: skip
    shards(root, "data/wan_latents", "wan2.1", "16", "fp32")
    shards(root, "data/wan5b_latents", "wan2.2", "24", "fp32")
    shards(root, "data/shards/joint", "wan2.1", "16", "bf16")
    (root / "data/shards/audio").symlink_to(root / "data/shards/joint")
    (root / "models").mkdir()
    for name, at in {"Wan2.1-T2V-14B-Diffusers": "wan2.1", "LTX-2": "LTX-2"}.items():
        (root / "models" / name).symlink_to(root / "public" / at)
    (root / "facebook").mkdir()
    (root / "facebook/wav2vec2-base-960h").symlink_to(root / "public/wav2vec2")
