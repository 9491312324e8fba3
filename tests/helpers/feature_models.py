"""Networks of random weights in folders as users have them, tiny, of the real classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    PeAudioFeatureExtractor,
    PeAudioVideoConfig,
    PeAudioVideoModel,
    PeVideoEncoderConfig,
    RobertaTokenizer,
    VideoMAEConfig,
    VideoMAEModel,
    VJEPA2Config,
    VJEPA2Model,
)
from transformers.configuration_utils import SubConfigSpec

from shared.perception.talknet import TalkNet

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def clip_tokens() -> list[str]:
    """A vocabulary of single letters, and the two tokens around a text."""
    letters = [chr(code) for code in range(33, 127)]
    return [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]


def save_clip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    vocabulary = {token: number for number, token in enumerate(clip_tokens())}
    text = TINY | {"vocab_size": len(vocabulary), "max_position_embeddings": 24, "eos_token_id": len(vocabulary) - 1}
    vision = TINY | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder


def save_clap(folder: Path, seed: int = 0) -> Path:
    """CLAP of half a second at 8 kHz."""
    torch.manual_seed(seed)
    audio = {"num_mel_bins": 16, "spec_size": 32, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4}
    audio |= {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16}
    text = TINY | {"vocab_size": 191, "max_position_embeddings": 40}
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=6)
    ClapModel(config).save_pretrained(folder)
    vocabulary = {
        token: number
        for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *clip_tokens()[:94], "Ġ"])
    }
    RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=32).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=8000, hop_length=128, max_length_s=0.5, fft_window_size=256,
        frequency_max=4000, truncation="rand_trunc",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_videomae(folder: Path) -> Path:
    torch.manual_seed(0)
    VideoMAEModel(VideoMAEConfig(image_size=16, patch_size=8, num_frames=4, **TINY)).save_pretrained(folder)
    return folder


def save_talknet(file: Path, seed: int = 0) -> Path:
    """TalkNet as its public file is, with the heads that only its training needs."""
    torch.manual_seed(seed)
    heads = {f"{name}.FC.weight": torch.randn(2, 128) for name in ("lossA", "lossV")}
    heads |= {f"{name}.FC.bias": torch.randn(2) for name in ("lossA", "lossV")}
    save_file(TalkNet().state_dict() | heads, file)
    return file


def save_vjepa2(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"pred_hidden_size": 12, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = VJEPA2Config(
        crop_size=32,
        patch_size=16,
        frames_per_clip=4,
        hidden_size=12,
        num_attention_heads=2,
        num_hidden_layers=1,
        **sizes,
    )
    VJEPA2Model(config).save_pretrained(folder)
    return folder


def save_pe_av(folder: Path, monkeypatch: Any) -> Path:
    """PE-AV whose pictures go through a small ViT of transformers, in the place of timm's network."""
    vision = SubConfigSpec(config_class=AutoConfig, model_type="vit")
    monkeypatch.setitem(PeVideoEncoderConfig.sub_configs_defaults, "vision_config", vision)
    torch.manual_seed(0)
    sizes = TINY | {"head_dim": 8}
    dac = {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 4], "codebook_dim": 8}
    vit = TINY | {"model_type": "vit", "image_size": 16, "patch_size": 8, "num_labels": 8}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = PeAudioVideoConfig(
        text_config=TINY | tokens | {"model_type": "modernbert", "vocab_size": 64},
        audio_video_config=sizes
        | {
            "audio_config": sizes | {"dac_config": dac | {"hidden_size": 16}},
            "video_config": sizes | {"vision_config": vit},
        },
    )
    PeAudioVideoModel(config).save_pretrained(folder)
    PeAudioFeatureExtractor(sampling_rate=8000, hop_length=8).save_pretrained(folder)
    picture = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(picture))
    return folder


#: Scores of the public Audiobox-aesthetics: mean and deviation of each.
TARGETS = {"CE": (5.06865, 1.93029), "CU": (5.73633, 1.75669), "PC": (3.18591, 1.86637), "PQ": (6.57505, 1.51466)}


def aesthetics_shapes(
    layers: int, width: int, heads: int, inner: int, channels: int, buckets: int, reach: int, groups: int, depth: int
) -> dict[str, list[int]]:
    """Names and shapes of the public file of Audiobox-aesthetics, for an encoder of these sizes."""
    shapes = {"mask_emb": [width], "post_extract_proj.weight": [width, channels], "post_extract_proj.bias": [width]}
    for number, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shapes[f"feature_extractor.conv_layers.{number}.0.weight"] = [channels, channels if number else 1, kernel]
    norms = {"feature_extractor.conv_layers.0.2": channels, "layer_norm": channels, "encoder.layer_norm": width}
    shapes |= {f"encoder.pos_conv.0.weight_{letter}": size for letter, size in (
        ("g", [1, 1, reach]), ("v", [width, width // groups, reach]))}  # fmt: skip
    shapes["encoder.pos_conv.0.bias"] = [width]
    for number in range(layers):
        layer = f"encoder.layers.{number}"
        linears = {f"self_attn.{name}_proj": (width, width) for name in ("k", "v", "q", "out")}
        linears |= {"self_attn.grep_linear": (8, width // heads), "fc1": (inner, width), "fc2": (width, inner)}
        for name, (rows, columns) in linears.items():
            shapes |= {f"{layer}.{name}.weight": [rows, columns], f"{layer}.{name}.bias": [rows]}
        shapes[f"{layer}.self_attn.grep_a"] = [1, heads, 1, 1]
        norms |= {f"{layer}.self_attn_layer_norm": width, f"{layer}.final_layer_norm": width}
    shapes["encoder.layers.0.self_attn.relative_attention_bias.weight"] = [buckets, heads]
    shapes |= {f"{name}.{part}": [size] for name, size in norms.items() for part in ("weight", "bias")}
    shapes = {f"wavlm_model.{name}": shape for name, shape in shapes.items()}
    for axis in TARGETS:
        shapes[f"layer_weights.{axis}"] = [layers + 1]
        for number in range(depth):
            rows = 1 if number == depth - 1 else width
            head = f"proj_layer.{axis}.{3 * number}"
            shapes |= {f"{head}.weight": [rows, width], f"{head}.bias": [rows]}
            if rows == width:
                norm = f"proj_layer.{axis}.{3 * number + 1}"
                shapes |= {f"{norm}.weight": [width], f"{norm}.bias": [width]}
    return shapes


def save_aesthetics(folder: Path, seed: int = 0) -> Path:
    """Audiobox-aesthetics of two layers, 8 wide, in the public names."""
    random = torch.Generator().manual_seed(seed)
    shapes = aesthetics_shapes(2, 8, 2, 12, 6, 8, 6, 2, 3)
    weights = {name: 0.5 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    targets = {axis: {"mean": mean, "std": std} for axis, (mean, std) in TARGETS.items()}
    config = {"nth_layer": 3, "proj_num_layer": 3, "proj_ln": True, "proj_act_fn": "gelu", "proj_dropout": 0.0}
    config |= {"use_weighted_layer_sum": True, "normalize_embed": True, "output_dim": 1, "precision": "32"}
    (folder / "config.json").write_text(json.dumps(config | {"freeze_encoder": True, "target_transform": targets}))
    return folder
