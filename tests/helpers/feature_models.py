"""Networks of random weights in folders as users have them, tiny, of the real classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
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
